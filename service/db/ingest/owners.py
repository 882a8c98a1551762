"""Find the customers whom a batch names, and lock everybody concerned.

Identifiers that nobody has yet are inserted here; the rows of their customers are inserted filled,
with the orders.

Identifiers are written in their own order and customers are locked in the order of their ids. Every
writer does the same, so that writers cannot deadlock.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core import identity
from service.core.identifiers import (
    IdentifierKind,
    email_identifier,
    email_spellings,
    kind_of,
    value_of,
)
from service.core.identity import Known, Naming, NewIdentifier
from service.core.order_event import OrderEvent
from service.db.columns import pack, unpack, unpack_numbered
from service.db.customers.erasure_keys import identifier_hash, pseudonym_sql
from service.db.customers.identity.pairs import put_together


class OwnerChangedError(Exception):
    """An order or identifier went to another customer while we waited for locks.

    The transaction must run again from the start.
    """


_OURS = f"{IdentifierKind.CUSTOMER}:"
_ASCII_DOMAIN = "xn--"
"""What domains with letters beyond ASCII contain."""

_NAMED = f"""
named AS MATERIALIZED (
  SELECT n.place, i.customer_id FROM {unpack_numbered("identifier")} CROSS JOIN LATERAL (
    SELECT customer_id FROM identifiers WHERE identifier = n.identifier OFFSET 0) i
)"""


def _aligned(relation: str, *columns: str) -> str:
    """Return columns as arrays, side by side: one row is read faster than a thousand rows."""
    return ", ".join(
        f"(SELECT array_agg({column}) FROM {relation}) AS {relation}_{column}" for column in columns
    )


_EXISTING = text("SELECT id FROM customers WHERE id = ANY(:numbers)")
_SIZES = text("""
SELECT customer_id, count(*) AS identifiers FROM identifiers
WHERE customer_id = ANY(:ids) GROUP BY customer_id
""")

_NEW_COLUMNS = {"identifier": "text", "new_customer": "integer", "customer": "bigint"}
# Two transactions may create the same identifier: the second one waits, and finds it taken.
_CREATE = text(f"""
WITH named AS (
  {unpack(_NEW_COLUMNS)}
),
fresh AS MATERIALIZED (
  SELECT new_customer, nextval('customers_id_seq') AS id
  FROM (SELECT DISTINCT new_customer FROM named WHERE customer IS NULL ORDER BY 1) numbered
),
created AS (
  INSERT INTO identifiers (identifier, customer_id)
  SELECT identifier, coalesce(customer, id) FROM named LEFT JOIN fresh USING (new_customer)
  ORDER BY identifier COLLATE "C"
  ON CONFLICT (identifier) DO NOTHING RETURNING identifier, customer_id
)
SELECT {_aligned("created", "identifier", "customer_id")}
""")

# Finds whom the identifiers of a batch mean. If all that are `wanted` are known, it locks the
# customers whom the batch names and those whose orders it touches. Otherwise identifiers are
# inserted first. The clock is read after the last lock. While nobody was erased, nobody looks
# for erasures, and while no id was replaced by a pseudonym, nobody looks for pseudonyms.
_LOCK = text(f"""
WITH {_NAMED},
known AS MATERIALIZED (
  SELECT coalesce(count(*) FILTER (WHERE place <= CAST(:wanted AS bigint)) = :wanted, true)
    AS enough
  FROM named
),
erasures AS MATERIALIZED (
  SELECT n.place, e.erased_at FROM {unpack_numbered("identifier")}
  JOIN erased e ON e.email_hash = {identifier_hash("n.identifier")}
  WHERE EXISTS (SELECT FROM erased)
),
stored AS MATERIALIZED (
  SELECT o.customer_id, o.erased FROM ({unpack({"order_id": "text"})}) n CROSS JOIN LATERAL (
    SELECT customer_id, erased FROM orders WHERE id = n.order_id OFFSET 0) o
  WHERE (SELECT enough FROM known)
  UNION ALL
  SELECT o.customer_id, true FROM ({unpack({"order_id": "text"})}) n CROSS JOIN LATERAL (
    SELECT customer_id FROM orders WHERE id = {pseudonym_sql("n.order_id")} OFFSET 0) o
  WHERE (SELECT enough FROM known) AND (SELECT ids_replaced FROM installation) > 0
),
concerned AS MATERIALIZED (
  SELECT customer_id AS id FROM named
  UNION SELECT id FROM ({unpack({"id": "bigint"})}) i
  UNION SELECT customer_id FROM stored
),
locked AS MATERIALIZED (
  SELECT c.id FROM (
    SELECT id FROM concerned WHERE (SELECT enough FROM known) ORDER BY id
  ) k
  CROSS JOIN LATERAL (SELECT id FROM customers WHERE id = k.id FOR NO KEY UPDATE) c
)
SELECT l.ids AS locked, enough, {_aligned("named", "place", "customer_id")},
  {_aligned("erasures", "place", "erased_at")},
  clock_timestamp() AS locked_at,
  ids_replaced, reassignments, salt, EXISTS (SELECT FROM stored WHERE erased) AS touches_erased
FROM (SELECT array_agg(id) AS ids FROM locked) l CROSS JOIN known CROSS JOIN installation
""")


class NewCustomer(NamedTuple):
    """A customer whose identifiers the batch has inserted, and whose row it has yet to insert."""

    id: int
    email: str | None
    """The e-mail of their identifiers. If they have several, `apply` decides."""
    earliest: datetime
    """The earliest date of the orders that named them."""


@dataclass(frozen=True)
class Owners:
    """The customers whom the events of a batch name. Everybody concerned is locked."""

    namings: Sequence[Naming]
    """Whom each event names, in the order of the events."""
    locked: frozenset[int]
    """The existing customers whom the batch names, and those whose orders it touches."""
    new: Sequence[NewCustomer]
    """The customers whom the batch creates. Nobody else sees them before it is committed."""
    locked_at: datetime
    """The database's clock, read after the last lock."""
    naming_erased: Mapping[int, Sequence[str]]
    """The places of events that have identifiers of erased people, and these identifiers."""
    touch_erased: bool
    """An event names somebody who was erased, or belongs to an order of such a person."""
    ids_replaced: int
    """How many ids had been replaced by pseudonyms when the orders of the batch were looked up."""
    reassignments: int
    """How often staff had given identifiers away when those of the batch were looked up."""
    salt: bytes
    """The salt of pseudonyms."""
    enlarged: frozenset[int]
    """Customers who existed and have got an identifier."""


async def lock_owners(connection: AsyncConnection, events: Sequence[OrderEvent]) -> Owners:
    """Lock everybody concerned, and insert the identifiers that nobody has yet.

    The caller inserts the new customers. Customers who turn out to be one person are noted as due
    to be merged. Raises OwnerChangedError if an identifier changed hands meanwhile.
    """
    identifiers = sorted(
        {each for event in events if event.customer for each in event.customer.identifiers}
    )
    order_ids = [event.order_id for event in events]
    spellings = _spellings(identifiers)
    found = locked = await _lock(
        connection, [*identifiers, *spellings], order_ids, wanted=len(identifiers)
    )
    known = Known(_owners(identifiers, found), _erased([*identifiers, *spellings.values()], found))
    created = _Created({}, [], frozenset())
    if not found.enough:
        ours = await _ours(connection, [each for each in identifiers if each not in known.owners])
        known = known._replace(owners={**known.owners, **ours})
        created = await _create(connection, events, known)
        if created.taken:  # look again whom they mean
            found = await _lock(connection, identifiers, order_ids, ids=sorted(ours.values()))
            locked, owners = found, {**ours, **_owners(identifiers, found)}
            if not known.owners.keys() | created.owners.keys() | created.taken <= owners.keys():
                raise OwnerChangedError
        else:
            owners = {**known.owners, **created.owners}
            ids = sorted({owner for owner in known.owners.values() if owner is not None})
            locked = await _lock(connection, (), order_ids, ids=ids)
        known = known._replace(owners=owners)
    existing = frozenset(locked.locked or ())
    everybody = existing.union(each.id for each in created.customers)
    if not everybody.issuperset(filter(None, known.owners.values())):
        raise OwnerChangedError
    namings = [identity.naming_of(event, known) for event in events]
    await put_together(connection, identity.to_merge(namings))
    naming_erased = known.erased_in(events) if known.erased else {}
    return Owners(
        namings=namings,
        naming_erased=naming_erased,
        locked=existing,
        new=created.customers,
        locked_at=locked.locked_at,
        touch_erased=locked.touches_erased or bool(naming_erased),
        ids_replaced=found.ids_replaced,
        reassignments=found.reassignments,
        salt=found.salt,
        enlarged=existing.intersection(created.owners.values()),
    )


async def _lock(
    connection: AsyncConnection,
    identifiers: Sequence[str],
    order_ids: Sequence[str],
    *,
    ids: Sequence[int] = (),
    wanted: int | None = None,
) -> Row[Any]:
    """Find whom identifiers mean, and lock everybody concerned.

    Nobody is locked if not all of the first ``wanted`` identifiers are known. ``ids`` are those of
    customers who are locked as well.
    """
    columns = {"identifier": identifiers, "id": ids, "order_id": order_ids}
    return (await connection.execute(_LOCK, {**pack(columns), "wanted": wanted})).one()


async def _ours(connection: AsyncConnection, unknown: Sequence[str]) -> dict[str, int]:
    """Return the numbers of the identifiers that are ids of customers."""
    numbers = {each: int(value_of(each)) for each in unknown if each.startswith(_OURS)}
    if not numbers:
        return {}
    rows = await connection.execute(_EXISTING, {"numbers": list(numbers.values())})
    existing = set(rows.scalars())
    return {each: number for each, number in numbers.items() if number in existing}


class _Created(NamedTuple):
    """The identifiers that a batch has inserted."""

    owners: Mapping[str, int]
    """Whom each of them means."""
    customers: Sequence[NewCustomer]
    taken: frozenset[str]
    """Identifiers that another transaction inserted meanwhile. They are another customer's."""


async def _create(
    connection: AsyncConnection, events: Sequence[OrderEvent], known: Known
) -> _Created:
    """Insert the identifiers that nobody has yet."""
    sizes: Mapping[int, int] = {}
    if enlarged := identity.links_to_new(events, known):
        rows = await connection.execute(_SIZES, {"ids": sorted(enlarged)})
        sizes = {row.customer_id: row.identifiers for row in rows}
    new = identity.new_identifiers(events, known, sizes)
    if not new:
        return _Created({}, [], frozenset())
    columns = {name: [getattr(each, name) for each in new] for name in _NEW_COLUMNS}
    row = (await connection.execute(_CREATE, pack(columns))).one()
    owners = dict(zip(row.created_identifier or (), row.created_customer_id or (), strict=True))
    theirs = defaultdict[int, list[NewIdentifier]](list)
    for each in new:
        if each.customer is None and each.identifier in owners:
            theirs[owners[each.identifier]].append(each)
    return _Created(
        owners,
        [_new_customer(owner, theirs[owner]) for owner in sorted(theirs)],
        frozenset(each.identifier for each in new if each.identifier not in owners),
    )


def _new_customer(number: int, identifiers: Sequence[NewIdentifier]) -> NewCustomer:
    emails = [
        value_of(each.identifier)
        for each in identifiers
        if kind_of(each.identifier) is IdentifierKind.EMAIL
    ]
    earliest = min(each.earliest for each in identifiers)
    return NewCustomer(number, min(emails, default=None), earliest)


def _spellings(identifiers: Sequence[str]) -> dict[str, str]:
    """Return the identifiers of e-mails with Unicode domains, by their other spellings.

    Earlier releases stored hashes of erased e-mails as people wrote them.
    """
    return {
        email_identifier(spelling): each
        for each in identifiers
        if _ASCII_DOMAIN in each
        for spelling in email_spellings(value_of(each))[1:]
    }


def _owners(identifiers: Sequence[str], row: Row[Any]) -> dict[str, int | None]:
    places, owners = row.named_place or (), row.named_customer_id or ()
    return {
        identifiers[place - 1]: owner
        for place, owner in zip(places, owners, strict=True)
        if place <= len(identifiers)
    }


def _erased(identifiers: Sequence[str], row: Row[Any]) -> dict[str, datetime]:
    """Return when identifiers were erased. An identifier may come in several spellings."""
    erased: dict[str, datetime] = {}
    for place, at in zip(row.erasures_place or (), row.erasures_erased_at or (), strict=True):
        identifier = identifiers[place - 1]
        erased[identifier] = max(at, erased.get(identifier, at))
    return erased
