"""Segments and key figures by UTC day.

They are read from the daily totals, so the cost does not grow with customers and orders.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_rules import Segment
from service.db.locks import read_clock
from service.db.statistics.counters import read_figures
from service.db.statistics.daily import Total, read_changes, read_totals, undo_changes


class TrendPoint(NamedTuple):
    """A UTC day. Customers, orders and revenue count on the day of their own date."""

    day: date
    segments: Mapping[Segment, int]
    """Customers per segment when the day ended, as was known then. An order of last year that was
    imported today moved its customer today; an erased customer left on the day of the erasure."""
    total_customers: int
    """Created up to the end of the day."""
    new_customers: int
    """Created on the day."""
    orders: int
    """Counted orders placed on the day, attributed or not."""
    revenue: Decimal
    """Their total less refunds."""


async def trend(
    connection: AsyncConnection, days: int, now: datetime | None = None
) -> list[TrendPoint]:
    """Return the last ``days`` UTC days, the oldest first. Today goes up to ``now``.

    Without ``now``, the time is the database's. Read it in one snapshot, because the counters have
    to agree with the daily changes.
    """
    today = (now or await read_clock(connection)).astimezone(UTC).date()
    first = today - timedelta(days=days - 1)
    figures = await read_figures(connection)
    changes = await read_changes(connection, first)
    totals = await read_totals(connection, first)
    # Publishers' clocks may be ahead, so some customers were created tomorrow.
    customers = sum(figure.customers for figure in figures.values())
    customers -= sum(total.created for day, total in totals.items() if day > today)
    points: list[TrendPoint] = []
    for day in (today - timedelta(days=n) for n in range(days)):
        total = totals.get(day, Total())
        segments = {segment: figures[segment].customers for segment in Segment}
        points.append(
            TrendPoint(day, segments, customers, total.created, total.orders, total.revenue)
        )
        figures = undo_changes(figures, changes.get(day, {}))
        customers -= total.created
    return points[::-1]
