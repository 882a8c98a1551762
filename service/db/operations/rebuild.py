"""Recompute every metric and segment from stored orders, and correct what differs.

Differences are found chunk by chunk. Each chunk is read in one snapshot, so orders that arrive
meanwhile are no difference. Customers who differ are locked as ingestion locks them, recomputed
under the lock and written by `service.db.segments.assign`. The result is right whatever happened
between finding and locking. A chunk is corrected in one transaction, so after an interruption a
rebuild is simply run again.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.core.segment_event import Cause
from service.core.segment_rules import Segment
from service.db import registers
from service.db.accounts.audit import note
from service.db.engine import TRANSACTION_SECONDS, in_transaction, limit_transaction
from service.db.figures import Figures, SegmentFigures, each_figure
from service.db.locks import lock_customers, read_clock
from service.db.operations.status import SWEEP_PROMISE
from service.db.operations.verify import recount
from service.db.segments.assign import JUDGED, assign_sql
from service.db.segments.rules_sql import PROMISED, segment_sql
from service.db.statistics import daily
from service.db.statistics.counters import read_figures, recount_figures

CHUNK = 2000
"""Customers recomputed at once."""

# A hold ends with an order that was placed after it, whether that order counts or not.
_AFTER = f"""
after AS (
  SELECT c.ctid AS place, c.id, {registers.listed("c")}, c.date_created,
    c.segment, c.segment_manual, c.segment_pinned, c.segment_pinned_until, c.segment_held_since,
    c.total_orders AS stored_orders, c.total_spent AS stored_spent,
    c.first_order_date AS stored_first, c.last_order_date AS stored_last, o.*
  FROM customers c CROSS JOIN LATERAL (
    SELECT CAST(count(*) FILTER (WHERE counts) AS integer) AS total_orders,
           coalesce(sum(total - refunded) FILTER (WHERE counts), 0.00) AS total_spent,
           min(date_created) FILTER (WHERE counts) AS first_order_date,
           max(date_created) FILTER (WHERE counts) AS last_order_date,
           max(date_created) AS newest_order
    FROM orders WHERE customer_id = c.id
  ) o
  WHERE c.id = ANY(:ids)
)"""
_IDS = text("SELECT id FROM customers WHERE id > :after ORDER BY id LIMIT :most")
# A segment that the sweep or the job of new settings still has time to assign is no difference.
_DIFFERENCES = text(f"""
WITH {_AFTER}, {JUDGED}, {PROMISED},
compared AS (
  SELECT j.*,
    (stored_orders, stored_spent, stored_first, stored_last) IS DISTINCT FROM
      (total_orders, total_spent, first_order_date, last_order_date) AS metrics_differ,
    CASE WHEN segment_manual
      THEN NOT held AND coalesce(
        segment_pinned_until < CAST(:now AS timestamptz) - CAST(:promise AS interval), true)
      ELSE judged_segment <> segment AND {segment_sql("j", "p")} <> segment
        AND NOT EXISTS (
          SELECT FROM settings_changes s WHERE s.finished_at IS NULL AND j.id > s.last_id)
    END AS segment_differs
  FROM judged j CROSS JOIN promised p
)
SELECT id, metrics_differ, stored_orders, stored_spent, stored_first, stored_last, segment,
       total_orders, total_spent, first_order_date, last_order_date, judged_segment
FROM compared WHERE metrics_differ OR segment_differs ORDER BY id
""")
_CORRECT = text(
    assign_sql(
        _AFTER,
        "SELECT count(*) FROM updated CROSS JOIN (SELECT count(*) FROM announced) a",
    )
)

_LOCK_COUNTERS = text(
    "SELECT slot, segment FROM segment_counters ORDER BY slot, segment FOR NO KEY UPDATE"
)
_ADD_TO_COUNTERS = text(f"""
UPDATE segment_counters SET {each_figure("{figure} = {figure} + :{figure}")}
WHERE slot = 0 AND segment = :segment
""")
_ADD_TO_DAILY_CHANGES = text(
    daily.daily_changes_sql(
        f"""(SELECT 0 AS slot, CAST(:segment AS text) AS segment,
          {each_figure("CAST(:{figure} AS numeric) AS {figure}")}) changes""",
        "clock_timestamp()",
    )
)
_CORRECT_DAILY_TOTALS = text(
    daily.daily_totals_sql(
        """(
          SELECT date_created AS at, 1 AS created, 0 AS orders, 0.00 AS revenue FROM customers
          UNION ALL
          SELECT date_created, 0, 1, total - refunded FROM orders WHERE counts
          UNION ALL
          SELECT day AT TIME ZONE 'UTC', -created, -orders, -revenue FROM daily_totals
        ) dated""",
        "0",
    )
)


class CustomerMetrics(NamedTuple):
    """A customer's metrics and segment, as they are stored or as they should be."""

    total_orders: int
    total_spent: Decimal
    first_order_date: datetime | None
    last_order_date: datetime | None
    segment: str


class Difference(NamedTuple):
    """A customer whose metrics or segment are not what their orders give."""

    customer_id: int
    stored: CustomerMetrics
    rebuilt: CustomerMetrics


@dataclass
class RebuildReport:
    """The differences that a rebuild found."""

    applied: bool
    """The differences were corrected."""
    examined: int = 0
    """Customers recomputed."""
    customers: int = 0
    """Customers who differ in their metrics or their segment."""
    figures: int = 0
    """Customers who differ in their metrics."""
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    """The number of customers per pair of stored and right segment."""
    first: list[Difference] = field(default_factory=list)
    """The first customers who differ, as examples."""
    statistics: list[dict[str, Any]] = field(default_factory=list)
    """The stored statistics that differ from a recount."""

    @property
    def clean(self) -> bool:
        """Return whether nothing differed."""
        return not self.customers and not self.statistics


async def rebuild(
    engine: AsyncEngine,
    *,
    apply: bool,
    actor: str,
    show: int = 20,
    progress: Callable[[int], object] = lambda _: None,
) -> RebuildReport:
    """Compare all customers and statistics with a recount. With ``apply``, correct the differences.

    ``show`` is the greatest length of `RebuildReport.first`. ``progress`` is called after each
    chunk, with its number of customers.
    """
    report = RebuildReport(apply)
    after = 0
    while ids := await _next_ids(engine, after):
        rows = await _differences(engine, ids)
        for row in rows:
            _add(report, row, show)
        if apply and rows:
            await in_transaction(engine, _correct, [row.id for row in rows])
        report.examined += len(ids)
        after = ids[-1]
        progress(len(ids))
    async with engine.connect() as pooled:
        connection = await pooled.execution_options(isolation_level="REPEATABLE READ")
        report.statistics = await recount(connection)
    if apply and report.statistics:
        await in_transaction(engine, _correct_statistics)
    if apply and not report.clean:
        details = {"customers": report.customers, "statistics": len(report.statistics)}
        async with engine.begin() as connection:
            await note(connection, actor, "rebuild.applied", details=details)
    return report


async def _next_ids(engine: AsyncEngine, after: int) -> Sequence[int]:
    async with engine.connect() as connection:
        return (await connection.execute(_IDS, {"after": after, "most": CHUNK})).scalars().all()


async def _differences(engine: AsyncEngine, ids: Sequence[int]) -> Sequence[Row[Any]]:
    async with engine.connect() as connection:
        now = await read_clock(connection)
        parameters = {"ids": ids, "now": now, "promise": SWEEP_PROMISE}
        return (await connection.execute(_DIFFERENCES, parameters)).all()


def _add(report: RebuildReport, row: Row[Any], show: int) -> None:
    stored = CustomerMetrics(
        row.stored_orders, row.stored_spent, row.stored_first, row.stored_last, row.segment
    )
    rebuilt = CustomerMetrics(
        row.total_orders,
        row.total_spent,
        row.first_order_date,
        row.last_order_date,
        row.judged_segment,
    )
    report.customers += 1
    report.figures += row.metrics_differ
    if stored.segment != rebuilt.segment:
        report.moves[stored.segment, rebuilt.segment] += 1
    if len(report.first) < show:
        report.first.append(Difference(row.id, stored, rebuilt))


async def _correct(connection: AsyncConnection, ids: Sequence[int]) -> None:
    # The connection allows scans of an hour, but this transaction judges customers.
    await limit_transaction(connection, TRANSACTION_SECONDS)
    now = await lock_customers(connection, ids)
    await connection.execute(_CORRECT, {"ids": ids, "now": now, "cause": Cause.REBUILD.value})


async def _correct_statistics(connection: AsyncConnection) -> None:
    """Set the statistics per segment and per day to what a recount gives.

    Every transaction that changes customers or orders writes these counters, too. While we hold a
    lock on all counters, the customers and orders that we see are exactly those that were counted.
    """
    await connection.execute(_LOCK_COUNTERS)
    counted, stored = await recount_figures(connection), await read_figures(connection)
    await _add_missing(connection, _ADD_TO_COUNTERS, counted, [stored])
    corrected = await read_figures(connection)
    changes = await daily.read_changes(connection, date.min)
    await _add_missing(connection, _ADD_TO_DAILY_CHANGES, corrected, changes.values())
    await connection.execute(_CORRECT_DAILY_TOTALS)


async def _add_missing(
    connection: AsyncConnection,
    statement: TextClause,
    right: Figures,
    stored: Iterable[Mapping[Segment, SegmentFigures]],
) -> None:
    """Add to each segment the difference between ``right`` and the sum of the stored figures."""
    missing = right
    for part in stored:
        missing = daily.undo_changes(missing, part)
    for segment, figures in missing.items():
        if any(figures):
            await connection.execute(statement, {"segment": segment.value, **figures._asdict()})
