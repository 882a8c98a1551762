"""Find the customers whom a batch names, and lock everybody concerned.

Identifiers that nobody has yet are inserted here; the rows of their customers are inserted filled,
with the orders.

Identifiers are written in their own order and customers are locked in the order of their ids. Every
writer does the same, so that writers cannot deadlock.
"""

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
from service.core.identity import Known, Naming
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

# Finds whom the identifiers of a batch mean. Then it inserts those that nobody has, and locks the
# customers whom the batch names and those whose orders it touches. It does neither if an identifier
# that nobody has stands beside one that somebody has: then Python decides who gets it. It locks
# nobody if another transaction has inserted one of the identifiers meanwhile. So all writers insert
# identifiers first, and lock customers after that. The clock is read after the last lock.
# While nobody was erased, nobody looks for erasures, and while no id was replaced by a pseudonym,
# nobody looks for pseudonyms.
_CLAIM = text(f"""
WITH looked_up AS MATERIALIZED (  -- the identifiers after the `wanted` ones are not inserted
  SELECT n.place, n.identifier, coalesce(CAST(n.common AS bigint), n.place) AS common,
    coalesce(i.known, false) AS known, i.customer_id
  FROM {unpack_numbered("identifier", "common")} LEFT JOIN LATERAL (
    SELECT true AS known, customer_id FROM identifiers WHERE identifier = n.identifier OFFSET 0
  ) i ON true
),
named AS MATERIALIZED (SELECT place, customer_id FROM looked_up WHERE known),
erasures AS MATERIALIZED (
  SELECT l.place, e.erased_at FROM looked_up l
  JOIN erased e ON e.email_hash = {identifier_hash("l.identifier")}
  WHERE EXISTS (SELECT FROM erased)
),
decided AS MATERIALIZED (
  SELECT coalesce(bool_and(all_known OR (
    NOT any_known AND common > 0 AND NOT EXISTS (SELECT FROM erasures))), true) AS decided
  FROM (
    SELECT common, bool_and(known) AS all_known, bool_or(known) AS any_known
    FROM looked_up WHERE place <= CAST(:wanted AS bigint) GROUP BY common
  ) groups
),
fresh AS MATERIALIZED (
  SELECT common, nextval('customers_id_seq') AS id
  FROM (
    SELECT DISTINCT common FROM looked_up
    WHERE NOT known AND place <= :wanted AND (SELECT decided FROM decided) ORDER BY common
  ) numbered
),
unowned AS MATERIALIZED (
  SELECT place, identifier, id FROM looked_up JOIN fresh USING (common) WHERE NOT known
),
created AS (
  INSERT INTO identifiers (identifier, customer_id)
  SELECT identifier, id FROM unowned ORDER BY place
  ON CONFLICT (identifier) DO NOTHING RETURNING identifier
),
ready AS MATERIALIZED (
  SELECT decided AND (SELECT count(*) FROM created) = (SELECT count(*) FROM unowned) AS ready
  FROM decided
),
stored AS MATERIALIZED (
  SELECT o.customer_id, o.erased FROM ({unpack({"order_id": "text"})}) n CROSS JOIN LATERAL (
    SELECT customer_id, erased FROM orders WHERE id = n.order_id OFFSET 0) o
  WHERE (SELECT ready FROM ready)
  UNION ALL
  SELECT o.customer_id, true FROM ({unpack({"order_id": "text"})}) n CROSS JOIN LATERAL (
    SELECT customer_id FROM orders WHERE id = {pseudonym_sql("n.order_id")} OFFSET 0) o
  WHERE (SELECT ready FROM ready) AND (SELECT ids_replaced FROM installation) > 0
),
concerned AS MATERIALIZED (
  SELECT customer_id AS id FROM named
  UNION SELECT id FROM ({unpack({"id": "bigint"})}) i
  UNION SELECT customer_id FROM stored
),
locked AS MATERIALIZED (
  SELECT c.id FROM (
    SELECT id FROM concerned WHERE (SELECT ready FROM ready) ORDER BY id
  ) k
  CROSS JOIN LATERAL (SELECT id FROM customers WHERE id = k.id FOR NO KEY UPDATE) c
),
taken AS MATERIALIZED (
  SELECT place FROM unowned
  WHERE NOT (SELECT ready FROM ready) AND identifier NOT IN (SELECT identifier FROM created)
)
SELECT l.ids AS locked, decided, {_aligned("named", "place", "customer_id")},
  {_aligned("unowned", "place", "id")}, {_aligned("taken", "place")},
  {_aligned("erasures", "place", "erased_at")},
  clock_timestamp() AS locked_at,
  ids_replaced, reassignments, salt, EXISTS (SELECT FROM stored WHERE erased) AS touches_erased
FROM (SELECT array_agg(id) AS ids FROM locked) l CROSS JOIN decided CROSS JOIN installation
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
    found = locked = await _claim(
        connection,
        [*identifiers, *spellings],
        order_ids,
        common=_places(identifiers, identity.common_identifiers(events)),
        wanted=len(identifiers),
    )
    known = Known(_owners(identifiers, found), _erased([*identifiers, *spellings.values()], found))
    ours: Mapping[str, int] = {}
    if found.decided:
        created = _created_at_once(events, known, identifiers, found)
    else:
        ours = await _ours(connection, [each for each in identifiers if each not in known.owners])
        known = known._replace(owners={**known.owners, **ours})
        created = await _create(connection, events, known)
    owners = {**known.owners, **created.owners}
    if created.taken:  # look again whom they mean
        found = locked = await _claim(connection, identifiers, order_ids, ids=sorted(ours.values()))
        again = {**ours, **_owners(identifiers, found)}
        if not owners.keys() | created.taken <= again.keys():
            raise OwnerChangedError
        owners = again
    elif not found.decided:
        ids = sorted({owner for owner in known.owners.values() if owner is not None})
        locked = await _claim(connection, (), order_ids, ids=ids)
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


async def _claim(
    connection: AsyncConnection,
    identifiers: Sequence[str],
    order_ids: Sequence[str],
    *,
    ids: Sequence[int] = (),
    common: Sequence[int] = (),
    wanted: int | None = None,
) -> Row[Any]:
    """Find whom identifiers mean, insert those that nobody has, and lock everybody concerned.

    The first ``wanted`` identifiers are inserted, if their owners can be decided at once; otherwise
    nobody is locked. ``common`` is what `_places` returns. ``ids`` are those of customers who are
    locked as well.
    """
    columns = {"identifier": identifiers, "common": common, "id": ids, "order_id": order_ids}
    return (await connection.execute(_CLAIM, {**pack(columns), "wanted": wanted})).one()


def _places(identifiers: Sequence[str], common: Mapping[str, str | None]) -> list[int]:
    """Return the place of the identifier that stands for each; 0 if Python has to decide.

    The list is empty if each stands for itself.
    """
    if not common:
        return []
    places = {each: place for place, each in enumerate(identifiers, 1)}
    return [
        places[found] if (found := common.get(each, each)) is not None else 0
        for each in identifiers
    ]


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


def _created_at_once(
    events: Sequence[OrderEvent], known: Known, identifiers: Sequence[str], row: Row[Any]
) -> _Created:
    """Return the identifiers that `_CLAIM` has inserted."""
    unowned = zip(row.unowned_place or (), row.unowned_id or (), strict=True)
    owners = {identifiers[place - 1]: owner for place, owner in unowned}
    taken = frozenset(identifiers[place - 1] for place in row.taken_place or ())
    for each in taken:
        del owners[each]
    return _Created(owners, _new_customers(events, known, owners), taken)


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
    theirs = {
        each.identifier: owners[each.identifier]
        for each in new
        if each.customer is None and each.identifier in owners
    }
    return _Created(
        owners,
        _new_customers(events, known, theirs),
        frozenset(each.identifier for each in new if each.identifier not in owners),
    )


def _new_customers(
    events: Sequence[OrderEvent], known: Known, owners: Mapping[str, int]
) -> list[NewCustomer]:
    """Return the new customers, sorted. ``owners`` has whom their identifiers mean."""
    emails: dict[int, str] = {}
    for identifier in sorted(owners, reverse=True):
        if kind_of(identifier) is IdentifierKind.EMAIL:
            emails[owners[identifier]] = value_of(identifier)
    earliest = identity.earliest_orders(events, known, owners)
    return [NewCustomer(number, emails.get(number), at) for number, at in sorted(earliest.items())]


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
