"""Sums and medians per segment, over all customers or over those who were created in a window."""

from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_rules import KNOWN_SEGMENTS, Segment
from service.db.figures import FIGURES, NOTHING, Figures, each_figure, figures_of, recounted

_CENT = Decimal("0.01")


class Window(NamedTuple):
    """A span of time. ``start`` belongs to it, ``end`` does not."""

    start: datetime
    end: datetime
    period: str | None = None
    """The rolling period that the window was made from, so that a cached answer may be used."""

    @property
    def before(self) -> "Window":
        """Return the window of the same length that ends where this one starts."""
        return Window(self.start - (self.end - self.start), self.start)


Medians = dict[Segment | None, Decimal]
"""The median of total spent per segment. The key None holds the median of all customers."""

_COUNTERS = text(f"""
SELECT segment, {each_figure("sum({figure}) AS {figure}")} FROM segment_counters GROUP BY segment
""")
_SUMS = f"""
SELECT segment, {", ".join(f"{recounted(figure)} AS {figure}" for figure in FIGURES)}
FROM customers"""
_IN_WINDOW = "WHERE date_created >= :start AND date_created < :end"
_SUMS_IN_WINDOW = text(f"{_SUMS} {_IN_WINDOW} GROUP BY segment")
_SUMS_OF_ALL = text(f"{_SUMS} GROUP BY segment")
# In cents: percentile_cont computes in floats, which hold whole numbers and halves exactly.
_MEDIANS = """
SELECT segment, percentile_cont(0.5) WITHIN GROUP (ORDER BY total_spent * 100) AS median
FROM customers {where} GROUP BY GROUPING SETS ((segment), ())
"""
_MEDIANS_OF_ALL = text(_MEDIANS.format(where=""))
_MEDIANS_IN_WINDOW = text(_MEDIANS.format(where=_IN_WINDOW))


async def read_figures(connection: AsyncConnection, window: Window | None = None) -> Figures:
    """Return the sums per segment: of all customers, or of those created in ``window``.

    Sums of all customers are read from the counters.
    """
    if window is None:
        return _figures(await connection.execute(_COUNTERS))
    return _figures(await connection.execute(_SUMS_IN_WINDOW, window._asdict()))


async def recount_figures(connection: AsyncConnection) -> Figures:
    """Return the sums over the table of customers. The counters must be equal to them."""
    return _figures(await connection.execute(_SUMS_OF_ALL))


async def read_medians(connection: AsyncConnection, window: Window | None = None) -> Medians:
    """Return the medians of total spent. This scans the table of customers."""
    result = (
        await connection.execute(_MEDIANS_OF_ALL)
        if window is None
        else await connection.execute(_MEDIANS_IN_WINDOW, window._asdict())
    )
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


def _figures(result: Any) -> Figures:
    rows = [row for row in result if row.segment in KNOWN_SEGMENTS]
    by_segment = {Segment(row.segment): figures_of(row) for row in rows}
    return {segment: by_segment.get(segment, NOTHING) for segment in Segment}
