"""Key figures of all customers, or of the customers created in a window.

Figures of all customers are sums of counters, which every change updates. Reading them takes a
tenth of a millisecond, however many customers there are. For a window, an index finds the customers
who were created in it. Answers for rolling periods and the medians of all customers are cached
where they take long (`answer_cache`).
"""

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_rules import KNOWN_SEGMENTS, Segment
from service.db.figures import FIGURES, NOTHING, Figures, figures_from
from service.db.locks import read_clock
from service.db.statistics.answer_cache import Compute, recall
from service.db.statistics.counters import (
    Medians,
    Window,
    percentage,
    read_figures,
    read_medians,
    rounded,
)
from service.db.statistics.span_figures import (
    Returns,
    kept_for,
    read_kept_figures,
    read_kept_returns,
)

_UNATTRIBUTED = text("SELECT count(*) FROM orders WHERE customer_id IS NULL AND NOT erased")
_UNATTRIBUTED_IN_WINDOW = text(
    "SELECT count(*) FROM orders WHERE customer_id IS NULL AND NOT erased"
    " AND date_created >= :start AND date_created < :end"
)
# A row for every customer would not fit in memory. So a customer who ordered is one bit, and 64
# customers share a word. With two scans instead of one that tests both spans, the planner expects
# few words and uses two processes.
_ORDERED = """
  SELECT customer_id >> 6 AS word, {inside} AS inside, {before} AS before FROM orders
  WHERE counts AND customer_id IS NOT NULL AND date_created >= :{start} AND date_created < :{end}
"""
_BIT = "CAST(1 AS bigint) << CAST(customer_id & 63 AS integer)"
_NO_BIT = "CAST(NULL AS bigint)"
_RETENTION = text(f"""
WITH words AS (
  SELECT bit_or(inside) AS inside, bit_or(before) AS before FROM (
    {_ORDERED.format(inside=_BIT, before=_NO_BIT, start="start", end="end")} UNION ALL
    {_ORDERED.format(inside=_NO_BIT, before=_BIT, start="before", end="start")}
  ) ordered GROUP BY word
)
SELECT CAST(coalesce(sum(bit_count(CAST(inside AS bit(64)))), 0) AS bigint) AS ordered,
       CAST(coalesce(sum(bit_count(CAST(before AS bit(64)))), 0) AS bigint) AS ordered_before,
       CAST(coalesce(sum(bit_count(CAST(inside & before AS bit(64)))), 0) AS bigint) AS stayed
FROM words
""")
_MEDIANS_NAME = "medians"
"""The medians of all customers are cached under this name; for a survey see `_survey_name`."""


class KeyFigures(NamedTuple):
    """Key figures that follow from the sums per segment. Percentages of no customers are 0."""

    total_customers: int
    active_customers: int
    """New, returning and VIP."""
    customers: Mapping[Segment, int]
    """The customers of each segment."""
    average_ltv: Decimal
    """The mean of total spent per customer."""
    median_ltv: Decimal
    total_revenue: Decimal
    retention_rate: Decimal
    """100 · (returning + VIP) / (all − new)."""
    repeat_purchase_rate: Decimal
    """100 · customers with two or more counted orders / with one or more."""


class Statistics(NamedTuple):
    """The key figures of all customers, or of the customers created in a window."""

    key_figures: KeyFigures
    unattributed_orders: int
    as_of: datetime
    customers_who_ordered: int | None = None
    """Customers who ordered in the window. None without a window."""
    period_retention: Decimal | None = None
    """The percentage of the previous window's buyers who also ordered in this one. None without a
    window."""


class SegmentShare(NamedTuple):
    """The customers of one segment and what they have spent."""

    segment: Segment
    customers: int
    percentage: Decimal
    average_ltv: Decimal
    median_ltv: Decimal
    total_spent: Decimal


class Survey(NamedTuple):
    """The figures, medians and counts that are read for a window."""

    figures: Figures
    medians: Medians
    returns: Returns
    as_of: datetime


class MedianCache:
    """A cache of the medians of all customers, because no counter can hold a median.

    If workers have cached the medians, those are used. Until then, this process keeps the result of
    a scan for `_REUSE` times the time that the scan took. So small shops get exact values, and in
    large ones the scans take at most 1/`_REUSE` of one core.
    """

    _REUSE = 50

    def __init__(self) -> None:
        """Start empty."""
        self._medians: Medians = {}
        self._valid_until = 0.0

    async def get(self, connection: AsyncConnection, window: Window | None = None) -> Medians:
        """Return the medians of all customers, or of those created in ``window``.

        Medians of a window are not cached here.
        """
        if window:
            return await read_medians(connection, window)
        if cached := await recall(connection, _MEDIANS_NAME):
            return _medians_from_json(cached.answer)
        started = time.monotonic()
        if started >= self._valid_until:
            self._medians = await read_medians(connection)
            finished = time.monotonic()
            self._valid_until = finished + self._REUSE * (finished - started)
        return self._medians


async def rolling_window(connection: AsyncConnection, period: str) -> Window:
    """Return the window that has the length of one of `PERIODS` and ends now."""
    now = await read_clock(connection)
    return Window(now - PERIODS[period], now, period)


async def survey(connection: AsyncConnection, window: Window) -> Survey:
    """Return the survey of a window. For a rolling period it may come from the cache.

    In a large shop, that of a long window is added up from what workers keep (`span_figures`).
    """
    if window.period is None:
        return await _kept_survey(connection, window) or await _computed(
            connection, window, await read_clock(connection)
        )
    return await _recalled(connection, window) or await _computed(connection, window, window.end)


async def _computed(connection: AsyncConnection, window: Window, as_of: datetime) -> Survey:
    parameters = {**window._asdict(), "before": window.before.start}
    unattributed = (await connection.execute(_UNATTRIBUTED_IN_WINDOW, parameters)).scalar_one()
    retention = (await connection.execute(_RETENTION, parameters)).one()
    return Survey(
        await read_figures(connection, window),
        await read_medians(connection, window),
        Returns(unattributed, *retention),
        as_of,
    )


async def _kept_survey(connection: AsyncConnection, window: Window) -> Survey | None:
    kept = await kept_for(connection, window)
    returns = await read_kept_returns(connection, window, kept.zone) if kept else None
    if kept is None or returns is None:
        return None
    figures, medians = await read_kept_figures(connection, window)
    return Survey(figures, medians, returns, kept.as_of)


async def _recalled(connection: AsyncConnection, window: Window) -> Survey | None:
    if window.period and (cached := await recall(connection, _survey_name(window.period))):
        return _survey_from_json(cached.answer, cached.as_of)
    return None


async def statistics(
    connection: AsyncConnection, window: Window | None, medians: MedianCache
) -> Statistics:
    """Return the key figures of all customers, or of those created in ``window``."""
    if window is None:
        median = (await medians.get(connection)).get(None, Decimal(0))
        return Statistics(
            key_figures(await read_figures(connection), median),
            unattributed_orders=(await connection.execute(_UNATTRIBUTED)).scalar_one(),
            as_of=await read_clock(connection),
        )
    surveyed = await survey(connection, window)
    return Statistics(
        key_figures(surveyed.figures, surveyed.medians.get(None, Decimal(0))),
        unattributed_orders=surveyed.returns.unattributed,
        as_of=surveyed.as_of,
        customers_who_ordered=surveyed.returns.ordered,
        period_retention=percentage(surveyed.returns.stayed, surveyed.returns.ordered_before),
    )


async def by_segment(
    connection: AsyncConnection, window: Window | None, medians: MedianCache
) -> list[SegmentShare]:
    """Return the share of each segment, empty ones too, in the order of the lifecycle."""
    if window and (recalled := await _recalled(connection, window)):
        return segment_shares(recalled.figures, recalled.medians)
    if window and window.period is None and await kept_for(connection, window):
        return segment_shares(*await read_kept_figures(connection, window))
    # A survey would also count who ordered. That takes longest and is not needed here.
    figures = await read_figures(connection, window)
    return segment_shares(figures, await medians.get(connection, window))


def segment_shares(figures: Figures, medians: Medians) -> list[SegmentShare]:
    """Return the share of each segment from the sums and medians per segment."""
    total = sum(figure.customers for figure in figures.values())
    return [
        SegmentShare(
            segment,
            customers=figures[segment].customers,
            percentage=percentage(figures[segment].customers, total),
            average_ltv=_mean(figures[segment].total_spent, figures[segment].customers),
            median_ltv=medians.get(segment, Decimal(0)),
            total_spent=rounded(figures[segment].total_spent),
        )
        for segment in Segment
    ]


PERIODS = {
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=30),
    "year": timedelta(days=365),
}
"""The lengths of the rolling periods, which end now."""


def _survey_name(period: str) -> str:
    """Return the name under which a period's survey is cached.

    It lists the figures, so that releases with different ones never read each other's surveys.
    """
    return f"{period} of {', '.join([*FIGURES, *Returns._fields])}"


async def _compute_survey(connection: AsyncConnection, now: datetime, period: str) -> Any:
    surveyed = await survey(connection, Window(now - PERIODS[period], now))
    return {
        "figures": surveyed.figures,
        "medians": _medians_to_json(surveyed.medians),
        "returns": surveyed.returns,
    }


async def _compute_medians(connection: AsyncConnection, _now: datetime) -> Any:
    return _medians_to_json(await read_medians(connection))


CACHED: dict[str, Compute] = {
    _MEDIANS_NAME: _compute_medians,
    **{_survey_name(period): partial(_compute_survey, period=period) for period in PERIODS},
}
"""The answers that workers cache, by name."""


def _medians_to_json(medians: Medians) -> dict[str, Decimal]:
    return {segment.value if segment else "": median for segment, median in medians.items()}


def _medians_from_json(answer: Any) -> Medians:
    return {
        Segment(name) if name else None: Decimal(median)
        for name, median in answer.items()
        if not name or name in KNOWN_SEGMENTS
    }


def _survey_from_json(answer: Any, as_of: datetime) -> Survey:
    cached = answer["figures"]
    figures = {
        segment: figures_from(cached[segment]) if segment in cached else NOTHING
        for segment in Segment
    }
    return Survey(
        figures, _medians_from_json(answer["medians"]), Returns(*answer["returns"]), as_of
    )


def key_figures(figures: Figures, median: Decimal) -> KeyFigures:
    """Compute the key figures from the sums per segment and the median of all customers."""
    count = {segment: figure.customers for segment, figure in figures.items()}
    total = sum(count.values())
    spent = sum((figure.total_spent for figure in figures.values()), Decimal(0))
    stayed = count[Segment.RETURNING] + count[Segment.VIP]
    return KeyFigures(
        total_customers=total,
        active_customers=count[Segment.NEW] + stayed,
        customers=count,
        average_ltv=_mean(spent, total),
        median_ltv=median,
        total_revenue=rounded(spent),
        retention_rate=percentage(stayed, total - count[Segment.NEW]),
        repeat_purchase_rate=percentage(
            sum(figure.repeat_customers for figure in figures.values()),
            sum(figure.with_orders for figure in figures.values()),
        ),
    )


def _mean(total: Decimal, count: int) -> Decimal:
    return rounded(total / count) if count else Decimal("0.00")
