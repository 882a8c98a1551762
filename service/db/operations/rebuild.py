"""Recompute every metric and segment from stored orders, beside the live tables.

What differs is found chunk by chunk, each in one snapshot, so that orders coming in meanwhile are
no difference. What is to be mended is locked as ingestion locks it, recomputed under the lock and
written by `service.db.segments.assign`: right, whatever happened in between. A chunk is a
transaction, so a rebuild that was interrupted is simply run again.
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
from service.db.engine import TRANSACTION_SECONDS, end_within, in_transaction
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

# The date of any order, counted or not, ends a hold that was set before it.
_AFTER = f"""
after AS (
  SELECT c.ctid AS place, c.id, {registers.listed("c")}, c.date_created,
    c.segment, c.segment_manual, c.segment_pinned, c.segment_pinned_until, c.segment_held_since,
    c.total_orders AS kept_orders, c.total_spent AS kept_spent,
    c.first_order_date AS kept_first, c.last_order_date AS kept_last, o.*
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
# What is due to a sweep or to new settings is their business, and no difference.
_DIFFERENT = text(f"""
WITH {_AFTER}, {JUDGED}, {PROMISED},
compared AS (
  SELECT j.*,
    (kept_orders, kept_spent, kept_first, kept_last) IS DISTINCT FROM
      (total_orders, total_spent, first_order_date, last_order_date) AS counted_otherwise,
    CASE WHEN segment_manual
      THEN NOT held AND coalesce(
        segment_pinned_until < CAST(:now AS timestamptz) - CAST(:promise AS interval), true)
      ELSE judged_segment <> segment AND {segment_sql("j", "p")} <> segment
        AND NOT EXISTS (
          SELECT FROM settings_changes s WHERE s.finished_at IS NULL AND j.id > s.last_id)
    END AS judged_otherwise
  FROM judged j CROSS JOIN promised p
)
SELECT id, counted_otherwise, kept_orders, kept_spent, kept_first, kept_last, segment,
       total_orders, total_spent, first_order_date, last_order_date, judged_segment
FROM compared WHERE counted_otherwise OR judged_otherwise ORDER BY id
""")
_MEND = text(
    assign_sql(
        _AFTER,
        "SELECT count(*) FROM moved CROSS JOIN (SELECT count(*) FROM announced) a",
    )
)

_HOLD_COUNTERS = text(
    "SELECT slot, segment FROM segment_counters ORDER BY slot, segment FOR NO KEY UPDATE"
)
_COUNT = text(f"""
UPDATE segment_counters SET {each_figure("{it} = {it} + :{it}")}
WHERE slot = 0 AND segment = :segment
""")
_TELL = text(
    daily.changed_sql(
        f"""(SELECT 0 AS slot, CAST(:segment AS text) AS segment,
          {each_figure("CAST(:{it} AS numeric) AS {it}")}) changes""",
        "clock_timestamp()",
    )
)
_DATE = text(
    daily.dated_sql(
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


class Side(NamedTuple):
    """A customer's figures and segment."""

    total_orders: int
    total_spent: Decimal
    first_order_date: datetime | None
    last_order_date: datetime | None
    segment: str


class Difference(NamedTuple):
    """A customer who differs."""

    customer_id: int
    kept: Side
    rebuilt: Side


@dataclass
class RebuildReport:
    """What a rebuild found, and whether it wrote it."""

    applied: bool
    examined: int = 0
    customers: int = 0
    """Of them, those who differ."""
    figures: int = 0
    """Of those, by their metrics."""
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    """And by their segment: how many from which to which."""
    first: list[Difference] = field(default_factory=list)
    statistics: list[dict[str, Any]] = field(default_factory=list)
    """Kept totals that no recount arrives at."""

    @property
    def clean(self) -> bool:
        """Whether nothing differed."""
        return not self.customers and not self.statistics


async def rebuild(
    engine: AsyncEngine,
    *,
    apply: bool,
    actor: str,
    show: int = 20,
    progress: Callable[[int], object] = lambda _: None,
) -> RebuildReport:
    """Compare everything, and write what differs if ``apply``; ``show`` bounds `Report.first`.

    ``progress`` is called with the number of customers of each chunk.
    """
    report = RebuildReport(apply)
    after = 0
    while ids := await _next_ids(engine, after):
        rows = await _different(engine, ids)
        for row in rows:
            _add(report, row, show)
        if apply and rows:
            differing = [row.id for row in rows]
            await in_transaction(engine, lambda it, ids=differing: _mend(it, ids))  # type: ignore[misc]
        report.examined += len(ids)
        after = ids[-1]
        progress(len(ids))
    async with engine.connect() as pooled:
        connection = await pooled.execution_options(isolation_level="REPEATABLE READ")
        report.statistics = await recount(connection)
    if apply and report.statistics:
        await in_transaction(engine, _mend_statistics)
    if apply and not report.clean:
        details = {"customers": report.customers, "statistics": len(report.statistics)}
        async with engine.begin() as connection:
            await note(connection, actor, "rebuild.applied", details=details)
    return report


async def _next_ids(engine: AsyncEngine, after: int) -> Sequence[int]:
    async with engine.connect() as connection:
        return (await connection.execute(_IDS, {"after": after, "most": CHUNK})).scalars().all()


async def _different(engine: AsyncEngine, ids: Sequence[int]) -> Sequence[Row[Any]]:
    async with engine.connect() as connection:
        now = await read_clock(connection)
        parameters = {"ids": ids, "now": now, "promise": SWEEP_PROMISE}
        return (await connection.execute(_DIFFERENT, parameters)).all()


def _add(report: RebuildReport, row: Row[Any], show: int) -> None:
    kept = Side(row.kept_orders, row.kept_spent, row.kept_first, row.kept_last, row.segment)
    rebuilt = Side(
        row.total_orders,
        row.total_spent,
        row.first_order_date,
        row.last_order_date,
        row.judged_segment,
    )
    report.customers += 1
    report.figures += row.counted_otherwise
    if kept.segment != rebuilt.segment:
        report.moves[kept.segment, rebuilt.segment] += 1
    if len(report.first) < show:
        report.first.append(Difference(row.id, kept, rebuilt))


async def _mend(connection: AsyncConnection, ids: Sequence[int]) -> None:
    await end_within(connection, TRANSACTION_SECONDS)  # the connection is one for long scans
    now = await lock_customers(connection, ids)
    await connection.execute(_MEND, {"ids": ids, "now": now, "cause": Cause.REBUILD.value})


async def _mend_statistics(connection: AsyncConnection) -> None:
    """Set what is kept by segment and by day to what a recount gives.

    Whoever changes what they count writes them in the same transaction: holding them all, what is
    visible is exactly what has been counted.
    """
    await connection.execute(_HOLD_COUNTERS)
    await _change(
        connection, _COUNT, await recount_figures(connection), [await read_figures(connection)]
    )
    told = await daily.read_changes(connection, date.min)
    await _change(connection, _TELL, await read_figures(connection), told.values())
    await connection.execute(_DATE)


async def _change(
    connection: AsyncConnection,
    statement: TextClause,
    right: Figures,
    kept: Iterable[Mapping[Segment, SegmentFigures]],
) -> None:
    """Add to each segment what is missing between ``kept``, added up, and what is right."""
    for by in kept:
        right = daily.before(right, by)
    for segment, missing in right.items():
        if any(missing):
            await connection.execute(statement, {"segment": segment.value, **missing._asdict()})
