"""Figures by UTC day. The transaction that changes a figure writes it; reading adds up days.

The table `daily_changes` says by how much the counters of a segment changed on the day when we
learned of a change. Today's counters less the later changes are what was known when a day ended.
The table `daily_totals` counts customers and orders on the day of their own `dateCreated`, whenever
we learned of them.

Both tables are spread over slots. A writer holds locks on all counters of its slot first, so it
never waits for a row of these tables.
"""

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_rules import KNOWN_SEGMENTS, Segment
from service.db.figures import (
    FIGURES,
    NOTHING,
    Figures,
    SegmentFigures,
    each_figure,
    figures_of,
    minus,
)
from service.db.statistics.counters import read_figures


class Total(NamedTuple):
    """The customers and orders that are dated on one day."""

    created: int = 0
    """Customers created on the day."""
    orders: int = 0
    """Counted orders, attributed or not."""
    revenue: Decimal = Decimal(0)
    """Their total less refunds."""


_SUM_TOTALS = ", ".join(f"sum({field}) AS {field}" for field in Total._fields)


def day_of(moment: str) -> str:
    """Return the SQL expression for the UTC day of a moment."""
    return f"CAST({moment} AT TIME ZONE 'UTC' AS date)"


def _added(table: str, columns: tuple[str, ...]) -> str:
    return ", ".join(f"{column} = {table}.{column} + excluded.{column}" for column in columns)


def daily_changes_sql(changes: str, moment: str) -> str:
    """Return the INSERT that adds changes of counters to the day of ``moment``.

    ``changes`` is a relation of slot, segment and `FIGURES`. The caller has locked its counters.
    """
    return f"""
  INSERT INTO daily_changes AS d (day, slot, segment, {", ".join(FIGURES)})
  SELECT {day_of(moment)}, slot, segment, {", ".join(FIGURES)} FROM {changes}
  ORDER BY segment
  ON CONFLICT (day, slot, segment) DO UPDATE SET {_added("d", FIGURES)}"""


def daily_totals_sql(dated: str, slot: str) -> str:
    """Return the INSERT that adds differences to the totals of days.

    ``dated`` is a relation of ``at``, a moment of the day, and the fields of `Total`, which hold
    the differences. ``slot`` is a scalar. The caller has locked the counters of this slot.
    """
    return f"""
  INSERT INTO daily_totals AS t (day, slot, {", ".join(Total._fields)})
  SELECT {day_of("midnight")} AS day, {slot}, {", ".join(Total._fields)} FROM (
    -- one group per day; cheaper than a cast to the day for every row
    SELECT date_bin('1 day', at, '2000-01-01 00:00Z') AS midnight, {_SUM_TOTALS}
    FROM {dated} GROUP BY 1
  ) sums
  WHERE ({", ".join(Total._fields)}) <> (0, 0, 0) ORDER BY day
  ON CONFLICT (day, slot) DO UPDATE SET {_added("t", Total._fields)}"""


_CHANGES = text(f"""
SELECT day, segment, {each_figure("sum({figure}) AS {figure}")}
FROM daily_changes WHERE day >= :first GROUP BY day, segment
""")
_ANY_KNOWN = text("SELECT EXISTS (SELECT FROM daily_changes WHERE day <= :day)")
_TOTALS = text(f"""
SELECT day, {_SUM_TOTALS}
FROM daily_totals WHERE day >= :first GROUP BY day
""")
_STORED_TOTALS = f"""
SELECT day, {_SUM_TOTALS}
FROM daily_totals GROUP BY day"""
_RECOUNTED_TOTALS = f"""
SELECT day, sum(created), sum(orders), sum(revenue) FROM (
  SELECT {day_of("date_created")} AS day, count(*) AS created, 0 AS orders, 0 AS revenue
  FROM customers GROUP BY 1
  UNION ALL
  SELECT {day_of("date_created")}, 0, count(*), sum(net)
  FROM orders WHERE counts GROUP BY 1
) both_kinds GROUP BY day"""
_MISMATCHED_TOTALS = text(f"""
WITH kept AS ({_STORED_TOTALS} HAVING (sum(created), sum(orders), sum(revenue)) <> (0, 0, 0)),
counted AS ({_RECOUNTED_TOTALS})
(SELECT 'kept' AS side, * FROM (SELECT * FROM kept EXCEPT SELECT * FROM counted) k)
UNION ALL
(SELECT 'recounted', * FROM (SELECT * FROM counted EXCEPT SELECT * FROM kept) c)
ORDER BY day LIMIT :most
""")


async def read_changes(connection: AsyncConnection, first: date) -> dict[date, Figures]:
    """Return by how much the counters of each segment changed on each day from ``first`` on."""
    changes: dict[date, Figures] = {}
    for row in await connection.execute(_CHANGES, {"first": first}):
        if row.segment in KNOWN_SEGMENTS:
            changes.setdefault(row.day, {})[Segment(row.segment)] = figures_of(row)
    return changes


async def read_totals(connection: AsyncConnection, first: date) -> dict[date, Total]:
    """Return the totals of each day from ``first`` on. Days to come may have some, too."""
    rows = await connection.execute(_TOTALS, {"first": first})
    return {row.day: Total(int(row.created), int(row.orders), row.revenue) for row in rows}


def undo_changes(figures: Figures, changes: Mapping[Segment, SegmentFigures]) -> Figures:
    """Return the figures as they were before the changes."""
    return {segment: minus(now, changes.get(segment, NOTHING)) for segment, now in figures.items()}


async def figures_at(connection: AsyncConnection, day: date) -> Figures | None:
    """Return the figures of all customers as they were known when a UTC day ended.

    None if nothing was known by then. Call it in one snapshot.
    """
    if not (await connection.execute(_ANY_KNOWN, {"day": day})).scalar_one():
        return None
    figures = await read_figures(connection)
    since = await read_changes(connection, day + timedelta(days=1))
    for changes in since.values():
        figures = undo_changes(figures, changes)
    return figures


async def mismatches(connection: AsyncConnection, most: int) -> list[dict[str, Any]]:
    """Return the daily figures that differ from the counters or from a recount.

    At most ``most`` daily totals are returned. Call it in one snapshot.
    """
    unexplained = await read_figures(connection)
    for changes in (await read_changes(connection, date.min)).values():
        unexplained = undo_changes(unexplained, changes)
    segments = [
        {"segment": segment.value, "changedOnNoDay": figures}
        for segment, figures in unexplained.items()
        if any(figures)
    ]
    totals = await connection.execute(_MISMATCHED_TOTALS, {"most": most})
    return segments + [dict(row) for row in totals.mappings()]
