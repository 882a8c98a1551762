"""Figures per segment of the customers that a filter chooses. The cards above a list show them."""

from dataclasses import replace

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_rules import Segment
from service.db.customers.filters import Filter
from service.db.figures import Figures
from service.db.statistics.counters import (
    MEDIAN,
    SUMS,
    Medians,
    figures_by_segment,
    medians_by_segment,
    read_figures,
)
from service.db.statistics.key_figures import MedianCache


async def filtered_figures(
    connection: AsyncConnection, wanted: Filter, hits: int | None = None
) -> Figures:
    """Return the sums per segment over the customers of a filter, its segments left aside.

    ``hits`` is how many customers the search finds, if known. If nothing but segments is filtered,
    the sums are read from the counters.
    """
    if wanted.only_by_segment:
        return await read_figures(connection)
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
    where, parameters = replace(wanted, segments=()).where(hits)
    query = f"SELECT segment, {MEDIAN} AS median FROM customers c WHERE {where} GROUP BY segment"
    return medians_by_segment(await connection.execute(text(query), parameters))
