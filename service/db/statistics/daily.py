"""Figures kept by UTC day, written by the transaction that changes them: reading adds up days.

`daily_changes` says by how much the counters of a segment changed on the day we were *told*: the
counters of today less the changes since give what was known when a day ended. `daily_totals`
has what is *dated* in a day, whenever it was told: customers by `dateCreated`, orders by theirs.

Both are spread over slots. Who writes them holds all counters of its slot, so nobody waits here.
"""

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_rules import Segment
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
    """What is dated in a day."""

    created: int = 0
    """Customers whose ``dateCreated`` lies in it."""
    orders: int = 0
    """Counted orders, attributed or not."""
    revenue: Decimal = Decimal(0)
    """Their total less refunds."""


def day_of(moment: str) -> str:
    """Write SQL for the UTC day of a moment."""
    return f"CAST({moment} AT TIME ZONE 'UTC' AS date)"


def _added(table: str, columns: tuple[str, ...]) -> str:
    return ", ".join(f"{column} = {table}.{column} + excluded.{column}" for column in columns)


def changed_sql(changes: str, moment: str) -> str:
    """Write the INSERT that keeps what was told at a moment.

    ``changes`` is a relation of slot, segment and `FIGURES`; its counters are locked.
    """
    return f"""
  INSERT INTO daily_changes AS d (day, slot, segment, {", ".join(FIGURES)})
  SELECT {day_of(moment)}, slot, segment, {", ".join(FIGURES)} FROM {changes}
  ORDER BY segment
  ON CONFLICT (day, slot, segment) DO UPDATE SET {_added("d", FIGURES)}"""


def dated_sql(dated: str, slot: str) -> str:
    """Write the INSERT that keeps what is dated in days.

    ``dated`` is a relation of ``at`` and the fields of `Total`, by how much they rose; ``slot``
    a scalar, whose counters are locked.
    """
    sums = ", ".join(f"sum({field}) AS {field}" for field in Total._fields)
    return f"""
  INSERT INTO daily_totals AS t (day, slot, {", ".join(Total._fields)})
  SELECT {day_of("midnight")} AS day, {slot}, {", ".join(Total._fields)} FROM (
    -- cheaper than the day, and as many
    SELECT date_bin('1 day', at, '2000-01-01 00:00Z') AS midnight, {sums} FROM {dated} GROUP BY 1
  ) sums
  WHERE ({", ".join(Total._fields)}) <> (0, 0, 0) ORDER BY day
  ON CONFLICT (day, slot) DO UPDATE SET {_added("t", Total._fields)}"""


_CHANGES = text(f"""
SELECT day, segment, {each_figure("sum({it}) AS {it}")}
FROM daily_changes WHERE day >= :first GROUP BY day, segment
""")
_KNOWN = text("SELECT EXISTS (SELECT FROM daily_changes WHERE day <= :day)")
_TOTALS = text(f"""
SELECT day, {", ".join(f"sum({it}) AS {it}" for it in Total._fields)}
FROM daily_totals WHERE day >= :first GROUP BY day
""")
_KEPT_TOTALS = f"""
SELECT day, {", ".join(f"sum({it}) AS {it}" for it in Total._fields)}
FROM daily_totals GROUP BY day"""
_COUNTED_TOTALS = f"""
SELECT day, sum(created), sum(orders), sum(revenue) FROM (
  SELECT {day_of("date_created")} AS day, count(*) AS created, 0 AS orders, 0 AS revenue
  FROM customers GROUP BY 1
  UNION ALL
  SELECT {day_of("date_created")}, 0, count(*), sum(total - refunded)
  FROM orders WHERE counts GROUP BY 1
) both_kinds GROUP BY day"""
_OFFENDING_TOTALS = text(f"""
WITH kept AS ({_KEPT_TOTALS} HAVING (sum(created), sum(orders), sum(revenue)) <> (0, 0, 0)),
counted AS ({_COUNTED_TOTALS})
(SELECT 'kept' AS side, * FROM (SELECT * FROM kept EXCEPT SELECT * FROM counted) k)
UNION ALL
(SELECT 'recounted', * FROM (SELECT * FROM counted EXCEPT SELECT * FROM kept) c)
ORDER BY day LIMIT :most
""")


async def read_changes(connection: AsyncConnection, first: date) -> dict[date, Figures]:
    """Give by how much each segment's counters changed on each day from ``first`` on."""
    found: dict[date, Figures] = {}
    for row in await connection.execute(_CHANGES, {"first": first}):
        found.setdefault(row.day, {})[Segment(row.segment)] = figures_of(row)
    return found


async def read_totals(connection: AsyncConnection, first: date) -> dict[date, Total]:
    """Give what is dated in each day from ``first`` on, in days to come as well."""
    rows = await connection.execute(_TOTALS, {"first": first})
    return {row.day: Total(int(row.created), int(row.orders), row.revenue) for row in rows}


def before(figures: Figures, changes: Mapping[Segment, SegmentFigures]) -> Figures:
    """Take changes back."""
    return {segment: minus(now, changes.get(segment, NOTHING)) for segment, now in figures.items()}


async def figures_at(connection: AsyncConnection, day: date) -> Figures | None:
    """Give the figures of everybody as they were known when a UTC day ended.

    None: nothing had been told by then. Read in one snapshot.
    """
    if not (await connection.execute(_KNOWN, {"day": day})).scalar_one():
        return None
    figures = await read_figures(connection)
    since = await read_changes(connection, day + timedelta(days=1))
    for changes in since.values():
        figures = before(figures, changes)
    return figures


async def offenders(connection: AsyncConnection, most: int) -> list[dict[str, Any]]:
    """Recount: give what is kept here and is not what the tables say."""
    left = await read_figures(connection)
    for changes in (await read_changes(connection, date.min)).values():
        left = before(left, changes)
    wrong = [
        {"segment": segment.value, "changedOnNoDay": figures}
        for segment, figures in left.items()
        if any(figures)
    ]
    rows = await connection.execute(_OFFENDING_TOTALS, {"most": most})
    return wrong + [dict(row) for row in rows.mappings()]
