"""Key figures of the customers, all over the same set of them.

For everybody they are sums of counters kept with every change, a tenth of a millisecond however
many customers there are. For a period, the set is the customers created in it, read by an index.
"""

import time
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.rules import Segment

_CENT = Decimal("0.01")


class Window(NamedTuple):
    """A half-open span of time, ``start`` included, ``end`` not."""

    start: datetime
    end: datetime

    @property
    def before(self) -> "Window":
        """The span of the same length that ends where this one starts."""
        return Window(self.start - (self.end - self.start), self.start)


class SegmentFigures(NamedTuple):
    """Sums over the customers of one segment."""

    customers: int
    total_spent: Decimal
    with_orders: int
    repeat_customers: int


_COUNTERS = text("""
SELECT segment, sum(customers)::bigint AS customers, sum(total_spent) AS total_spent,
       sum(with_orders)::bigint AS with_orders, sum(repeat_customers)::bigint AS repeat_customers
FROM segment_counters GROUP BY segment
""")
_RECOUNT = """
SELECT segment, count(*) AS customers, sum(total_spent) AS total_spent,
       count(*) FILTER (WHERE total_orders >= 1) AS with_orders,
       count(*) FILTER (WHERE total_orders >= 2) AS repeat_customers
FROM customers {where} GROUP BY segment
"""
_IN_WINDOW = "WHERE date_created >= :start AND date_created < :end"
_COUNTED_IN_WINDOW = text(_RECOUNT.format(where=_IN_WINDOW))
_RECOUNTED = text(_RECOUNT.format(where=""))
# In cents: percentile_cont computes in floats, which hold whole numbers and halves exactly.
_MEDIANS = """
SELECT segment, percentile_cont(0.5) WITHIN GROUP (ORDER BY total_spent * 100) AS median
FROM customers {where} GROUP BY GROUPING SETS ((segment), ())
"""
_MEDIANS_OF_ALL = text(_MEDIANS.format(where=""))
_MEDIANS_IN_WINDOW = text(_MEDIANS.format(where=_IN_WINDOW))
_UNATTRIBUTED = text("SELECT count(*) FROM orders WHERE customer_id IS NULL AND NOT erased")
_UNATTRIBUTED_IN_WINDOW = text(
    "SELECT count(*) FROM orders WHERE customer_id IS NULL AND NOT erased"
    " AND date_created >= :start AND date_created < :end"
)
_RETENTION = text("""
WITH these AS (
  SELECT DISTINCT customer_id FROM orders
  WHERE counts AND customer_id IS NOT NULL AND date_created >= :start AND date_created < :end
), those AS (
  SELECT DISTINCT customer_id FROM orders
  WHERE counts AND customer_id IS NOT NULL AND date_created >= :before AND date_created < :start
)
SELECT (SELECT count(*) FROM these) AS ordered, (SELECT count(*) FROM those) AS ordered_before,
       (SELECT count(*) FROM those JOIN these USING (customer_id)) AS stayed
""")
_NOW = text("SELECT clock_timestamp()")

Figures = dict[Segment, SegmentFigures]
Medians = dict[Segment | None, Decimal]
"""Median total spent per segment, and under None that of all."""


class MedianCache:
    """Medians of everybody, which no counter can give, at a bounded share of the database.

    A scan that took a second is used for `_REUSE` seconds, one of a millisecond for as many
    milliseconds: small shops get exact values, large ones cost at most 1/`_REUSE` of one core.
    """

    _REUSE = 50

    def __init__(self) -> None:
        """Start empty."""
        self._medians: Medians = {}
        self._valid_until = 0.0

    async def get(self, connection: AsyncConnection) -> Medians:
        """Give the medians, scanning when the last scan is too old."""
        started = time.monotonic()
        if started >= self._valid_until:
            self._medians = await read_medians(connection)
            finished = time.monotonic()
            self._valid_until = finished + self._REUSE * (finished - started)
        return self._medians


async def clock(connection: AsyncConnection) -> datetime:
    """Read the database's clock, by which periods are counted."""
    moment: datetime = (await connection.execute(_NOW)).scalar_one()
    return moment


async def read_figures(connection: AsyncConnection, window: Window | None = None) -> Figures:
    """Sum per segment: everybody from the counters, or those created in a window."""
    if window is None:
        return _figures(await connection.execute(_COUNTERS))
    return _figures(await connection.execute(_COUNTED_IN_WINDOW, window._asdict()))


async def recount_figures(connection: AsyncConnection) -> Figures:
    """Sum everybody from the customers themselves: what the counters must equal."""
    return _figures(await connection.execute(_RECOUNTED))


async def read_medians(connection: AsyncConnection, window: Window | None = None) -> Medians:
    """Scan for the medians of total spent."""
    result = (
        await connection.execute(_MEDIANS_OF_ALL)
        if window is None
        else await connection.execute(_MEDIANS_IN_WINDOW, window._asdict())
    )
    return {
        row.segment and Segment(row.segment): _rounded(Decimal(row.median) / 100)
        for row in result
        if row.median is not None
    }


async def statistics(
    connection: AsyncConnection, window: Window | None, medians: MedianCache
) -> dict[str, Any]:
    """Give the key figures of everybody, or of the customers created in ``window``.

    ``averageLTV`` is the mean of total spent. ``retentionRate`` is 100 · (returning + vip) /
    (all − new), ``repeatPurchaseRate`` 100 · customers with two counted orders or more / with one
    or more; each 0 when nobody is in its denominator. In a window, ``periodRetention`` is the
    percentage of those who ordered in the span before it who ordered in it, too.
    """
    figures = await read_figures(connection, window)
    of_window = (
        (await medians.get(connection))
        if window is None
        else await read_medians(connection, window)
    )
    answer = _key_figures(figures, of_window.get(None, Decimal(0)))
    if window is None:
        answer["unattributedOrders"] = (await connection.execute(_UNATTRIBUTED)).scalar_one()
    else:
        unattributed = await connection.execute(_UNATTRIBUTED_IN_WINDOW, window._asdict())
        answer["unattributedOrders"] = unattributed.scalar_one()
        row = (
            await connection.execute(
                _RETENTION, {**window._asdict(), "before": window.before.start}
            )
        ).one()
        answer["customersWhoOrdered"] = row.ordered
        answer["periodRetention"] = _percentage(row.stayed, row.ordered_before)
    answer["asOf"] = await clock(connection)
    return answer


async def by_segment(
    connection: AsyncConnection, window: Window | None, medians: MedianCache
) -> list[dict[str, Any]]:
    """Give one item per segment, empty ones too, in the order of the lifecycle."""
    figures = await read_figures(connection, window)
    of_window = (
        (await medians.get(connection))
        if window is None
        else await read_medians(connection, window)
    )
    everybody = sum(figure.customers for figure in figures.values())
    return [
        {
            "segment": segment.value,
            "label": segment.label,
            "count": figures[segment].customers,
            "percentage": _percentage(figures[segment].customers, everybody),
            "averageLTV": _mean(figures[segment].total_spent, figures[segment].customers),
            "medianLTV": of_window.get(segment, Decimal(0)),
            "totalSpent": _rounded(figures[segment].total_spent),
        }
        for segment in Segment
    ]


PERIODS = {
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=30),
    "year": timedelta(days=365),
}
"""Rolling: they end now."""


def _figures(result: Any) -> Figures:
    found = {
        Segment(row.segment): SegmentFigures(
            row.customers, row.total_spent, row.with_orders, row.repeat_customers
        )
        for row in result
    }
    return {segment: found.get(segment, SegmentFigures(0, Decimal(0), 0, 0)) for segment in Segment}


def _key_figures(figures: Figures, median: Decimal) -> dict[str, Any]:
    count = {segment: figure.customers for segment, figure in figures.items()}
    total = sum(count.values())
    spent = sum((figure.total_spent for figure in figures.values()), Decimal(0))
    kept = count[Segment.RETURNING] + count[Segment.VIP]
    return {
        "totalCustomers": total,
        "activeCustomers": count[Segment.NEW] + kept,
        "newCustomers": count[Segment.NEW],
        "returningCustomers": count[Segment.RETURNING],
        "vipCustomers": count[Segment.VIP],
        "atRiskCustomers": count[Segment.AT_RISK],
        "inactiveCustomers": count[Segment.INACTIVE],
        "averageLTV": _mean(spent, total),
        "medianLTV": median,
        "totalRevenue": _rounded(spent),
        "retentionRate": _percentage(kept, total - count[Segment.NEW]),
        "repeatPurchaseRate": _percentage(
            sum(figure.repeat_customers for figure in figures.values()),
            sum(figure.with_orders for figure in figures.values()),
        ),
    }


def _rounded(amount: Decimal) -> Decimal:
    return amount.quantize(_CENT, ROUND_HALF_UP)


def _mean(total: Decimal, count: int) -> Decimal:
    return _rounded(total / count) if count else Decimal("0.00")


def _percentage(part: int, whole: int) -> Decimal:
    """Percent with two decimals; of nothing it is 0."""
    return _rounded(Decimal(100 * part) / whole) if whole else Decimal("0.00")
