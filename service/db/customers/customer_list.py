"""A filtered and sorted page of customers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Row, TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_rules import Segment
from service.db.customers.customer_row import COLUMNS, CustomerRow
from service.db.customers.filters import Filter
from service.db.customers.search_query import search_condition
from service.db.customers.sorting import (
    ALL_AT_ONCE,
    KEYS,
    Branch,
    Sort,
    SortedQuery,
    after_position,
    branches_sql,
    choose_branches,
    nullable_parts,
    without_seqscan,
)
from service.db.engine import refused_data
from service.db.statistics.counters import read_figures

_THESE = text(f"""
SELECT {COLUMNS} FROM unnest(CAST(:ids AS bigint[])) WITH ORDINALITY AS wanted (id, place)
JOIN customers c ON c.id = wanted.id ORDER BY wanted.place
""")


class SortPosition(NamedTuple):
    """The place of a customer in a sorted list: the sort value as text, then their id."""

    value: str | None
    id: int


class BadPositionError(Exception):
    """The value of a position cannot be compared with what the list is sorted by."""


@dataclass(frozen=True)
class Page:
    """Where a page begins and how the list is sorted."""

    sort: Sort = Sort.DATE_CREATED
    descending: bool = True
    limit: int = 50
    after: SortPosition | None = None
    """The end of the page before. None: this is the first page."""
    skip: int = 0
    """How many customers to leave out before the page, for a jump to a page."""
    without: Sequence[int] = ()
    """Customers who are left out, because they have been shown."""


@dataclass(frozen=True)
class CustomerPage:
    """A page of customers."""

    items: Sequence[CustomerRow]
    total: int
    """All customers that match the filter."""
    first: SortPosition | None
    """The place of its first customer. None: the page is empty."""
    last: SortPosition | None
    """The place of its last customer."""
    more: bool
    """Whether customers come after it."""


async def find(
    connection: AsyncConnection,
    wanted: Filter,
    page: Page,
    hits: int | None = None,
    total: int | None = None,
) -> CustomerPage:
    """Return a page of the customers that match a filter, and count all that match.

    ``hits`` is how many customers the search finds, and ``total`` how many match. What the caller
    does not know is counted.

    Both are read in the caller's snapshot. A page continues after the sort value and the id of the
    last row of the page before, so writes in between neither repeat nor skip anybody. Raises
    BadPositionError.
    """
    hits = await count_hits(connection, wanted) if hits is None else hits
    try:
        rows = await _read(connection, page_statement, wanted, page, hits)
    except DBAPIError as error:
        if page.after and refused_data(error):
            raise BadPositionError from None
        raise
    shown, more = rows[: page.limit], len(rows) > page.limit
    return CustomerPage(
        items=[CustomerRow(*tuple(row)[:-1]) for row in shown],
        total=await count(connection, wanted, hits, page.sort) if total is None else total,
        first=_place(shown[0]) if shown else None,
        last=_place(shown[-1]) if shown else None,
        more=more,
    )


async def find_ids(
    connection: AsyncConnection, wanted: Filter, page: Page
) -> tuple[Sequence[int], bool]:
    """Return the ids of a page, and whether there are more customers after it."""
    hits = await count_hits(connection, wanted)
    rows = await _read(connection, ids_statement, wanted, page, hits)
    return [row.id for row in rows[: page.limit]], len(rows) > page.limit


async def find_these(connection: AsyncConnection, ids: Sequence[int]) -> list[CustomerRow]:
    """Return the customers with these ids, in the same order. Whoever is gone is left out."""
    rows = await connection.execute(_THESE, {"ids": ids})
    return [CustomerRow(*row) for row in rows]


def sorted_query(wanted: Filter, page: Page, hits: int | None) -> SortedQuery:
    """Return what a page asks for. ``hits`` is how many customers the search finds, if known."""
    key = KEYS[page.sort]
    if page.sort is Sort.SEGMENT and wanted.segments:
        # Walking along the ids for another segment would look at everybody and find nobody.
        key = key._replace(values=[f"c.segment = '{segment}'" for segment in wanted.segments])
    where, parameters = wanted.where(hits, in_order=key.in_order)
    direction, beyond = ("DESC", "<") if page.descending else ("ASC", ">")
    if page.after:
        parameters |= {"after": page.after.value, "after_id": page.after.id}
    parameters |= {"one_more": page.limit + 1, "skip": page.skip}
    if page.without:
        where += f" AND {key.id} <> ALL(:without)"
        parameters["without"] = page.without
    if key.nullable:
        after_value = page.after is not None and page.after.value is not None
        continued = page.after is not None
        parts = nullable_parts(key, direction, continued=continued, after_value=after_value)
        return SortedQuery(key, direction, where, parameters, parts)
    start = after_position(key, beyond) if page.after else "true"
    if key.listed and wanted != Filter() and _is_about_many(wanted, hits):
        return SortedQuery(key, direction, where, parameters, ALL_AT_ONCE, start)
    return SortedQuery(key, direction, where, parameters, start=start)


def page_statement(query: SortedQuery, branches: Sequence[Branch] = ()) -> TextClause:
    """Return the statement that reads one page, and one row more."""
    direction = query.direction
    # Rows are wide: sort only ids and sort values, then look up the rows of one page.
    return text(f"""
WITH page AS (
  SELECT * FROM ({branches_sql(query, branches)}) gathered
  ORDER BY sort_value {direction}, id {direction} LIMIT :one_more OFFSET :skip
)
SELECT {COLUMNS}, CAST(page.sort_value AS text) AS sort_value
FROM page CROSS JOIN LATERAL (SELECT * FROM customers WHERE id = page.id OFFSET 0) c
ORDER BY page.sort_value {direction}, c.id {direction}
""")


def ids_statement(query: SortedQuery, branches: Sequence[Branch] = ()) -> TextClause:
    """Return the statement that reads the ids of one page, and one id more."""
    direction = query.direction
    return text(
        f"SELECT id FROM ({branches_sql(query, branches)}) gathered"
        f" ORDER BY sort_value {direction}, id {direction} LIMIT :one_more OFFSET :skip"
    )


async def _read(
    connection: AsyncConnection,
    statement: Callable[[SortedQuery, Sequence[Branch]], TextClause],
    wanted: Filter,
    page: Page,
    hits: int | None,
) -> Sequence[Row[Any]]:
    """Return the rows of a page, and one more if there is one."""
    query = sorted_query(wanted, page, hits)
    rows: Sequence[Row[Any]] = ()
    if _is_about_many(wanted, hits) and (branches := await choose_branches(connection, query)):
        async with without_seqscan(connection):
            rows = (await connection.execute(statement(query, branches), query.parameters)).all()
    if len(rows) <= page.limit:
        rows = (await connection.execute(statement(query, ()), query.parameters)).all()
    return rows


def _is_about_many(wanted: Filter, hits: int | None) -> bool:
    """Return False if it is known whom the filter means, or how many of them there are."""
    return hits is None and wanted.ids is None


def _place(row: Row[Any]) -> SortPosition:
    return SortPosition(row.sort_value, row.id)


# A plan for any pattern does not know how many customers it finds, and folds it for each of them.
_PLAN_ANEW = text("SET LOCAL plan_cache_mode = force_custom_plan")


async def count_hits(connection: AsyncConnection, wanted: Filter) -> int | None:
    """Count the hits of the search alone, from the search index. None if nothing is searched.

    From here on, the transaction's statements are planned for the very patterns that are searched.
    """
    if not wanted.term or wanted.hits is not None:
        return wanted.hits
    await connection.execute(_PLAN_ANEW)
    condition, parameters = search_condition(wanted.term)
    query = text(f"SELECT count(*) FROM customer_search s WHERE {condition}")
    return int((await connection.execute(query, parameters)).scalar_one())


async def count(
    connection: AsyncConnection,
    wanted: Filter,
    hits: int | None,
    sort: Sort = Sort.DATE_CREATED,
) -> int:
    """Count the customers of a list that match a filter; without a scan where that is known.

    ``hits`` is how many customers the search finds, if known. Some sort orders list only a part of
    the customers.
    """
    key = KEYS[sort]
    if key.listed:
        where, parameters = wanted.where(hits)
        source = key.listed if wanted == Filter() else key.source
        query = text(f"SELECT count(*) FROM {source} WHERE {where}")
        return int((await connection.execute(query, parameters)).scalar_one())
    if hits is not None and wanted.only_by_search:
        return hits
    if wanted.only_by_segment:
        figures = await read_figures(connection)
        return sum(figures[segment].customers for segment in wanted.segments or Segment)
    where, parameters = wanted.where(hits)
    result = await connection.execute(
        text(f"SELECT count(*) FROM customers c WHERE {where}"), parameters
    )
    return int(result.scalar_one())
