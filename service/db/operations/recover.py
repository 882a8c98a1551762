"""Take back from the out-stream the segment changes that a restored database has forgotten.

A database that was restored from a backup has none of the changes that were published after the
backup. Subscribers have seen them, and they drop other changes with the same sequence. So the
changes are inserted into the history again. If a customer's segment now differs from the last of
them, one more change announces it to subscribers.

This happens only if a person asks for it, because Redis cannot say who wrote an entry. A change is
taken if it continues the history of a customer who can exist. The rest is refused.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from redis.asyncio import Redis
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.core.customer_ids import customer_ref
from service.core.foreign_kinds import ForeignKind
from service.core.published_change import PublishedChange, read_change
from service.core.published_event import NotOursError
from service.core.removal_event import RemovalReason
from service.core.segment_event import Cause
from service.core.stream_ids import StreamId, write
from service.db import out_stream_tail, outbox
from service.db.accounts.audit import note
from service.db.customers import removals
from service.db.locks import lock_customers, read_clock
from service.db.operations import endpoints, foreign_entries
from service.db.operations.foreign_entries import Noticed
from service.db.out_stream_tail import OutStream
from service.db.segments.change_outbox import CHANGES
from service.streams import out_stream

_PAGE = 5000
_MOST_EXAMPLES = 3

# `continues`: the number before it is that of another unknown change, or of a stored one.
_UNKNOWN = text("""
SELECT u.number, u.customer_id, u.body, u.number = 1
  OR EXISTS (SELECT FROM unknown_changes b WHERE b.number = u.number - 1)
  OR EXISTS (SELECT FROM segment_changes s WHERE s.publish_number = u.number - 1) AS continues
FROM unknown_changes u WHERE u.number > :after ORDER BY u.number LIMIT :most
""")
_LATEST = text("""
SELECT DISTINCT ON (customer_id) customer_id, sequence, segment
FROM segment_changes WHERE customer_id = ANY(:ids) AND publish_number IS NOT NULL
ORDER BY customer_id, sequence DESC
""")
_LAST_ID = text("""
SELECT coalesce(pg_sequence_last_value(CAST(pg_get_serial_sequence('customers', 'id') AS regclass)),
  0)::bigint
""")
# No subscriber has seen unpublished changes, and the stream's changes of these customers need their
# sequences.
_DELETE_UNPUBLISHED = text(
    "DELETE FROM segment_changes WHERE customer_id = ANY(:ids) AND publish_number IS NULL"
)
_INSERT_CHANGES = text("""
INSERT INTO segment_changes (customer_id, sequence, previous, segment, cause, settings_version,
  total_orders, total_spent, last_order_date, changed_at, publish_number, traceparent)
SELECT customer_id, sequence, previous, segment, cause, settings_version, total_orders, total_spent,
  last_order_date, changed_at, number, traceparent
FROM jsonb_to_recordset(CAST(:changes AS jsonb)) AS p (
  customer_id bigint, sequence integer, previous text, segment text, cause text,
  settings_version integer, total_orders integer, total_spent numeric,
  last_order_date timestamptz, changed_at timestamptz, number bigint, traceparent text)
ORDER BY number
""")
# Adds a change from the last segment that the stream has to the customer's own, where they differ.
# The segment itself stays: only `service.db.segments.assign` writes it.
_BRIDGE = text("""
WITH latest AS (
  SELECT DISTINCT ON (customer_id) customer_id, sequence, segment
  FROM segment_changes WHERE customer_id = ANY(:ids) ORDER BY customer_id, sequence DESC
),
bridged AS (
  INSERT INTO segment_changes (customer_id, sequence, previous, segment, cause, settings_version,
    total_orders, total_spent, last_order_date, changed_at)
  SELECT c.id, l.sequence + 1, l.segment, c.segment, :cause, (SELECT max(version) FROM settings),
    c.total_orders, c.total_spent, c.last_order_date, clock_timestamp()
  FROM customers c JOIN latest l ON l.customer_id = c.id WHERE c.segment <> l.segment ORDER BY c.id
)
UPDATE customers c SET segment_sequence = l.sequence + CAST(c.segment <> l.segment AS integer)
FROM latest l WHERE c.id = l.customer_id
""")
# New customers must not get the ids of customers whom this database has forgotten.
_RESERVE_IDS = text("""
SELECT setval(pg_get_serial_sequence('customers', 'id'), CAST(:id AS bigint))
""")
# Customers whose changes were taken and who do not exist. Their ids are never given again: those
# beyond the sequence are reserved, and a restored sequence skips some.
_LOST = text("""
SELECT id FROM unnest(CAST(:ids AS bigint[])) AS taken (id)
WHERE NOT EXISTS (SELECT FROM customers c WHERE c.id = taken.id)
  AND NOT EXISTS (SELECT FROM removals r WHERE r.customer_id = taken.id)
""")
_FORGET_UNKNOWN = text("DELETE FROM unknown_changes")


class RelayRunsError(Exception):
    """A worker relays, so nothing may be taken back. Stop all workers first."""


class Request(NamedTuple):
    """What a person asks for."""

    apply: bool = False
    new_customers_up_to: int = 0
    """Customers unknown here may have ids up to this one."""
    accept_gaps: bool = False
    """Take changes whose publish number does not follow another one."""
    discard: bool = False
    """Refuse everything."""


@dataclass
class Refused:
    """The entries that were refused for one reason."""

    entries: int = 0
    examples: list[str] = field(default_factory=list)
    """The first few: the entry's id, and the customer if it names one."""

    def add(self, id_: StreamId, customer: int | None) -> None:
        """Count an entry."""
        self.entries += 1
        if len(self.examples) < _MOST_EXAMPLES:
            named = f" ({customer_ref(customer)})" if customer else ""
            self.examples.append(f"{write(id_)}{named}")


@dataclass
class RecoverReport:
    """What `recover` took or would take, and what it refused."""

    changes: int = 0
    first: int | None = None
    """The first publish number."""
    last: int | None = None
    customers: set[int] = field(default_factory=set)
    new_customers: set[int] = field(default_factory=set)
    """Those of them that this database does not know."""
    unconfirmed: set[int] = field(default_factory=set)
    """Customers unknown here whose ids nobody has confirmed."""
    refused: dict[str, Refused] = field(default_factory=lambda: defaultdict(Refused))
    applied: bool = False

    def count(self, number: int, customer: int, *, is_new: bool) -> None:
        """Count a change that is taken."""
        self.changes += 1
        self.first = self.first or number
        self.last = number
        self.customers.add(customer)
        if is_new:
            self.new_customers.add(customer)

    def refuse(self, reason: str, id_: StreamId, customer: int | None = None) -> None:
        """Count an entry that is refused."""
        self.refused[reason].add(id_, customer)


class _Latest(NamedTuple):
    """The end of a customer's history."""

    sequence: int
    segment: str | None


async def is_needed(connection: AsyncConnection, redis: Redis, stream: str) -> bool:
    """Return True if the out-stream may have changes that this database has forgotten."""
    if (await foreign_entries.summary(connection)).unknown:
        return True
    position = (await CHANGES.state(connection)).published
    tail = await out_stream_tail.read_tail(
        connection, redis, OutStream(stream, CHANGES), position, (position, 0)
    )
    return bool(tail.unknown)


async def recover(
    engine: AsyncEngine, redis: Redis, stream: str, request: Request, actor: str
) -> RecoverReport:
    """Take back what the database has forgotten, or find out what would be taken.

    Everything happens in one transaction, which is rolled back unless ``request.apply`` is true.
    Raises RelayRunsError if a worker relays and something is to be written.
    """
    report = RecoverReport()
    async with engine.connect() as connection:
        try:
            leads = await outbox.lead(connection)
            if request.apply and not leads:
                raise RelayRunsError
            foreign = await _take_in(connection, redis, stream, report) if leads else []
            taken, refused = await _decide(connection, request, report)
            if not request.apply:
                await connection.rollback()
                return report
            await _insert(connection, taken, report)
            await connection.execute(_FORGET_UNKNOWN)
            await foreign_entries.acknowledge_unknown(connection, stream, actor)
            await foreign_entries.record(connection, stream, ForeignKind.FOREIGN, foreign)
            await foreign_entries.record(connection, stream, ForeignKind.REFUSED, refused)
            await note(connection, actor, "changes.recovered", details=_details(report))
            # If the commit fails, the refused ones are still in the database.
            await out_stream.remove(redis, stream, [each.id for each in (*foreign, *refused)])
            await connection.commit()
        finally:
            await connection.invalidate()  # closing the connection releases the relay's lock
    report.applied = True
    return report


async def _take_in(
    connection: AsyncConnection, redis: Redis, stream: str, report: RecoverReport
) -> list[Noticed]:
    """Keep what the relay would keep; return what it would remove."""
    position = (await CHANGES.state(connection)).published
    foreign = list[Noticed]()
    changes = OutStream(stream, CHANGES)
    tail = await out_stream_tail.read_tail(connection, redis, changes, position, (position, 0))
    while tail.read_to is not None:
        for each in tail.foreign:
            foreign.append(Noticed(each.entry.id, each.reason, each.entry.sample))
            report.refuse(each.reason, each.entry.id)
        position = await out_stream_tail.take_in(connection, CHANGES, tail, position)
        tail = await out_stream_tail.read_tail(connection, redis, changes, position, tail.read_to)
    return foreign


async def _decide(
    connection: AsyncConnection, request: Request, report: RecoverReport
) -> tuple[list[tuple[int, PublishedChange]], list[Noticed]]:
    """Return the changes to take, with their publish numbers, and those that are refused."""
    now = await read_clock(connection)
    last_id: int = (await connection.execute(_LAST_ID)).scalar_one()
    histories: dict[int, _Latest] = {}
    taken, refused = list[tuple[int, PublishedChange]](), list[Noticed]()
    after = 0
    while rows := (await connection.execute(_UNKNOWN, {"after": after, "most": _PAGE})).all():
        after = rows[-1].number
        unseen = sorted({row.customer_id for row in rows} - histories.keys())
        histories |= await _latest(connection, unseen)
        for row in rows:
            is_new = row.customer_id > last_id
            try:
                change = read_change(row.body, now)
                _check(request, row, change, histories[row.customer_id], is_new=is_new)
            except NotOursError as error:
                id_, reason = (row.number, 0), str(error)
                refused.append(Noticed(id_, reason, row.body[: out_stream.SAMPLE_BYTES]))
                report.refuse(reason, id_, row.customer_id)
                if is_new and row.customer_id > request.new_customers_up_to:
                    report.unconfirmed.add(row.customer_id)
                continue
            histories[row.customer_id] = _Latest(change.sequence, change.segment)
            taken.append((row.number, change))
            report.count(row.number, row.customer_id, is_new=is_new)
    return taken, refused


def _check(
    request: Request, row: Row[Any], change: PublishedChange, latest: _Latest, *, is_new: bool
) -> None:
    """Raise NotOursError if a change must not be taken."""
    if request.discard:
        reason = "it was discarded"
    elif not (row.continues or request.accept_gaps):
        reason = "its publish number does not follow another one (see --accept-gaps)"
    elif is_new and row.customer_id > request.new_customers_up_to:
        reason = "this database does not know the customer (see --new-customers-up-to)"
    elif change.sequence != latest.sequence + 1:
        reason = "its sequence does not follow the customer's history"
    elif change.previous != latest.segment:
        reason = "its previous segment is not the one before"
    else:
        return
    raise NotOursError(reason)


async def _latest(connection: AsyncConnection, ids: Sequence[int]) -> dict[int, _Latest]:
    """Return the end of each customer's published history."""
    latest = dict.fromkeys(ids, _Latest(0, None))
    for row in await connection.execute(_LATEST, {"ids": ids}):
        latest[row.customer_id] = _Latest(row.sequence, row.segment)
    return latest


async def _insert(
    connection: AsyncConnection,
    taken: Sequence[tuple[int, PublishedChange]],
    report: RecoverReport,
) -> None:
    if report.new_customers:
        await connection.execute(_RESERVE_IDS, {"id": max(report.new_customers)})
    ids = sorted(report.customers)
    await lock_customers(connection, ids)
    await connection.execute(_DELETE_UNPUBLISHED, {"ids": ids})
    for start in range(0, len(taken), _PAGE):
        page = [
            {**change._asdict(), "number": number}
            for number, change in taken[start : start + _PAGE]
        ]
        await connection.execute(_INSERT_CHANGES, {"changes": json.dumps(page, default=str)})
    if taken:
        # Endpoints have got later changes since then, and perhaps not all of these.
        await endpoints.go_back(connection, taken[0][0] - 1)
    await connection.execute(_BRIDGE, {"ids": ids, "cause": Cause.REBUILD.value})
    lost = (await connection.execute(_LOST, {"ids": ids})).scalars().all()
    await removals.add(connection, lost, RemovalReason.ERASED)


def _details(report: RecoverReport) -> dict[str, Any]:
    """Return what the audit keeps."""
    return {
        "changes": report.changes,
        "first": report.first,
        "last": report.last,
        "refused": sum(each.entries for each in report.refused.values()),
    }
