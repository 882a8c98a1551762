"""The eight invariants of the service. The check of each returns the rows that break it.

``crm verify`` checks them on a live system, and the tests check them after every scenario. The
queries on customers, segments and statistics read one snapshot, so that work that goes on meanwhile
cannot look like an error.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.core.customer_ids import customer_ref
from service.core.envelope import FASTSTREAM_FIELD
from service.core.loss_arithmetic import LossKind
from service.core.partitions import OrdersStream
from service.core.stream_ids import write
from service.db.figures import FIGURES, each_figure, recounted
from service.db.locks import read_clock
from service.db.operations import foreign_entries, losses, status
from service.db.operations.apply_again import apply_sample_again
from service.db.segments.outbox import state
from service.db.segments.rules_sql import LIMITS, PROMISED, segment_sql
from service.db.segments.unknown_changes import read_tail
from service.db.statistics import daily
from service.db.statistics.counters import read_figures, recount_figures
from service.streams import groups
from service.streams.entries import Limits, read_range

_MOST_SHOWN = 20
_PAGE = 5000
"""Entries of the out-stream that are read at once."""


class Finding(NamedTuple):
    """The result of checking one invariant."""

    number: int
    invariant: str
    offenders: list[dict[str, Any]]
    """Rows that break the invariant, `_MOST_SHOWN` of each kind at most. Empty if it holds."""


_AGGREGATE = """
aggregate AS (
  SELECT customer_id, count(*) AS orders, sum(total - refunded) AS spent,
         min(date_created) AS first, max(date_created) AS last
  FROM orders WHERE counts AND customer_id IS NOT NULL GROUP BY customer_id
)"""

_METRICS = text(f"""
WITH {_AGGREGATE}
SELECT coalesce(c.id, a.customer_id) AS customer, c.total_orders, a.orders, c.total_spent, a.spent,
       c.first_order_date, a.first, c.last_order_date, a.last
FROM customers c FULL JOIN aggregate a ON a.customer_id = c.id
WHERE c.id IS NULL OR c.total_orders <> coalesce(a.orders, 0)
   OR c.total_spent <> coalesce(a.spent, 0)
   OR c.first_order_date IS DISTINCT FROM a.first OR c.last_order_date IS DISTINCT FROM a.last
LIMIT {_MOST_SHOWN}
""")

_SEGMENTS = text(f"""
WITH {LIMITS}, {PROMISED}
SELECT c.id AS customer, c.segment, {segment_sql("c", "l")} AS by_rules, c.segment_manual
FROM customers c CROSS JOIN limits l CROSS JOIN promised p
WHERE CASE WHEN c.segment_manual THEN
        NOT c.segment_pinned AND (
          c.segment_pinned_until < CAST(:now AS timestamptz) - CAST(:promise AS interval)
          OR c.segment_pinned_until IS NULL AND EXISTS (
            SELECT FROM orders o
            WHERE o.customer_id = c.id AND o.date_created > c.segment_held_since))
      ELSE l.auto_segmentation
        AND NOT EXISTS (  -- the job of new settings has not reached them yet
          SELECT FROM settings_changes s WHERE s.finished_at IS NULL AND c.id > s.last_id)
        AND c.segment <> {segment_sql("c", "l")} AND c.segment <> {segment_sql("c", "p")}
      END
LIMIT {_MOST_SHOWN}
""")

_CHAIN = text(f"""
WITH linked AS (
  SELECT customer_id, sequence, previous, segment,
         row_number() OVER history AS expected, lag(segment) OVER history AS before,
         lead(sequence) OVER history IS NULL AS is_last
  FROM segment_changes WINDOW history AS (PARTITION BY customer_id ORDER BY sequence)
)
SELECT coalesce(c.id, h.customer_id) AS customer, h.sequence, h.expected, h.previous, h.before,
       h.segment, c.segment AS now, c.segment_sequence
FROM linked h LEFT JOIN customers c ON c.id = h.customer_id
WHERE h.sequence <> h.expected OR h.previous IS DISTINCT FROM h.before
   OR h.previous = h.segment
   OR h.is_last AND (c.segment <> h.segment OR c.segment_sequence <> h.sequence)
UNION ALL
SELECT c.id, NULL, 1, NULL, NULL, NULL, c.segment, c.segment_sequence
FROM customers c WHERE NOT EXISTS (SELECT FROM segment_changes h WHERE h.customer_id = c.id)
LIMIT {_MOST_SHOWN}
""")

_REBUILT_FIGURES = text(f"""
WITH {_AGGREGATE},
rebuilt AS (
  SELECT c.segment, coalesce(a.orders, 0) AS total_orders, coalesce(a.spent, 0) AS total_spent
  FROM customers c LEFT JOIN aggregate a ON a.customer_id = c.id
),
figures AS (
  SELECT segment, {", ".join(f"{recounted(figure)} AS {figure}" for figure in FIGURES)}
  FROM rebuilt GROUP BY segment
),
counters AS (
  SELECT segment, {each_figure("sum({figure}) AS {figure}")}
  FROM segment_counters GROUP BY segment HAVING sum(customers) <> 0
)
(SELECT 'rebuilt' AS side, * FROM figures EXCEPT ALL SELECT 'rebuilt', * FROM counters)
UNION ALL
(SELECT 'kept', * FROM counters EXCEPT ALL SELECT 'kept', * FROM figures)
""")

_LATEST_PUBLISHED = text("""
SELECT DISTINCT ON (customer_id) customer_id, sequence, segment
FROM segment_changes WHERE publish_number BETWEEN :first AND :last
ORDER BY customer_id, sequence DESC
""")


async def verify(
    engine: AsyncEngine, redis: Redis, *, orders: Sequence[OrdersStream], group: str, changes: str
) -> list[Finding]:
    """Check all invariants and return one finding for each, in order.

    ``group`` is the name of the consumer group, ``changes`` that of the out-stream. Errors of the
    servers are raised as they come.
    """
    unaccounted = await _unaccounted_entries(engine, redis, orders, group)
    published = await _published_differences(engine, redis, changes)
    async with engine.connect() as pooled:
        connection = await pooled.execution_options(isolation_level="REPEATABLE READ")
        parameters = {"now": await read_clock(connection), "promise": status.SWEEP_PROMISE}
        overdue_seconds = (await status.database_backlog(connection)).sweep_overdue_seconds
        overdue = [{"sweepOverdueSeconds": overdue_seconds}] if overdue_seconds else []
        return [
            Finding(1, "metrics equal the orders", await _rows(connection, _METRICS)),
            Finding(2, "every entry read is accounted for", unaccounted),
            Finding(
                3, "applying again changes nothing", await apply_sample_again(engine, _MOST_SHOWN)
            ),
            Finding(
                4,
                "segments equal the rules, no sweep is overdue",
                await _rows(connection, _SEGMENTS, parameters) + overdue,
            ),
            Finding(5, "segment changes are a chain", await _rows(connection, _CHAIN)),
            Finding(6, "the out-stream ends at the same segments", published),
            Finding(7, "statistics equal a recount", await recount(connection)),
            Finding(
                8, "a rebuild equals the increments", await _rows(connection, _REBUILT_FIGURES)
            ),
        ]


async def _rows(
    connection: AsyncConnection, query: Any, parameters: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    result = await connection.execute(query, parameters or {})
    return [dict(row._mapping) for row in result]  # noqa: SLF001  SQLAlchemy's public name for it


async def _unaccounted_entries(
    engine: AsyncEngine, redis: Redis, orders: Sequence[OrdersStream], group: str
) -> list[dict[str, Any]]:
    """Return the counters and streams that do not agree about what was read.

    Every entry that the group has read and that is no longer pending must have been counted, under
    exactly one outcome. No entry may be lost unread, unless a person has acknowledged the loss.
    """
    backlogs = await groups.backlogs(redis, orders, group)
    async with engine.connect() as connection:
        totals = await status.totals(connection)
        accounted = await losses.accounted_for(connection, orders)
        lost = [
            _lost(loss.stream, loss.kind, loss.entries, loss.after_id, loss.until_id)
            for loss in await losses.recorded_losses(connection, most=_MOST_SHOWN, open_only=True)
        ]
        checked = await losses.check(connection, redis, orders, group)
    if not lost:
        lost = [
            _lost(name, loss.kind, loss.entries, write(loss.after), write(loss.until))
            for name, result in checked.items()
            if (loss := result.loss)
        ]
    outcomes = totals.applied + totals.stale + totals.duplicate + totals.dead_lettered
    miscounted = (
        [] if outcomes == totals.read else [{"counted": totals.read, "withOutcome": outcomes}]
    )
    return [
        *miscounted,
        *(
            {
                "stream": name,
                "entriesReadByGroup": backlog.entries_read,
                "pending": backlog.pending,
                "counted": accounted[name],
            }
            for name, backlog in backlogs.items()
            if backlog.entries_read - backlog.pending > accounted[name]
        ),
        *lost,
    ]


def _lost(
    stream: str, kind: LossKind, entries: int | None, after: str, until: str
) -> dict[str, Any]:
    return {"stream": stream, "lost": entries, "how": kind.value, "after": after, "until": until}


async def recount(connection: AsyncConnection) -> list[dict[str, Any]]:
    """Return the stored statistics that differ from a recount. Call it in one snapshot."""
    kept, counted = await read_figures(connection), await recount_figures(connection)
    return [
        {"segment": segment.value, "kept": kept[segment], "recounted": counted[segment]}
        for segment in kept
        if kept[segment] != counted[segment]
    ] + await daily.mismatches(connection, _MOST_SHOWN)


async def _published_differences(
    engine: AsyncEngine, redis: Redis, stream: str
) -> list[dict[str, Any]]:
    """Consume the out-stream as a subscriber does; return where it differs from the database.

    Faults of the stream itself (an entry that is no segment change, a gap in a customer's sequence)
    are returned as well.
    """
    async with engine.connect() as connection:
        last = (await state(connection)).published
        consumed, first, faults = await _consume(redis, stream, last)
        rows = await connection.execute(_LATEST_PUBLISHED, {"first": first, "last": last})
        stored = {customer_ref(row.customer_id): (row.sequence, row.segment) for row in rows}
        faults += await _foreign(connection, redis, stream, last)
    faults += [
        {"customer": customer, "inStream": consumed.get(customer), "stored": stored.get(customer)}
        for customer in sorted(consumed.keys() | stored.keys())
        if consumed.get(customer) != stored.get(customer)
    ]
    return faults[:_MOST_SHOWN]


async def _foreign(
    connection: AsyncConnection, redis: Redis, stream: str, last: int
) -> list[dict[str, Any]]:
    """Return what the relay has not published and still is or was on the stream."""
    tail = await read_tail(connection, redis, stream, last, (last, 0))
    unexpected: list[dict[str, Any]] = [
        {"entry": write(each.entry.id), "fault": each.reason} for each in tail.foreign
    ]
    if (summary := await foreign_entries.summary(connection)).unknown or tail.unknown:
        count = summary.unknown + len(tail.unknown)
        unexpected.append({"unknownChanges": count, "remedy": "crm recover"})
    open_records = await foreign_entries.records(connection, most=_MOST_SHOWN, open_only=True)
    return unexpected + [
        {"record": each.id, "entries": each.entries, "fault": each.reason, "remedy": "crm foreign"}
        for each in open_records
    ]


async def _consume(
    redis: Redis, stream: str, last: int
) -> tuple[dict[str, tuple[int, str]], int, list[dict[str, Any]]]:
    """Read the out-stream up to publish number ``last``.

    Return the latest sequence and segment of each customer, the first number read, and the faults.
    """
    latest: dict[str, tuple[int, str]] = {}
    faults: list[dict[str, Any]] = []
    ends_at = await groups.last_number(redis, stream)
    if ends_at < last:
        faults.append({"streamEndsAt": ends_at, "published": last})
    first, start, read_to = last + 1, "-", 0
    while True:
        page = await read_range(redis, stream, start, f"{last}-0", Limits(_PAGE))
        oldest = await read_range(redis, stream, "-", "+", Limits(1))
        if start == "-" or (oldest and oldest[0].milliseconds > read_to):
            # This is the first page, or the stream was trimmed beyond what we have read. Entries
            # between two pages may then be gone, so begin again with this page.
            first = page[0].milliseconds if page else last + 1
            latest.clear()
        if not page:
            return latest, first, faults
        for entry in page:
            try:
                change = orjson.loads(entry.fields[FASTSTREAM_FIELD])["data"]
                customer, sequence = str(change["customerId"]), int(change["sequence"])
                segment = str(change["segment"])
            except (KeyError, TypeError, ValueError, OverflowError):
                faults.append({"entry": entry.id, "fault": "not a segment change"})
                continue
            before = latest.get(customer)
            if before and sequence != before[0] + 1:
                faults.append({"customer": customer, "after": before[0], "came": sequence})
            latest[customer] = (sequence, segment)
        start, read_to = f"({page[-1].id}", page[-1].milliseconds
