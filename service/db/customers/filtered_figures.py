"""Figures per segment of the customers that a filter chooses. The cards above a list show them.

In a large shop, those of a long span of dates are added up from what workers keep, as of a moment
some minutes ago: see `service.db.statistics.span_figures`.
"""

from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.day_or_moment import BEGINNING, END
from service.core.segment_rules import Segment
from service.db.customers.filters import Filter
from service.db.figures import Figures
from service.db.statistics.counters import (
    MEDIAN,
    SUMS,
    Medians,
    Window,
    figures_by_segment,
    medians_by_segment,
    read_figures,
)
from service.db.statistics.key_figures import MedianCache
from service.db.statistics.span_figures import kept_for, read_kept_figures, read_kept_sums


class FilteredFigures(NamedTuple):
    """Figures per segment of the customers of a filter, its segments left aside."""

    figures: Figures
    medians: Medians
    """Those of total spent. Empty if nobody asked for them."""
    as_of: datetime | None
    """The moment that they are from. None: now."""


async def filtered_figures(
    connection: AsyncConnection,
    wanted: Filter,
    hits: int | None = None,
    medians: MedianCache | None = None,
) -> FilteredFigures:
    """Return the figures of a filter. If nothing but segments is filtered, the counters have them.

    ``hits`` is how many customers the search finds, if known. ``medians`` is the cache of those of
    everybody; without it, no medians are read.
    """
    if wanted.only_by_segment:
        of_all = {} if medians is None else await medians.get(connection)
        return FilteredFigures(await read_figures(connection), of_all, None)
    span = _only_span(wanted)
    if span and (kept := await kept_for(connection, span)):
        if medians is None:
            return FilteredFigures(await read_kept_sums(connection, span), {}, kept.as_of)
        return FilteredFigures(*await read_kept_figures(connection, span), kept.as_of)
    where, parameters = replace(wanted, segments=()).where(hits)
    median = "NULL" if medians is None else MEDIAN
    query = f"""
SELECT segment, {SUMS}, {median} AS median FROM customers c WHERE {where} GROUP BY segment"""
    rows = (await connection.execute(text(query), parameters)).all()
    return FilteredFigures(figures_by_segment(rows), medians_by_segment(rows), None)


def customers_in(figures: Figures, wanted: Filter) -> int:
    """Return how many customers are in the filter's segments."""
    return sum(figures[segment].customers for segment in wanted.segments or Segment)


def _only_span(wanted: Filter) -> Window | None:
    """Return the filter's span of dates. None if it has none, or filters by something else."""
    only = Filter(segments=wanted.segments, date_from=wanted.date_from, date_to=wanted.date_to)
    if wanted != only or wanted.only_by_segment:
        return None
    return Window(wanted.date_from or BEGINNING, wanted.date_to or END)
