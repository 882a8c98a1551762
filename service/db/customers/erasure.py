"""Erase a person: no personal data stays, and old events cannot bring the person back.

The orders stay, without a person. If an id of theirs holds an e-mail, a phone or the name, a
pseudonym takes its place. A salted hash of each identifier stays, with the time of the erasure: an
order placed before that time does not name anybody by that identifier, however often its events
arrive. Segment changes stay, too: their customer id leads nowhere, and analytics has already
consumed them.

Customers who were merged into the person are the person. So what was done under their numbers is
erased as well, and so is what merges and splits of others kept of the person's profile.

The entries of the streams are deleted later, by `service.db.operations.stream_erasure`. Texts of
others that mention the person are for people to read: see `service.db.customers.mentions`.
"""

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.customer_ids import customer_ref
from service.core.json_values import dumps
from service.core.personal_ids import (
    LIKE_AN_EMAIL,
    Identifiers,
    holds_any,
    looks_personal,
    pseudonym,
)
from service.db import installation
from service.db.columns import pack, unpack
from service.db.customers.erasure_keys import identifier_hash
from service.db.customers.identity import pairs
from service.db.customers.own_fields.values import forget_fields
from service.db.customers.personal_data import dead_letters_about
from service.db.customers.tags.tagging import forget_tags

# A publisher's clock may be ahead of ours. Orders dated in the future are erased as well, so the
# time that is stored is the latest of their dates, if that is later than now.
_REMEMBER = text(f"""
INSERT INTO erased (email_hash, erased_at)
SELECT {identifier_hash("identifier")}, GREATEST(clock_timestamp(), (
  SELECT max(date_created) FROM orders WHERE customer_id = :id))
FROM (SELECT DISTINCT unnest(CAST(:keys AS text[])) AS identifier) theirs
ON CONFLICT (email_hash) DO UPDATE SET erased_at = excluded.erased_at
RETURNING encode(email_hash, 'hex') AS email_hash, CAST(erased_at AS text) AS at
""")
_REMEMBER_UNKNOWN = text(f"""
INSERT INTO erased (email_hash, erased_at)
SELECT {identifier_hash("identifier")}, clock_timestamp()
FROM (SELECT DISTINCT unnest(CAST(:keys AS text[])) AS identifier) theirs
WHERE NOT EXISTS (SELECT FROM identifiers i WHERE i.identifier = theirs.identifier)
ON CONFLICT DO NOTHING
RETURNING encode(email_hash, 'hex') AS email_hash, CAST(erased_at AS text) AS at
""")
# The ids of their orders, and of others' orders whose ids are made of their e-mails.
_IDS = text(f"""
SELECT id, event_id, named_event_id FROM orders WHERE customer_id = :id
UNION ALL
SELECT id, event_id, named_event_id FROM orders
WHERE id ~ '{LIKE_AN_EMAIL}' AND customer_id IS DISTINCT FROM :id
  AND lower(normalize(id, NFC)) LIKE ANY(CAST(:patterns AS text[]))
""")
_ORDERS = text("""
UPDATE orders SET customer_id = NULL, erased = true, identifier = NULL, other_identifier = NULL
WHERE customer_id = :id
""")
# Orders of others have an identifier of the person beside their own only if an event put the two
# together. Then they are a pair, or there were pairs that led from one to the other.
_PAIRED = text("""
WITH RECURSIVE pairs AS (
  SELECT CAST(:id AS bigint) AS id
  UNION
  SELECT p.low + p.high - pairs.id FROM pairs CROSS JOIN LATERAL (
    SELECT low, high FROM pending_merges WHERE pairs.id IN (low, high)
    UNION ALL SELECT low, high FROM separations WHERE pairs.id IN (low, high)
  ) p
)
SELECT id FROM pairs ORDER BY id
""")
_MENTIONS = text("""
UPDATE orders SET other_identifier = NULL,
  identifier = CASE WHEN identifier <> ALL(:keys) THEN identifier
                    WHEN other_identifier <> ALL(:keys) THEN other_identifier END
WHERE customer_id = ANY(:paired) AND (identifier = ANY(:keys) OR other_identifier = ANY(:keys))
""")
_IDENTIFIERS = text("DELETE FROM identifiers WHERE customer_id = :id")
_REPLACE_IDS = text(f"""
UPDATE orders o SET id = n.new_id, event_id = n.event_id, named_event_id = n.named_event_id
FROM ({unpack({"id": "text", "new_id": "text", "event_id": "text", "named_event_id": "text"})}) n
WHERE o.id = n.id
""")
# Events that contradict the state of these orders have ids, too.
_CONFLICTS = text("""
SELECT c.order_id, c.event_id FROM order_conflicts c JOIN orders o ON o.id = c.order_id
WHERE o.customer_id = :id OR o.id = ANY(:changed)
""")
_REPLACE_CONFLICTS = text(f"""
UPDATE order_conflicts c SET event_id = n.new_id
FROM ({unpack({"order_id": "text", "event_id": "text", "new_id": "text"})}) n
WHERE (c.order_id, c.event_id) = (n.order_id, n.event_id)
""")
_LETTERS_OF_ORDERS = text("""
UPDATE dead_letters SET order_id = '', order_version = NULL, order_changed_at = NULL
WHERE order_id <> '' AND order_id = ANY(:ids)
""")
_INTERACTIONS = text("DELETE FROM interactions WHERE customer_id = :id")
_EDITS = text("""
UPDATE audit SET details = '{}' WHERE customer_id = ANY(:numbers) AND details <> '{}'
""")
_KEEPS_PEOPLE = (
    "'{customer.merged,customer.split,identifier.marked,identifier.unmarked,order.assigned}'"
)
# Merges and splits of others keep profiles and identifiers. Those of the person are removed. They
# stand under the number of whoever the person was split from, or of no customer. A name or a
# phone, which several people may have, tells whose a profile is only in the first case.
_KEPT_ELSEWHERE = text(f"""
WITH RECURSIVE related AS (
  SELECT unnest(CAST(:numbers AS bigint[])) AS number
  UNION
  SELECT n.number FROM related r CROSS JOIN LATERAL (
    SELECT customer_id AS number FROM audit
    WHERE action = 'customer.split' AND details ->> 'other' = 'CUST-' || r.number
      AND details <> '{{}}' AND lower(details::text) LIKE '%"other": "cust-' || r.number || '"%'
    UNION ALL
    SELECT CAST(substr(details ->> 'other', 6) AS bigint) FROM audit
    WHERE customer_id = r.number AND action = 'customer.merged' AND details ? 'other'
  ) n
),
kept AS (
  SELECT id, details, true AS related FROM audit
  WHERE customer_id IN (SELECT number FROM related) AND details <> '{{}}'
    AND action = ANY({_KEEPS_PEOPLE})
  UNION
  SELECT id, details, false FROM audit
  WHERE lower(details::text) LIKE ANY(CAST(:written AS text[])) AND details <> '{{}}'
    AND action = ANY({_KEEPS_PEOPLE})
),
cut AS (
  SELECT id, array_agg(part.key) AS parts
  FROM kept CROSS JOIN LATERAL jsonb_each(details) AS part (key, value)
  WHERE part.key <> 'other' AND (
    lower(part.value::text) LIKE ANY(CAST(:written AS text[]))
    OR related AND lower(part.value::text) LIKE ANY(CAST(:shared AS text[]))
    OR part.key = 'gone' AND lower(details ->> 'other') = ANY(CAST(:refs AS text[])))
  GROUP BY id
)
UPDATE audit a SET details = a.details - cut.parts FROM cut WHERE a.id = cut.id
""")
_DEAD_LETTERS = text("""
UPDATE dead_letters SET field_names = '{}', field_values = '{}',
  stored = CASE WHEN size IS NOT NULL THEN 0 END,
  whole_digest = NULL, identifiers = '{}', hints = '{}', error = 'erased with the person it named',
  order_id = '', order_version = NULL, order_changed_at = NULL
WHERE id = ANY(:ids)
""")
_EXTENT = text("""
SELECT (SELECT count(*) FROM orders WHERE customer_id = :id) AS orders,
  (SELECT count(*) FROM interactions WHERE customer_id = :id) AS interactions,
  (SELECT count(*) FROM audit WHERE customer_id = ANY(:numbers) AND details <> '{}') AS edits
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
    """The hashes by which the identifiers are recognised, and when they were erased, for the audit:
    a damaged table of the erased can be filled again from there."""


async def extent(connection: AsyncConnection, customer_id: int, identifiers: Identifiers) -> Extent:
    """Count what `erase` would change."""
    found = await _personal_ids(connection, customer_id, identifiers)
    letters = await dead_letters_about(connection, customer_id, identifiers)
    return await _extent(
        connection, customer_id, identifiers, _ids_that_change(found), len(letters)
    )


async def paired(connection: AsyncConnection, customer_id: int) -> list[int]:
    """Return the customers whose orders may mention this one, and this one. Lock them first."""
    return list((await connection.execute(_PAIRED, {"id": customer_id})).scalars())


async def erase(connection: AsyncConnection, customer_id: int, identifiers: Identifiers) -> Erasure:
    """Erase what is stored about a person outside their row in ``customers``; the caller commits.

    From now on, none of their identifiers names anybody in an order that was placed before.
    """
    found = await _personal_ids(connection, customer_id, identifiers)
    letters = await dead_letters_about(connection, customer_id, identifiers)
    erased = await _extent(
        connection, customer_id, identifiers, _ids_that_change(found), len(letters)
    )
    await connection.execute(_DEAD_LETTERS, {"ids": [letter.id for letter in letters]})
    changed = [ids.id for ids in found]
    await connection.execute(_LETTERS_OF_ORDERS, {"ids": changed})
    await _replace_in_conflicts(connection, customer_id, identifiers, changed)
    of_person = {"id": customer_id, "keys": identifiers.keys}
    remembered = await connection.execute(_REMEMBER, of_person)
    hashes = {row.email_hash: row.at for row in remembered}
    others = await paired(connection, customer_id)
    await connection.execute(_MENTIONS, {"keys": identifiers.keys, "paired": others})
    for statement in (_ORDERS, _INTERACTIONS, _IDENTIFIERS):
        await connection.execute(statement, {"id": customer_id})
    await forget_tags(connection, customer_id)
    await forget_fields(connection, customer_id)
    await pairs.forget(connection, customer_id)
    await _erase_from_audit(connection, identifiers)
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


async def _replace_in_conflicts(
    connection: AsyncConnection, customer_id: int, identifiers: Identifiers, changed: Sequence[str]
) -> None:
    """Replace the ids of events that contradict their orders' states, as those of the states."""
    rows = await connection.execute(_CONFLICTS, {"id": customer_id, "changed": changed})
    salt = await installation.secret(connection)
    after = [(*row, _impersonal_event(row.event_id, identifiers, salt)) for row in rows]
    await connection.execute(
        _REPLACE_CONFLICTS,
        pack(
            {
                "order_id": [order_id for order_id, _, _ in after],
                "event_id": [event_id for _, event_id, _ in after],
                "new_id": [new_id for _, _, new_id in after],
            }
        ),
    )


async def _erase_from_audit(connection: AsyncConnection, identifiers: Identifiers) -> None:
    await connection.execute(
        _KEPT_ELSEWHERE,
        {
            "numbers": identifiers.customers,
            "refs": [customer_ref(number).lower() for number in identifiers.customers],
            "written": _as_values([*identifiers.keys, *identifiers.emails]),
            "shared": _as_values([*identifiers.phones, *identifiers.names]),
        },
    )
    await connection.execute(_EDITS, {"numbers": identifiers.customers})


def _as_values(texts: Sequence[str]) -> list[str]:
    """Return patterns of LIKE for JSON in lower case that has one of these texts as a value."""
    return [f"%{_like(dumps(each).decode().lower())}%" for each in texts]


async def remember(connection: AsyncConnection, keys: Sequence[str]) -> dict[str, str]:
    """Remember identifiers that mean nobody here as those of an erased person; the caller commits.

    Return the hashes of those that were not known as such, for the audit, as `Erasure` has them.
    An order that waits in a stream does not bring the person back.
    """
    rows = await connection.execute(_REMEMBER_UNKNOWN, {"keys": keys})
    return {row.email_hash: row.at for row in rows}


async def count(connection: AsyncConnection, replaced: int) -> None:
    """Count an erasure and the ids that it replaced; the streams are searched from now on.

    Call it last, because every erasure locks the same row.
    """
    await connection.execute(_COUNT, {"replaced": replaced})


async def _extent(
    connection: AsyncConnection,
    customer_id: int,
    identifiers: Identifiers,
    order_ids: int,
    dead_letters: int,
) -> Extent:
    parameters = {"id": customer_id, "numbers": identifiers.customers}
    row = (await connection.execute(_EXTENT, parameters)).one()
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
    patterns = [
        f"%{_like(written)}%"
        for email in identifiers.emails
        for written in {email, quote(email).lower()}
    ]
    rows = await connection.execute(_IDS, {"id": customer_id, "patterns": patterns})
    found = dict[_OrderIds, _OrderIds]()
    for row in rows:
        before = _OrderIds(*row)
        after = _OrderIds(
            _impersonal(before.id, identifiers, salt),
            _impersonal_event(before.event_id, identifiers, salt),
            before.named_event_id and _impersonal_event(before.named_event_id, identifiers, salt),
        )
        if after != before:
            found[before] = after
    return found


def _impersonal(id_: str, identifiers: Identifiers, salt: bytes) -> str:
    """Return an id, or its pseudonym if it holds an identifier of the person."""
    return pseudonym(id_, salt) if holds_any(id_, identifiers) else id_


def _impersonal_event(id_: str, identifiers: Identifiers, salt: bytes) -> str:
    """Return the same for an event's id, which gets one even if it only looks like an e-mail."""
    return pseudonym(id_, salt) if looks_personal(id_) else _impersonal(id_, identifiers, salt)


def _like(written: str) -> str:
    """Return a text as a pattern of LIKE that matches only itself."""
    return written.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
