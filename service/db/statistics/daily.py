"""Figures by day. The transaction that changes a figure writes it; reading adds up days.

The table `daily_changes` says by how much the counters of a segment changed on the day when we
learned of a change. Today's counters less the later changes are what was known when a day ended.
The table `daily_totals` counts customers and orders on the day of their own `dateCreated`, whenever
we learned of them.

Days are those of the store's time zone: see `generations`. Both tables are spread over slots. A
writer holds locks on all counters of its slot first, so it never waits for a row of these tables.
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
from service.db.schema import GENERATION_SLOTS
from service.db.statistics.counters import read_figures
from service.db.statistics.generations import COMPUTED_SLOT, IN_USE, READ


class Total(NamedTuple):
    """The customers and orders that are dated on one day."""

    created: int = 0
    """Customers created on the day."""
    orders: int = 0
    """Counted orders, attributed or not."""
    revenue: Decimal = Decimal(0)
    """Their total less refunds."""


TOTALS = Total._fields
_SUM_TOTALS = ", ".join(f"sum({field}) AS {field}" for field in TOTALS)
_ANY_TOTAL = " OR ".join(f"sum({field}) <> 0" for field in TOTALS)


def day_of(moment: str, zone: str = "g.time_zone") -> str:
    """Return the SQL expression for the day of a moment in a time zone."""
    return f"CAST({moment} AT TIME ZONE {zone} AS date)"


def _added(table: str, columns: tuple[str, ...]) -> str:
    return ", ".join(f"{column} = {table}.{column} + excluded.{column}" for column in columns)


def _slot(slot: str) -> str:
    return f"{slot} + {GENERATION_SLOTS} * g.generation"


def daily_changes_sql(changes: str, moment: str) -> str:
    """Return the INSERT that adds changes of counters to the day of ``moment``.

    ``changes`` is a relation of slot, segment and `FIGURES`. The caller has locked its counters.
    """
    return f"""
  INSERT INTO daily_changes AS d (day, slot, segment, {", ".join(FIGURES)})
  SELECT {day_of(moment)}, {_slot("slot")}, segment, {", ".join(FIGURES)}
  FROM {changes} CROSS JOIN daily_generations g
  ORDER BY g.generation, segment
  ON CONFLICT (day, slot, segment) DO UPDATE SET {_added("d", FIGURES)}"""


def daily_totals_sql(dated: str, slot: str) -> str:
    """Return the INSERT that adds differences to the totals of days.

    ``dated`` is a relation of ``at``, a moment of the day, and the fields of `Total`, which hold
    the differences. ``slot`` is a scalar. The caller has locked the counters of this slot.
    """
    return f"""
  INSERT INTO daily_totals AS t (day, slot, {", ".join(TOTALS)})
  SELECT {day_of("at")} AS day, {_slot(slot)}, {_SUM_TOTALS}
  FROM {dated} CROSS JOIN daily_generations g
  GROUP BY g.generation, day
  HAVING {_ANY_TOTAL}
  ORDER BY g.generation, day
  ON CONFLICT (day, slot) DO UPDATE SET {_added("t", TOTALS)}"""


_CHANGES = text(f"""
SELECT day, segment, {each_figure("sum({figure}) AS {figure}")}
FROM daily_changes WHERE {READ} AND day >= :first GROUP BY day, segment
""")
_ANY_KNOWN = text(f"SELECT EXISTS (SELECT FROM daily_changes WHERE {READ} AND day <= :day)")
_TOTALS = text(f"""
SELECT day, {_SUM_TOTALS}
FROM daily_totals WHERE {READ} AND day >= :first GROUP BY day
""")
_ZONE = f"(SELECT time_zone FROM daily_generations WHERE generation = {IN_USE})"
_STORED_TOTALS = f"""
SELECT day, {_SUM_TOTALS}
FROM daily_totals WHERE {READ} GROUP BY day"""
_RECOUNTED_TOTALS = f"""
SELECT day, {_SUM_TOTALS} FROM (
  SELECT {day_of("date_created", _ZONE)} AS day, count(*) AS created, 0 AS orders, 0 AS revenue
  FROM customers GROUP BY 1
  UNION ALL
  SELECT {day_of("date_created", _ZONE)}, 0, count(*), sum(net)
  FROM orders WHERE counts GROUP BY 1
) both_kinds GROUP BY day"""
_MISMATCHED_TOTALS = text(f"""
WITH kept AS ({_STORED_TOTALS} HAVING {_ANY_TOTAL}),
counted AS ({_RECOUNTED_TOTALS})
(SELECT 'kept' AS side, * FROM (SELECT * FROM kept EXCEPT SELECT * FROM counted) k)
UNION ALL
(SELECT 'recounted', * FROM (SELECT * FROM counted EXCEPT SELECT * FROM kept) c)
ORDER BY day LIMIT :most
""")


_CORRECT_TOTALS = text(f"""
INSERT INTO daily_totals AS t (day, slot, {", ".join(TOTALS)})
SELECT day, {GENERATION_SLOTS} * {IN_USE} + {COMPUTED_SLOT}, {_SUM_TOTALS}
FROM (
  {_RECOUNTED_TOTALS}
  UNION ALL
  SELECT day, {", ".join(f"-{field}" for field in TOTALS)} FROM ({_STORED_TOTALS}) stored
) missing
GROUP BY day HAVING {_ANY_TOTAL}
ON CONFLICT (day, slot) DO UPDATE SET {_added("t", TOTALS)}
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


async def correct_totals(connection: AsyncConnection) -> None:
    """Set the totals of all days to a recount. The caller has locked all counters, and commits."""
    await connection.execute(_CORRECT_TOTALS)


def undo_changes(figures: Figures, changes: Mapping[Segment, SegmentFigures]) -> Figures:
    """Return the figures as they were before the changes."""
    return {segment: minus(now, changes.get(segment, NOTHING)) for segment, now in figures.items()}


async def figures_at(connection: AsyncConnection, day: date) -> Figures | None:
    """Return the figures of all customers as they were known when a day ended.

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
