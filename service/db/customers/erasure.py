"""Erasing a person: nothing personal stays, and a replay of old events cannot bring them back.

The orders stay, without a person. So does a salted hash of the e-mail with the moment of erasure:
orders placed until then name nobody by that e-mail, whenever their events come again. Segment
changes stay, too: they hold an id that leads nowhere, and analytics has consumed them.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.customers.personal_data import NAMING_THEM, traces


def email_hash(email_key: str) -> str:
    """Write the SQL of the salted hash by which an erased e-mail is recognised."""
    return f"sha256((SELECT salt FROM installation) || convert_to({email_key}, 'UTF8'))"


# A publisher's clock may run ahead: what it has told of was placed until then.
_REMEMBER = text(f"""
INSERT INTO erased (email_hash, erased_at)
SELECT {email_hash("email_key")}, GREATEST(clock_timestamp(), (
  SELECT max(date_created) FROM orders WHERE customer_id = :id))
FROM (SELECT DISTINCT unnest(CAST(:email_keys AS text[])) AS email_key) theirs
ON CONFLICT (email_hash) DO UPDATE SET erased_at = excluded.erased_at
""")
_ORDERS = text("UPDATE orders SET customer_id = NULL, erased = true WHERE customer_id = :id")
_INTERACTIONS = text("DELETE FROM interactions WHERE customer_id = :id")
_EDITS = text("UPDATE audit SET details = '{}' WHERE customer_id = :id")
_DEAD_LETTERS = text(f"""
UPDATE dead_letters SET field_names = '{{}}', field_values = '{{}}',
  error = 'erased with the person it named'
WHERE {NAMING_THEM}
""")
_EXTENT = text(f"""
SELECT (SELECT count(*) FROM orders WHERE customer_id = :id) AS orders,
  (SELECT count(*) FROM interactions WHERE customer_id = :id) AS interactions,
  (SELECT count(*) FROM audit WHERE customer_id = :id) AS edits,
  (SELECT count(*) FROM dead_letters WHERE {NAMING_THEM}) AS dead_letters
""")


class Extent(NamedTuple):
    """How much there is about a person beside their row in ``customers``."""

    orders: int
    """These stay, nameless."""
    interactions: int
    edits: int
    """That there were any stays, not what they said."""
    dead_letters: int


async def extent(
    connection: AsyncConnection, customer_id: int, email_keys: Sequence[str]
) -> Extent:
    """Count what `erase` would remove."""
    parameters = {"id": customer_id, "traces": traces(customer_id, email_keys)}
    return Extent(**(await connection.execute(_EXTENT, parameters)).mappings().one())


async def erase(connection: AsyncConnection, customer_id: int, email_keys: Sequence[str]) -> None:
    """Remove what is known of a person beside their row in ``customers``; the caller commits.

    ``email_keys`` are all that mean them: orders placed until now name nobody by any of these.
    """
    await connection.execute(_REMEMBER, {"id": customer_id, "email_keys": email_keys})
    for statement in (_ORDERS, _INTERACTIONS, _EDITS):
        await connection.execute(statement, {"id": customer_id})
    await connection.execute(_DEAD_LETTERS, {"traces": traces(customer_id, email_keys)})
