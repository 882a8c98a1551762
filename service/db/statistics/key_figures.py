"""Key figures of the customers, all over the same set of them.

For everybody they are sums of counters kept with every change, a tenth of a millisecond however
many customers there are. For a period, the set is the customers created in it, read by an index;
rolling periods that take long, and the medians of everybody, are kept (`answer_cache`).
"""

import time
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_rules import Segment
from service.db.figures import FIGURES, Figures, figures_from
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

_UNATTRIBUTED = text("SELECT count(*) FROM orders WHERE customer_id IS NULL AND NOT erased")
_UNATTRIBUTED_IN_WINDOW = text(
    "SELECT count(*) FROM orders WHERE customer_id IS NULL AND NOT erased"
    " AND date_created >= :start AND date_created < :end"
)
# Who ordered is a bit each, 64 customers a word: a row for every customer would not fit in memory.
# Two scans instead of one with two tests: the planner then expects few words, and two processes.
_ORDERED = """
  SELECT customer_id >> 6 AS word, {these} AS these, {those} AS those FROM orders
  WHERE counts AND customer_id IS NOT NULL AND date_created >= :{start} AND date_created < :{end}
"""
_BIT = "CAST(1 AS bigint) << CAST(customer_id & 63 AS integer)"
_NO_BIT = "CAST(NULL AS bigint)"
_RETENTION = text(f"""
WITH words AS (
  SELECT bit_or(these) AS these, bit_or(those) AS those FROM (
    {_ORDERED.format(these=_BIT, those=_NO_BIT, start="start", end="end")} UNION ALL
    {_ORDERED.format(these=_NO_BIT, those=_BIT, start="before", end="start")}
  ) ordered GROUP BY word
)
SELECT CAST(coalesce(sum(bit_count(CAST(these AS bit(64)))), 0) AS bigint) AS ordered,
       CAST(coalesce(sum(bit_count(CAST(those AS bit(64)))), 0) AS bigint) AS ordered_before,
       CAST(coalesce(sum(bit_count(CAST(these & those AS bit(64)))), 0) AS bigint) AS stayed
FROM words
""")
_MEDIANS_KEPT = "medians"
"""The name of the cached medians of everybody. For a period's survey see `_survey_name`."""


class KeyFigures(NamedTuple):
    """Key figures that follow from the sums per segment. Percentages of nobody are 0."""

    total_customers: int
    active_customers: int
    """New, returning and VIP."""
    new_customers: int
    returning_customers: int
    vip_customers: int
    at_risk_customers: int
    inactive_customers: int
    average_ltv: Decimal
    """The mean of total spent per customer."""
    median_ltv: Decimal
    total_revenue: Decimal
    retention_rate: Decimal
    """100 · (returning + VIP) / (all − new)."""
    repeat_purchase_rate: Decimal
    """100 · customers with two or more counted orders / with one or more."""


class Statistics(NamedTuple):
    """The key figures of everybody, or of the customers created in a window."""

    key_figures: KeyFigures
    unattributed_orders: int
    as_of: datetime
    customers_who_ordered: int | None = None
    """Those who ordered in the window. None for everybody."""
    period_retention: Decimal | None = None
    """The percentage of those who ordered in the span before the window who ordered in the window,
    too. None for everybody."""


class SegmentShare(NamedTuple):
    """The customers of one segment and what they have spent."""

    segment: Segment
    customers: int
    percentage: Decimal
    average_ltv: Decimal
    median_ltv: Decimal
    total_spent: Decimal


class Survey(NamedTuple):
    """All that is read of the customers created in a window."""

    figures: Figures
    medians: Medians
    unattributed: int
    ordered: int
    ordered_before: int
    stayed: int
    as_of: datetime


class MedianCache:
    """Medians, which no counter can give; of everybody, at a bounded share of the database.

    Those that workers keep, where they take long. Until they do, a scan that took a second is used
    for `_REUSE` seconds, one of a millisecond for as many milliseconds: small shops get exact
    values, large ones cost at most 1/`_REUSE` of one core.
    """

    _REUSE = 50

    def __init__(self) -> None:
        """Start empty."""
        self._medians: Medians = {}
        self._valid_until = 0.0

    async def get(self, connection: AsyncConnection, window: Window | None = None) -> Medians:
        """Give the medians, scanning when none are kept and the last scan is too old.

        Those of a ``window`` are read anew each time.
        """
        if window:
            return await read_medians(connection, window)
        if kept := await recall(connection, _MEDIANS_KEPT):
            return _medians_read(kept.answer)
        started = time.monotonic()
        if started >= self._valid_until:
            self._medians = await read_medians(connection)
            finished = time.monotonic()
            self._valid_until = finished + self._REUSE * (finished - started)
        return self._medians


async def rolling(connection: AsyncConnection, period: str) -> Window:
    """Give the window of one of `PERIODS` that ends now."""
    now = await read_clock(connection)
    return Window(now - PERIODS[period], now, period)


async def survey(connection: AsyncConnection, window: Window) -> Survey:
    """Read what there is of a window: kept, where it is a rolling one and that takes long."""
    if found := await _recalled(connection, window):
        return found
    parameters = {**window._asdict(), "before": window.before.start}
    unattributed = (await connection.execute(_UNATTRIBUTED_IN_WINDOW, parameters)).scalar_one()
    retention = (await connection.execute(_RETENTION, parameters)).one()
    return Survey(
        await read_figures(connection, window),
        await read_medians(connection, window),
        unattributed,
        retention.ordered,
        retention.ordered_before,
        retention.stayed,
        window.end,
    )


async def _recalled(connection: AsyncConnection, window: Window) -> Survey | None:
    if window.period and (kept := await recall(connection, _survey_name(window.period))):
        return _survey_read(kept.answer, kept.as_of)
    return None


async def statistics(
    connection: AsyncConnection, window: Window | None, medians: MedianCache
) -> Statistics:
    """Return the key figures of everybody, or of the customers created in ``window``."""
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
        unattributed_orders=surveyed.unattributed,
        as_of=surveyed.as_of if window.period else await read_clock(connection),
        customers_who_ordered=surveyed.ordered,
        period_retention=percentage(surveyed.stayed, surveyed.ordered_before),
    )


async def by_segment(
    connection: AsyncConnection, window: Window | None, medians: MedianCache
) -> list[SegmentShare]:
    """Return the share of each segment, empty ones too, in the order of the lifecycle."""
    if window and (recalled := await _recalled(connection, window)):
        return segment_shares(recalled.figures, recalled.medians)
    # A survey would also read who ordered, which takes longest and is not needed here.
    figures = await read_figures(connection, window)
    return segment_shares(figures, await medians.get(connection, window))


def segment_shares(figures: Figures, medians: Medians) -> list[SegmentShare]:
    """Return the share of each segment from the sums and medians per segment."""
    everybody = sum(figure.customers for figure in figures.values())
    return [
        SegmentShare(
            segment,
            customers=figures[segment].customers,
            percentage=percentage(figures[segment].customers, everybody),
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
"""Rolling: they end now."""


def _survey_name(period: str) -> str:
    """Return the name under which a period's survey is cached.

    It lists the figures, so that releases with different ones never read each other's surveys.
    """
    return f"{period} of {', '.join(FIGURES)}"


async def _period_to_keep(connection: AsyncConnection, now: datetime, period: str) -> Any:
    found = await survey(connection, Window(now - PERIODS[period], now))
    return {**found._asdict(), "medians": _medians_written(found.medians), "as_of": None}


async def _medians_to_keep(connection: AsyncConnection, _now: datetime) -> Any:
    return _medians_written(await read_medians(connection))


TO_KEEP: dict[str, Compute] = {
    _MEDIANS_KEPT: _medians_to_keep,
    **{_survey_name(period): partial(_period_to_keep, period=period) for period in PERIODS},
}
"""What workers keep, by its name."""


def _medians_written(medians: Medians) -> dict[str, Decimal]:
    return {segment.value if segment else "": median for segment, median in medians.items()}


def _medians_read(answer: Any) -> Medians:
    return {Segment(name) if name else None: Decimal(it) for name, it in answer.items()}


def _survey_read(answer: Any, as_of: datetime) -> Survey:
    figures = {Segment(name): figures_from(values) for name, values in answer["figures"].items()}
    read = {"figures": figures, "medians": _medians_read(answer["medians"]), "as_of": as_of}
    return Survey(**(answer | read))


def key_figures(figures: Figures, median: Decimal) -> KeyFigures:
    """Derive the key figures from the sums per segment and the median of everybody."""
    count = {segment: figure.customers for segment, figure in figures.items()}
    total = sum(count.values())
    spent = sum((figure.total_spent for figure in figures.values()), Decimal(0))
    stayed = count[Segment.RETURNING] + count[Segment.VIP]
    return KeyFigures(
        total_customers=total,
        active_customers=count[Segment.NEW] + stayed,
        new_customers=count[Segment.NEW],
        returning_customers=count[Segment.RETURNING],
        vip_customers=count[Segment.VIP],
        at_risk_customers=count[Segment.AT_RISK],
        inactive_customers=count[Segment.INACTIVE],
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
