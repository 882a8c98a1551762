"""Orders say what their events say (3): a sample of the entries that Redis still has."""

import random
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.core.envelope import Entry
from service.core.identifiers import IdentifierKind, email_identifier, kind_of
from service.core.judge import Terms, judge
from service.core.order_event import EMAIL_REGISTER, REGISTERS, EventCustomer, OrderEvent
from service.core.partitions import OrdersStream
from service.core.stream_ids import parse
from service.db import registers
from service.db.customers.erasure_keys import identifier_hash
from service.db.operations import losses
from service.db.operations.verify.findings import MOST_SHOWN, REPLAY, RESTORE, Fault, fault_if
from service.streams.entries import Limits, read_range

_PLACES = 25
"""Pages that are read from the beginning of each stream, and again as many from random places."""
_AT_EACH = 4
"""Entries of a page."""

_OURS = IdentifierKind.CUSTOMER
_EXTERNAL = f"{IdentifierKind.EXTERNAL}:"

_STORED = text(f"""
SELECT o.id, o.version, o.updated_at, o.sent_at, o.event_id,
       o.status, o.payment_status,
       CAST(o.total * 100 AS bigint) AS total_cents,
       CAST(o.refunded * 100 AS bigint) AS refunded_cents, o.date_created, o.erased,
       o.currency, o.exchange_rate,
       o.customer_id, o.identifier, o.other_identifier,
       o.named_version, o.named_at, o.named_sent_at, o.named_event_id,
       ARRAY(SELECT i.identifier FROM identifiers i WHERE i.customer_id = c.id) AS identifiers,
       {registers.listed("c")}
FROM orders o LEFT JOIN customers c ON c.id = o.customer_id WHERE o.id = ANY(:ids)
""")
_ERASED = text(f"""
SELECT identifier FROM unnest(CAST(:identifiers AS text[])) AS u(identifier)
WHERE EXISTS (SELECT FROM erased e WHERE e.email_hash = {identifier_hash("u.identifier")})
""")

# An entry that is well-formed may be a dead letter all the same: it killed workers, or the database
# refused it. If letters were discarded since it came, it may be one of them.
_REFUSED = text("""
SELECT stream_id FROM unnest(CAST(:stream_ids AS text[])) AS e (stream_id)
WHERE EXISTS (SELECT FROM dead_letters l WHERE l.stream_id = e.stream_id)
   OR EXISTS (
     SELECT FROM audit a WHERE a.action LIKE 'dead-letter%.d%' AND a.at >= to_timestamp(
       CAST(split_part(e.stream_id, '-', 1) AS numeric) / 1000) - interval '1 minute')
""")


async def stream_faults(
    engine: AsyncEngine, redis: Redis, orders: Sequence[OrdersStream], group: str, terms: Terms
) -> list[Fault]:
    """Compare a sample of the entries that Redis still has with the orders they became.

    Only entries are compared that all workers had acknowledged at the last check for losses.
    """
    async with engine.connect() as connection:
        acknowledged = await losses.acknowledged_ids(connection, orders, group)
    older, different = list[dict[str, Any]](), list[dict[str, Any]]()
    for stream in orders:
        until = acknowledged.get(stream.name, (0, 0))
        async for entries in _places(redis, stream.name, until[0]):
            applied = [
                entry._replace(partition=stream.partition)
                for entry in entries
                if parse(entry.id) <= until
            ]
            async with engine.connect() as connection:
                found = await _compare(connection, applied, terms)
            older += found[0]
            different += found[1]
    return [
        *fault_if(older[:MOST_SHOWN], "an entry that was applied is not in the orders", REPLAY),
        *fault_if(
            different[:MOST_SHOWN],
            "an order or a profile does not say what its own event says",
            RESTORE,
        ),
    ]


async def _places(redis: Redis, stream: str, until: int) -> AsyncIterator[list[Entry]]:
    """Yield a few entries at a time: those of a short stream, or some from random places."""
    page = await read_range(redis, stream, "-", "+", Limits(_AT_EACH))
    first = page[0].milliseconds if page else until + 1
    for _ in range(_PLACES):
        if not page:
            return
        yield page
        page = await read_range(redis, stream, f"({page[-1].id}", "+", Limits(_AT_EACH))
    for _ in range(_PLACES):
        start = str(random.randint(first, max(first, until)))
        yield await read_range(redis, stream, start, "+", Limits(_AT_EACH))


async def _compare(
    connection: AsyncConnection, entries: Sequence[Entry], terms: Terms
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the entries whose order is missing or older, and those that it contradicts."""
    judged = [(entry, judge(entry, terms, datetime.now(UTC))) for entry in entries]
    events = [(entry, event) for entry, event in judged if isinstance(event, OrderEvent)]
    ids = [event.order_id for _, event in events]
    stored = {row.id: row for row in await connection.execute(_STORED, {"ids": ids})}
    named = {each for _, event in events if event.customer for each in event.customer.identifiers}
    rows = await connection.execute(_ERASED, {"identifiers": sorted(named)})
    erased = set(rows.scalars())
    entry_ids = [entry.id for entry, _ in events]
    refused = set((await connection.execute(_REFUSED, {"stream_ids": entry_ids})).scalars())
    older, different = list[dict[str, Any]](), list[dict[str, Any]]()
    for entry, event in events:
        row = stored.get(event.order_id)
        if entry.id in refused:
            continue
        if event.customer and not erased.isdisjoint(event.customer.identifiers):
            continue  # what this entry says about orders and people may have been erased
        if row is None or _is_older(row, event):
            older.append({"entry": entry.id, "order": event.order_id, "stored": row is not None})
        elif fields := _differing(row, event):
            different.append({"entry": entry.id, "order": event.order_id, "fields": fields})
    return older, different


def _is_older(row: Any, event: OrderEvent) -> bool:
    """Return whether the order, or the event that named its customer, is older than this event."""
    if _state_key(row, event) < event.key:
        return True
    if event.customer is None or row.erased:
        return False
    # An id of ours may have named nobody when the event was applied.
    names = any(kind_of(each) is not _OURS for each in event.customer.identifiers)
    if row.customer_id is None and row.identifier is None:
        return names
    named = _naming_key(row, event)
    return None in named or (names and named < event.key)


def _state_key(row: Any, event: OrderEvent) -> tuple[Any, ...]:
    """Return the key of the order's state, to be compared with that of an event."""
    sent = row.sent_at or _sent(row.updated_at, row.event_id, event)
    return (row.version, row.updated_at, sent, row.event_id)


def _naming_key(row: Any, event: OrderEvent) -> tuple[Any, ...]:
    """Return the key of the event that named the customer; parts are None if none did."""
    sent = row.named_sent_at or _sent(row.named_at, row.named_event_id, event)
    return (row.named_version, row.named_at, sent, row.named_event_id)


def _sent(at: Any, event_id: str | None, event: OrderEvent) -> Any:
    """Return the own time of an event that was stored without one.

    It is the time of the change, unless an earlier release stored this very event: that one did not
    look at it.
    """
    return event.key.sent if event_id == event.key.event_id else at


def _differing(row: Any, event: OrderEvent) -> list[str]:
    """Return the fields that the event wrote, and that hold something else now."""
    fields = []
    if _state_key(row, event) == event.key:
        written = event.content._asdict()
        fields += [name for name, value in written.items() if getattr(row, name) != value]
    named = _naming_key(row, event)
    if event.customer and named == event.key:
        # An e-mail that stands first may be the customer's own: an earlier release did not say by
        # what it named them. A phone has another form if the store's country was set meanwhile.
        first, second = row.identifier or "", row.other_identifier
        if {second, first if first.startswith(_EXTERNAL) else None} - {
            None,
            *event.customer.identifiers,
        }:
            fields.append("identifiers")
    if event.customer and row.customer_id is not None and named == event.key:
        identifiers = event.customer.identifiers
        if kind_of(identifiers[0]) is not _OURS and set(identifiers).isdisjoint(row.identifiers):
            fields.append("customer")
        fields += _differing_registers(row, event, event.customer)
    return fields


def _differing_registers(row: Any, event: OrderEvent, customer: EventCustomer) -> list[str]:
    """Return the registers that are older than this event, or have its key and another value."""
    fields = []
    for register in REGISTERS:
        value = getattr(customer, register)
        if value is None:
            continue
        if register == EMAIL_REGISTER and email_identifier(value) not in row.identifiers:
            continue  # it is somebody else's
        stored, at, written_by = (getattr(row, name) for name in registers.columns_of(register))
        key = (event.profile_at, event.key.event_id)
        if at is not None and at.tzinfo is None:
            continue  # infinity: a person typed it, and no event is later
        if register == EMAIL_REGISTER and at is None and stored is not None:
            continue  # it took the place of one that means somebody else now
        if at is None or written_by is None or (at, written_by) < key:
            fields.append(f"{register} is older")
        elif (at, written_by) == key and stored != value:
            fields.append(register)
    return fields
