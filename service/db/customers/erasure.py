"""Erase a person: no personal data stays, and old events cannot bring the person back.

The orders stay, without a person. A salted hash of each e-mail stays, with the time of the erasure:
an order placed before that time does not name anybody by that e-mail, however often its events
arrive. Segment changes stay, too: their customer id leads nowhere, and analytics has already
consumed them.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.customers.personal_data import dead_letters_about


def email_hash(email_key: str) -> str:
    """Return SQL for the salted hash by which an erased e-mail is recognised."""
    return f"sha256((SELECT salt FROM installation) || convert_to({email_key}, 'UTF8'))"


# A publisher's clock may be ahead of ours. Orders dated in the future are erased as well, so the
# time that is stored is the latest of their dates, if that is later than now.
_REMEMBER = text(f"""
INSERT INTO erased (email_hash, erased_at)
SELECT {email_hash("email_key")}, GREATEST(clock_timestamp(), (
  SELECT max(date_created) FROM orders WHERE customer_id = :id))
FROM (SELECT DISTINCT unnest(CAST(:email_keys AS text[])) AS email_key) theirs
ON CONFLICT (email_hash) DO UPDATE SET erased_at = excluded.erased_at
RETURNING encode(email_hash, 'hex') AS email_hash, CAST(erased_at AS text) AS at
""")
_ORDERS = text("UPDATE orders SET customer_id = NULL, erased = true WHERE customer_id = :id")
_INTERACTIONS = text("DELETE FROM interactions WHERE customer_id = :id")
_EDITS = text("UPDATE audit SET details = '{}' WHERE customer_id = :id")
_DEAD_LETTERS = text("""
UPDATE dead_letters SET field_names = '{}', field_values = '{}',
  stored = CASE WHEN size IS NOT NULL THEN 0 END,
  whole_digest = NULL, identifiers = '{}', hints = '{}', error = 'erased with the person it named'
WHERE id = ANY(:ids)
""")
_EXTENT = text("""
SELECT (SELECT count(*) FROM orders WHERE customer_id = :id) AS orders,
  (SELECT count(*) FROM interactions WHERE customer_id = :id) AS interactions,
  (SELECT count(*) FROM audit WHERE customer_id = :id) AS edits
""")


class Extent(NamedTuple):
    """How much is stored about a person outside their row in ``customers``."""

    orders: int
    """They stay, without a person."""
    interactions: int
    edits: int
    """The audit keeps that there were edits, but not what was changed."""
    dead_letters: int


async def extent(
    connection: AsyncConnection, customer_id: int, email_keys: Sequence[str]
) -> Extent:
    """Count what `erase` would change."""
    counted = (await connection.execute(_EXTENT, {"id": customer_id})).mappings().one()
    letters = await dead_letters_about(connection, customer_id, email_keys)
    return Extent(**counted, dead_letters=len(letters))


async def erase(
    connection: AsyncConnection, customer_id: int, email_keys: Sequence[str]
) -> dict[str, str]:
    """Erase what is stored about a person outside their row in ``customers``; the caller commits.

    ``email_keys`` are all e-mails that mean this person. From now on, none of them names anybody in
    an order that was placed before. Return the hashes by which they are recognised, for the audit:
    if the table of the erased is damaged, it can be filled again from there.
    """
    letters = await dead_letters_about(connection, customer_id, email_keys)
    await connection.execute(_DEAD_LETTERS, {"ids": [letter.id for letter in letters]})
    remembered = await connection.execute(_REMEMBER, {"id": customer_id, "email_keys": email_keys})
    hashes = {row.email_hash: row.at for row in remembered}
    for statement in (_ORDERS, _INTERACTIONS, _EDITS):
        await connection.execute(statement, {"id": customer_id})
    return hashes
