"""How lists of customers are sorted without sorting all customers.

Name, e-mail and date of creation have a b-tree index, which is in order. The counters of a customer
change with every order, and a b-tree on them would make each of these updates too expensive. They
have a BRIN index instead: it is not in order, but it quickly finds the customers beyond a bound.
The bound comes from a sample of the table. What is expected of customers is in a table of its own,
with a b-tree, because no order event writes it.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_rules import Segment
from service.db.search_text import name_order


class Sort(StrEnum):
    """The fields that a list can be sorted by."""

    NAME = "name"
    """By `name_order`. A name of several lines is sorted by the first."""
    EMAIL = "email"
    """Customers without an e-mail come after all others."""
    SEGMENT = "segment"
    TOTAL_ORDERS = "totalOrders"
    TOTAL_SPENT = "totalSpent"
    LAST_ORDER_DATE = "lastOrderDate"
    """Customers without an order come before all others."""
    DATE_CREATED = "dateCreated"
    CHANCE = "chance"
    EXPECTED_VALUE = "expectedValue"
    """By these two, only customers with an outlook are listed."""


class SortKey(NamedTuple):
    """SQL of a sort order: by ``value``, then by ``id``, both read from ``source``."""

    value: str
    kind: str
    """The SQL type of the value."""
    source: str = "customers c"
    id: str = "c.id"
    in_order: bool = False
    """A b-tree index delivers the rows in this order."""
    moves: bool = True
    """Customers change their places while somebody reads the list, because orders or the refresh of
    outlooks change the value."""
    bounded: str | None = None
    """The column whose BRIN index finds the rows beyond a bound."""
    values: Sequence[str] = ()
    """One SQL condition for each value that very many rows share."""
    nullable: bool = False
    """Some customers have no value. They come after all others, and before them in descending
    order, as in an index."""
    listed: str | None = None
    """The table that has a row of each customer who is listed. None: everybody is."""


class Branch(NamedTuple):
    """A part of the customers, from which the first rows of a page are taken.

    Rows that share one value are found by walking along the ids; rows of many different values
    are found by the BRIN index.
    """

    condition: str
    """May compare with ``:bound``."""
    tied: bool = False
    """All rows share one value, so their order is that of the ids."""
    among: int | None = None
    """Only so many customers are looked at: the first ones of the list without its filter."""
    at_once: bool = False
    """All customers are read, and then sorted."""


_WITH_CUSTOMERS = "o JOIN customers c ON c.id = o.customer_id"


def _of_outlook(column: str) -> SortKey:
    return SortKey(
        f"o.{column}",
        "real",
        f"customer_outlook {_WITH_CUSTOMERS}",
        "o.customer_id",
        in_order=True,
        listed="customer_outlook",
    )


_EVERYBODY = (Branch("true"),)
ALL_AT_ONCE = (Branch("true", at_once=True),)
"""For a filter that may go against the sort order. New customers are expected to order most. On the
way to those with the least chance, an index passes nearly everybody else, one by one."""
KEYS = {
    Sort.NAME: SortKey(
        name_order("n.searched"),
        "text",
        "customer_search n JOIN customers c ON c.id = n.customer_id",
        "n.customer_id",
        in_order=True,
        moves=False,
    ),
    Sort.EMAIL: SortKey("c.email_key", "text", in_order=True, moves=False, nullable=True),
    Sort.SEGMENT: SortKey("c.segment", "text", values=[f"c.segment = '{s}'" for s in Segment]),
    Sort.TOTAL_ORDERS: SortKey("c.total_orders", "integer", bounded="c.total_orders"),
    Sort.TOTAL_SPENT: SortKey("c.total_spent", "numeric", bounded="c.total_spent"),
    Sort.LAST_ORDER_DATE: SortKey(
        "coalesce(c.last_order_date, '-infinity')",
        "timestamptz",
        bounded="c.last_order_date",
        values=["c.last_order_date IS NULL"],
    ),
    Sort.DATE_CREATED: SortKey("c.date_created", "timestamptz", in_order=True, moves=False),
    Sort.CHANCE: _of_outlook("chance"),
    Sort.EXPECTED_VALUE: _of_outlook("value"),
}
_SAMPLE_SHARE = 0.01
"""The share of the table's pages that is read to find a bound."""

_FIRST = 20_000
"""How many customers are looked at along an index before all are read. With more, more pages are
found there, and the others take longer."""

_MANY_TIED = 30
"""If more rows of the sample than this share the bound's value, walking along the ids meets enough
rows with that value."""


class SortedQuery(NamedTuple):
    """A query for customers: the filter as ``where``, the sort order, and the page's start."""

    key: SortKey
    direction: str
    where: str
    parameters: dict[str, Any]
    parts: Sequence[Branch] = _EVERYBODY
    """What the page is read from if no other branches are chosen."""
    start: str = "true"
    """The condition that a row comes after the page before."""


def after_position(key: SortKey, beyond: str) -> str:
    """Return the condition that a row comes after the position that ends the page before."""
    return f"({key.value}, {key.id}) {beyond} (CAST(CAST(:after AS text) AS {key.kind}), :after_id)"


def nullable_parts(
    key: SortKey, direction: str, *, continued: bool, after_value: bool
) -> Sequence[Branch]:
    """Return the rows with a value and those without, as far as they come after a position.

    ``continued`` says that there is one, ``after_value`` that its row has a value. One condition
    for both could not begin in the middle of an index.
    """
    descending = direction == "DESC"
    beyond = "<" if descending else ">"
    rest = Branch(f"{key.value} IS NULL", tied=True)
    if not continued:
        return (Branch(f"{key.value} IS NOT NULL"), rest)
    if after_value:
        further = Branch(after_position(key, beyond))
        return (further,) if descending else (further, rest)
    rest = Branch(f"{key.value} IS NULL AND {key.id} {beyond} :after_id", tied=True)
    return (rest, Branch(f"{key.value} IS NOT NULL")) if descending else (rest,)


class _Bound(NamedTuple):
    """A sort value. Very likely, at least one page of customers comes before it."""

    value: Any
    tied: bool
    """Many rows have exactly this value."""


async def choose_branches(connection: AsyncConnection, query: SortedQuery) -> Sequence[Branch]:
    """Return the branches to read a page from; adds ``bound`` to the query's parameters.

    The branches very likely hold a whole page, but not certainly: if the page comes out short, the
    caller reads it again from all customers. Empty if all customers have to be read at once.
    """
    if query.parts == ALL_AT_ONCE:
        return (Branch("true", among=_FIRST),)
    values = tuple(Branch(condition, tied=True) for condition in query.key.values)
    column = query.key.bounded
    if column is None:
        return values
    if (bound := await _read_bound(connection, query)) is None:
        return ()
    query.parameters["bound"] = bound.value
    beyond = ">" if query.direction == "DESC" else "<"
    branches: tuple[Branch, ...]
    if bound.tied:
        branches = (Branch(f"{column} {beyond} :bound"), Branch(f"{column} = :bound", tied=True))
    else:
        branches = (Branch(f"{column} {beyond}= :bound"),)
    return branches if query.direction == "DESC" else branches + values


async def _read_bound(connection: AsyncConnection, query: SortedQuery) -> _Bound | None:
    """Return a bound from a sample of the table. None if the sample is too small."""
    key, direction, where, parameters, _, start = query
    statement = text(f"""
        WITH sample AS MATERIALIZED (
          SELECT {key.value} AS value FROM customers c TABLESAMPLE SYSTEM ({100 * _SAMPLE_SHARE})
          WHERE {where} AND {start}
        )
        SELECT value,
          (SELECT count(*) FROM sample s WHERE s.value = bound.value) > {_MANY_TIED} AS tied
        FROM (SELECT value FROM sample ORDER BY 1 {direction} OFFSET :spare LIMIT 1) bound
    """)
    spare = 3 + int(2 * _SAMPLE_SHARE * (parameters["skip"] + parameters["one_more"]))
    row = (await connection.execute(statement, {**parameters, "spare": spare})).one_or_none()
    return _Bound(row.value, row.tied) if row else None


@asynccontextmanager
async def without_seqscan(connection: AsyncConnection) -> AsyncIterator[None]:
    """Keep the planner from reading a whole table.

    The planner's estimate for a BRIN index depends on how well a column's values followed the
    order of the rows when statistics were taken. The counters do not follow it, so the estimate
    is chance.
    """
    await connection.execute(text("SET LOCAL enable_seqscan = off"))
    yield
    await connection.execute(text("SET LOCAL enable_seqscan TO DEFAULT"))


def branches_sql(query: SortedQuery, branches: Sequence[Branch] = ()) -> str:
    """Return SQL for the ids and sort values of the first rows of each branch.

    The first rows of the page are among them.
    """
    return " UNION ALL ".join(
        f"({_first_rows(query, branch)} LIMIT CAST(:one_more AS bigint) + :skip)"
        for branch in branches or query.parts
    )


def _first_rows(query: SortedQuery, branch: Branch) -> str:
    key, direction, where, _, _, start = query
    by_id = f"{key.id} {direction}"
    source = key.source
    if branch.among is not None:
        source = (
            f"(SELECT * FROM {key.listed} o WHERE {start}"
            f" ORDER BY {key.value} {direction}, {by_id} LIMIT {branch.among}) {_WITH_CUSTOMERS}"
        )
    rows = (
        f"SELECT {key.id} AS id, {key.value} AS sort_value FROM {source}"
        f" WHERE {where} AND {start} AND {branch.condition}"
    )
    if branch.at_once:  # OFFSET hides the order from the planner, which would walk along an index
        return f"SELECT * FROM ({rows} OFFSET 0) c ORDER BY sort_value {direction}, id {direction}"
    return f"{rows} ORDER BY {by_id if branch.tied else f'sort_value {direction}, {by_id}'}"
