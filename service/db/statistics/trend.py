"""Segments and key figures by day of the store's time zone.

They are read from the daily totals, so the cost does not grow with customers and orders.
"""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_rules import Segment
from service.db.locks import read_clock
from service.db.statistics.counters import read_figures
from service.db.statistics.daily import Total, read_changes, read_totals, undo_changes
from service.db.statistics.generations import Generation, read_generation


class TrendPoint(NamedTuple):
    """A day. Customers, orders and revenue count on the day of their own date."""

    day: date
    segments: Mapping[Segment, int]
    """Customers per segment when the day ended, as was known then. An order of last year that
    arrived today moved its customer today; an erased customer left on the day of the erasure."""
    reconstructed: bool
    """``segments`` are what today's orders and today's rules give for the end of the day, without
    holds: nobody knew them then."""
    total_customers: int
    """Created up to the end of the day."""
    new_customers: int
    """Created on the day."""
    orders: int
    """Counted orders placed on the day, attributed or not."""
    revenue: Decimal
    """Their total less refunds: a refund reduces the day of its order."""


class Trend(NamedTuple):
    """Days in a row, the oldest first. The last one is today up to now."""

    points: list[TrendPoint]
    generation: Generation
    """The daily figures that were read: their time zone, and up to when they are reconstructed."""


async def trend(connection: AsyncConnection, days: int, now: datetime | None = None) -> Trend:
    """Return the last ``days`` days. Today goes up to ``now``.

    Without ``now``, the time is the database's. Read it in one snapshot, because the counters have
    to agree with the daily changes.
    """
    generation = await read_generation(connection)
    today = (now or await read_clock(connection)).astimezone(generation.zone).date()
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
        points.append(
            TrendPoint(
                day,
                segments={segment: figures[segment].customers for segment in Segment},
                reconstructed=generation.reconstructs(day),
                total_customers=customers,
                new_customers=total.created,
                orders=total.orders,
                revenue=total.revenue,
            )
        )
        figures = undo_changes(figures, changes.get(day, {}))
        customers -= total.created
    return Trend(points[::-1], generation)
