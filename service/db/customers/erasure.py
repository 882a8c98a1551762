"""Erase a person: no personal data stays, and old events cannot bring the person back.

The orders stay, without a person. If an id of theirs holds an e-mail, a phone or the name, a
pseudonym takes its place. A salted hash of each e-mail stays, with the time of the erasure: an
order placed before that time does not name anybody by that e-mail, however often its events arrive.
Segment changes stay, too: their customer id leads nowhere, and analytics has already consumed them.

The entries of the streams are deleted later, by `service.db.operations.stream_erasure`. Texts of
others that mention the person are for people to read: see `service.db.customers.mentions`.
"""

from typing import NamedTuple
from urllib.parse import quote

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.personal_ids import (
    LIKE_AN_EMAIL,
    Identifiers,
    holds_any,
    looks_personal,
    pseudonym,
)
from service.db import installation
from service.db.columns import pack, unpack
from service.db.customers.erasure_keys import email_hash
from service.db.customers.personal_data import dead_letters_about

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
# The ids of their orders, and of others' orders whose ids are made of their e-mails.
_IDS = text(f"""
SELECT id, event_id, named_event_id FROM orders WHERE customer_id = :id
UNION ALL
SELECT id, event_id, named_event_id FROM orders
WHERE id ~ '{LIKE_AN_EMAIL}' AND customer_id IS DISTINCT FROM :id
  AND lower(id) LIKE ANY(CAST(:patterns AS text[]))
""")
_ORDERS = text("UPDATE orders SET customer_id = NULL, erased = true WHERE customer_id = :id")
_REPLACE_IDS = text(f"""
UPDATE orders o SET id = n.new_id, event_id = n.event_id, named_event_id = n.named_event_id
FROM ({unpack({"id": "text", "new_id": "text", "event_id": "text", "named_event_id": "text"})}) n
WHERE o.id = n.id
""")
_INTERACTIONS = text("DELETE FROM interactions WHERE customer_id = :id")
_EDITS = text("UPDATE audit SET details = '{}' WHERE customer_id = :id AND details <> '{}'")
_DEAD_LETTERS = text("""
UPDATE dead_letters SET field_names = '{}', field_values = '{}',
  stored = CASE WHEN size IS NOT NULL THEN 0 END,
  whole_digest = NULL, identifiers = '{}', hints = '{}', error = 'erased with the person it named'
WHERE id = ANY(:ids)
""")
_EXTENT = text("""
SELECT (SELECT count(*) FROM orders WHERE customer_id = :id) AS orders,
  (SELECT count(*) FROM interactions WHERE customer_id = :id) AS interactions,
  (SELECT count(*) FROM audit WHERE customer_id = :id AND details <> '{}') AS edits
""")
_COUNT = text("""
UPDATE installation SET erasures = erasures + 1, ids_replaced = ids_replaced + :replaced
""")


class Extent(NamedTuple):
    """How much is stored about a person outside their row in ``customers``."""

    orders: int
    """They stay, without a person."""
    order_ids: int
    """Ids of orders that hold an e-mail, a phone or the name. They become pseudonyms."""
    interactions: int
    edits: int
    """The audit keeps that there were edits, but not what was changed."""
    dead_letters: int


class _OrderIds(NamedTuple):
    """The ids of an order, before an erasure or after it."""

    id: str
    event_id: str
    named_event_id: str | None


class Erasure(NamedTuple):
    """What an erasure did."""

    extent: Extent
    ids_replaced: int
    """For `count`."""
    hashes: dict[str, str]
    """The hashes by which the e-mails are recognised, and when they were erased, for the audit: a
    damaged table of the erased can be filled again from there."""


async def extent(connection: AsyncConnection, customer_id: int, identifiers: Identifiers) -> Extent:
    """Count what `erase` would change."""
    found = await _personal_ids(connection, customer_id, identifiers)
    letters = await dead_letters_about(connection, customer_id, identifiers)
    return await _extent(connection, customer_id, _ids_that_change(found), len(letters))


async def erase(connection: AsyncConnection, customer_id: int, identifiers: Identifiers) -> Erasure:
    """Erase what is stored about a person outside their row in ``customers``; the caller commits.

    From now on, none of their e-mails names anybody in an order that was placed before.
    """
    found = await _personal_ids(connection, customer_id, identifiers)
    email_keys = identifiers.email_keys
    letters = await dead_letters_about(connection, customer_id, identifiers)
    erased = await _extent(connection, customer_id, _ids_that_change(found), len(letters))
    await connection.execute(_DEAD_LETTERS, {"ids": [letter.id for letter in letters]})
    remembered = await connection.execute(_REMEMBER, {"id": customer_id, "email_keys": email_keys})
    hashes = {row.email_hash: row.at for row in remembered}
    for statement in (_ORDERS, _INTERACTIONS, _EDITS):
        await connection.execute(statement, {"id": customer_id})
    if found:
        before, after = list(found), list(found.values())
        await connection.execute(
            _REPLACE_IDS,
            pack(
                {
                    "id": [ids.id for ids in before],
                    "new_id": [ids.id for ids in after],
                    "event_id": [ids.event_id for ids in after],
                    "named_event_id": [ids.named_event_id for ids in after],
                }
            ),
        )
    return Erasure(erased, len(found), hashes)


async def count(connection: AsyncConnection, replaced: int) -> None:
    """Count an erasure and the ids that it replaced; the streams are searched from now on.

    Call it last, because every erasure locks the same row.
    """
    await connection.execute(_COUNT, {"replaced": replaced})


async def _extent(
    connection: AsyncConnection, customer_id: int, order_ids: int, dead_letters: int
) -> Extent:
    row = (await connection.execute(_EXTENT, {"id": customer_id})).one()
    return Extent(row.orders, order_ids, row.interactions, row.edits, dead_letters)


def _ids_that_change(found: dict[_OrderIds, _OrderIds]) -> int:
    return sum(before.id != after.id for before, after in found.items())


async def _personal_ids(
    connection: AsyncConnection, customer_id: int, identifiers: Identifiers
) -> dict[_OrderIds, _OrderIds]:
    """Return the ids of the orders that hold an identifier of the person, and what replaces them.

    An event id is replaced, too, if it only looks like an e-mail. `erased_orders` does the same to
    events that arrive later.
    """
    salt = await installation.secret(connection)

    def replaced(id_: str | None, *, cautiously: bool) -> str | None:
        if id_ is None or not (holds_any(id_, identifiers) or (cautiously and looks_personal(id_))):
            return id_
        return pseudonym(id_, salt)

    patterns = [
        f"%{_like(written)}%"
        for email in identifiers.email_keys
        for written in {email, quote(email).lower()}
    ]
    rows = await connection.execute(_IDS, {"id": customer_id, "patterns": patterns})
    found = dict[_OrderIds, _OrderIds]()
    for row in rows:
        before = _OrderIds(*row)
        after = _OrderIds(
            replaced(before.id, cautiously=False) or "",
            replaced(before.event_id, cautiously=True) or "",
            replaced(before.named_event_id, cautiously=True),
        )
        if after != before:
            found[before] = after
    return found


def _like(written: str) -> str:
    """Return a text as a pattern of LIKE that matches only itself."""
    return written.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
