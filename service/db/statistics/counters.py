"""Sums and medians of the customers per segment: of everybody, or of those created in a window."""

from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_rules import Segment
from service.db.figures import FIGURES, NOTHING, Figures, each_figure, figures_of, recounted

_CENT = Decimal("0.01")


class Window(NamedTuple):
    """A half-open span of time, ``start`` included, ``end`` not."""

    start: datetime
    end: datetime
    period: str | None = None
    """The rolling period that it was made from: one that was kept a while ago will do as well."""

    @property
    def before(self) -> "Window":
        """The span of the same length that ends where this one starts."""
        return Window(self.start - (self.end - self.start), self.start)


Medians = dict[Segment | None, Decimal]
"""Median total spent per segment, and under None that of all."""

_COUNTERS = text(f"""
SELECT segment, {each_figure("sum({it}) AS {it}")} FROM segment_counters GROUP BY segment
""")
_RECOUNT = f"""
SELECT segment, {", ".join(f"{recounted(it)} AS {it}" for it in FIGURES)} FROM customers"""
_IN_WINDOW = "WHERE date_created >= :start AND date_created < :end"
_COUNTED_IN_WINDOW = text(f"{_RECOUNT} {_IN_WINDOW} GROUP BY segment")
_RECOUNTED = text(f"{_RECOUNT} GROUP BY segment")
# In cents: percentile_cont computes in floats, which hold whole numbers and halves exactly.
_MEDIANS = """
SELECT segment, percentile_cont(0.5) WITHIN GROUP (ORDER BY total_spent * 100) AS median
FROM customers {where} GROUP BY GROUPING SETS ((segment), ())
"""
_MEDIANS_OF_ALL = text(_MEDIANS.format(where=""))
_MEDIANS_IN_WINDOW = text(_MEDIANS.format(where=_IN_WINDOW))


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
        row.segment and Segment(row.segment): rounded(Decimal(row.median) / 100)
        for row in result
        if row.median is not None
    }


def rounded(amount: Decimal) -> Decimal:
    """Round to the cent, half up."""
    return amount.quantize(_CENT, ROUND_HALF_UP)


def percentage(part: int, whole: int) -> Decimal:
    """Return 100 · part / whole with two decimals; 0 if the whole is 0."""
    return rounded(Decimal(100 * part) / whole) if whole else Decimal("0.00")


def _figures(result: Any) -> Figures:
    found = {Segment(row.segment): figures_of(row) for row in result}
    return {segment: found.get(segment, NOTHING) for segment in Segment}
