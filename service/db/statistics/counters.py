"""Sums and medians per segment, over all customers or over those who were created in a window."""

from datetime import date, datetime, timedelta, tzinfo
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple, Self

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_rules import KNOWN_SEGMENTS, Segment
from service.core.store_days import beginning_of
from service.db.figures import FIGURES, NOTHING, Figures, each_figure, figures_of, recounted

_CENT = Decimal("0.01")


class Window(NamedTuple):
    """A span of time. ``start`` belongs to it, ``end`` does not."""

    start: datetime
    end: datetime
    period: str | None = None
    """The rolling period that the window was made from, so that a cached answer may be used."""
    start_before: datetime | None = None
    """Where the window before starts, if it has not the same number of hours."""

    @classmethod
    def of_days(
        cls, first: date, last: date, zone: tzinfo, first_before: date | None = None
    ) -> Self:
        """Return the window from the beginning of one day to the end of another.

        The window before has as many days, however long they were, unless ``first_before`` says
        with which day it starts.
        """
        first_before = first_before or first - (last - first) - timedelta(days=1)
        return cls(
            beginning_of(first, zone),
            beginning_of(last + timedelta(days=1), zone),
            start_before=beginning_of(first_before, zone),
        )

    @property
    def before(self) -> "Window":
        """The window that this one is compared with. It ends where this one starts."""
        return Window(self.start_before or self.start - (self.end - self.start), self.start)


Medians = dict[Segment | None, Decimal]
"""The median of total spent per segment. The key None holds the median of all customers."""

SUMS = ", ".join(f"{recounted(figure)} AS {figure}" for figure in FIGURES)
"""The SQL of the figures, summed up over rows of the table of customers."""
MEDIAN = "percentile_cont(0.5) WITHIN GROUP (ORDER BY total_spent * 100)"
"""The SQL of the median of total spent, in cents: it is computed in floats, which hold whole
numbers and halves exactly."""

_COUNTERS = text(f"""
SELECT segment, {each_figure("sum({figure}) AS {figure}")} FROM segment_counters GROUP BY segment
""")
_SUMS = f"SELECT segment, {SUMS} FROM customers"
_IN_WINDOW = "WHERE date_created >= :start AND date_created < :end"
_SUMS_IN_WINDOW = text(f"{_SUMS} {_IN_WINDOW} GROUP BY segment")
_SUMS_OF_ALL = text(f"{_SUMS} GROUP BY segment")
_MEDIANS = f"SELECT segment, {MEDIAN} AS median FROM customers"
_BOTH = "GROUP BY GROUPING SETS ((segment), ())"
_MEDIANS_OF_ALL = text(f"{_MEDIANS} {_BOTH}")
_MEDIANS_IN_WINDOW = text(f"{_MEDIANS} {_IN_WINDOW} {_BOTH}")


async def read_figures(connection: AsyncConnection, window: Window | None = None) -> Figures:
    """Return the sums per segment: of all customers, or of those created in ``window``.

    Sums of all customers are read from the counters.
    """
    if window is None:
        return figures_by_segment(await connection.execute(_COUNTERS))
    return figures_by_segment(await connection.execute(_SUMS_IN_WINDOW, window._asdict()))


async def recount_figures(connection: AsyncConnection) -> Figures:
    """Return the sums over the table of customers. The counters must be equal to them."""
    return figures_by_segment(await connection.execute(_SUMS_OF_ALL))


async def read_medians(connection: AsyncConnection, window: Window | None = None) -> Medians:
    """Return the medians of total spent. This scans the table of customers."""
    result = (
        await connection.execute(_MEDIANS_OF_ALL)
        if window is None
        else await connection.execute(_MEDIANS_IN_WINDOW, window._asdict())
    )
    return medians_by_segment(result)


def medians_by_segment(result: Any) -> Medians:
    """Return the medians from rows of ``segment`` and ``median``, which is in cents."""
    return {
        row.segment and Segment(row.segment): rounded(Decimal(row.median) / 100)
        for row in result
        if row.median is not None and (row.segment is None or row.segment in KNOWN_SEGMENTS)
    }


def rounded(amount: Decimal) -> Decimal:
    """Return an amount rounded to the cent, half up."""
    return amount.quantize(_CENT, ROUND_HALF_UP)


def percentage(part: int, whole: int) -> Decimal:
    """Return 100 · part / whole with two decimals; 0 if the whole is 0."""
    return rounded(Decimal(100 * part) / whole) if whole else Decimal("0.00")


def figures_by_segment(result: Any) -> Figures:
    """Return the figures of each segment, empty ones too, from rows that have their columns."""
    rows = [row for row in result if row.segment in KNOWN_SEGMENTS]
    by_segment = {Segment(row.segment): figures_of(row) for row in rows}
    return {segment: by_segment.get(segment, NOTHING) for segment in Segment}
