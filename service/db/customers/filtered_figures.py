"""Figures per segment of the customers that a filter chooses. The cards above a list show them.

In a large shop, those of a long span of dates are added up from what workers keep, as of a moment
some minutes ago: see `service.db.statistics.span_figures`.
"""

from dataclasses import replace
from datetime import datetime

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


async def filtered_figures(
    connection: AsyncConnection, wanted: Filter, hits: int | None = None
) -> Figures:
    """Return the sums per segment over the customers of a filter, its segments left aside.

    ``hits`` is how many customers the search finds, if known. If nothing but segments is filtered,
    the sums are read from the counters.
    """
    if wanted.only_by_segment:
        return await read_figures(connection)
    if span := await _kept_span(connection, wanted):
        return await read_kept_sums(connection, span)
    where, parameters = replace(wanted, segments=()).where(hits)
    query = text(f"SELECT segment, {SUMS} FROM customers c WHERE {where} GROUP BY segment")
    return figures_by_segment(await connection.execute(query, parameters))


def customers_in(figures: Figures, wanted: Filter) -> int:
    """Return how many customers are in the filter's segments."""
    return sum(figures[segment].customers for segment in wanted.segments or Segment)


async def filtered_medians(
    connection: AsyncConnection, wanted: Filter, cache: MedianCache, hits: int | None = None
) -> Medians:
    """Return the medians of total spent per segment over the customers of a filter, likewise."""
    if wanted.only_by_segment:
        return await cache.get(connection)
    if span := await _kept_span(connection, wanted):
        return (await read_kept_figures(connection, span)).medians
    where, parameters = replace(wanted, segments=()).where(hits)
    query = f"SELECT segment, {MEDIAN} AS median FROM customers c WHERE {where} GROUP BY segment"
    return medians_by_segment(await connection.execute(text(query), parameters))


async def figures_as_of(connection: AsyncConnection, wanted: Filter) -> datetime | None:
    """Return the moment that the figures of a filter are from. None if that is now."""
    span = _only_span(wanted)
    kept = await kept_for(connection, span) if span else None
    return kept.as_of if kept else None


async def _kept_span(connection: AsyncConnection, wanted: Filter) -> Window | None:
    """Return the filter's span of dates if its figures are read from what workers keep."""
    span = _only_span(wanted)
    return span if span and await kept_for(connection, span) else None


def _only_span(wanted: Filter) -> Window | None:
    """Return the filter's span of dates. None if it has none, or filters by something else."""
    only = Filter(segments=wanted.segments, date_from=wanted.date_from, date_to=wanted.date_to)
    if wanted != only or wanted.only_by_segment:
        return None
    return Window(wanted.date_from or BEGINNING, wanted.date_to or END)
