"""Set counters and daily figures to what a recount gives."""

from collections.abc import Iterable, Mapping
from datetime import date

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_rules import Segment
from service.db.figures import Figures, SegmentFigures, each_figure
from service.db.locks import AdvisoryLock, wait_for_lock
from service.db.statistics import daily
from service.db.statistics.counters import read_figures, recount_figures

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
# Past days that are being computed in a snapshot from before this would be wrong. This makes their
# transaction fail, and begin again.
_RESTART_PAST_DAYS = text("UPDATE daily_generations SET counted_at = counted_at")


async def correct_statistics(connection: AsyncConnection) -> None:
    """Set the statistics per segment and per day to what a recount gives.

    Every transaction that changes customers or orders writes these counters, too. While we hold a
    lock on all counters, the customers and orders that we see are exactly those that were counted.
    """
    await wait_for_lock(connection, AdvisoryLock.PAST_DAYS)
    await connection.execute(_RESTART_PAST_DAYS)
    await connection.execute(_LOCK_COUNTERS)
    counted, stored = await recount_figures(connection), await read_figures(connection)
    await _add_missing(connection, _ADD_TO_COUNTERS, counted, [stored])
    corrected = await read_figures(connection)
    changes = await daily.read_changes(connection, date.min)
    await _add_missing(connection, _ADD_TO_DAILY_CHANGES, corrected, changes.values())
    await daily.correct_totals(connection)


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
