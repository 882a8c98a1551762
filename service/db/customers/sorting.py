"""How lists are sorted: pages that are found without sorting everybody.

Name, e-mail and date of creation have an index that is in order. Figures change with every order,
and a b-tree on them would cost all of these more than it is worth. Theirs is a BRIN index: it has
no order, but it leads to those beyond a bound, and a bound comes from a sample.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_rules import Segment


class Sort(StrEnum):
    """What a list can be sorted by."""

    NAME = "name"
    """Without case; of several lines the first."""
    EMAIL = "email"
    SEGMENT = "segment"
    TOTAL_ORDERS = "totalOrders"
    TOTAL_SPENT = "totalSpent"
    LAST_ORDER_DATE = "lastOrderDate"
    """Who has none comes before all who have."""
    DATE_CREATED = "dateCreated"


class SortKey(NamedTuple):
    """How to sort: by a value, then by ``id``, both of ``source``."""

    value: str
    kind: str
    source: str = "customers c"
    id: str = "c.id"
    in_order: bool = False
    """An index has them in this order."""
    bounded: str | None = None
    """The column of the BRIN index that leads to those up to a bound."""
    values: Sequence[str] = ()
    """Tests, each of which all who have one of the few values there are fulfil."""


class Part(NamedTuple):
    """Of one value many are found along the ids, of many values few by the BRIN index."""

    test: str
    """May compare with ``:bound``."""
    tied: bool = False
    """All have the same value."""


_EVERYBODY = (Part("true"),)
KEYS = {
    Sort.NAME: SortKey(
        "split_part(n.searched, chr(10), 1)",
        "text",
        "customer_search n JOIN customers c ON c.id = n.customer_id",
        "n.customer_id",
        in_order=True,
    ),
    Sort.EMAIL: SortKey("c.email_key", "text", in_order=True),
    Sort.SEGMENT: SortKey("c.segment", "text", values=[f"c.segment = '{it}'" for it in Segment]),
    Sort.TOTAL_ORDERS: SortKey("c.total_orders", "integer", bounded="c.total_orders"),
    Sort.TOTAL_SPENT: SortKey("c.total_spent", "numeric", bounded="c.total_spent"),
    Sort.LAST_ORDER_DATE: SortKey(
        "coalesce(c.last_order_date, '-infinity')",
        "timestamptz",
        bounded="c.last_order_date",
        values=["c.last_order_date IS NULL"],
    ),
    Sort.DATE_CREATED: SortKey("c.date_created", "timestamptz", in_order=True),
}
_SAMPLED = 0.01
"""The share of the table's pages that is looked at for a bound."""


_MANY = 30
"""Of a sample: if more have the same value, walking along the ids comes upon enough of them."""


class Sought(NamedTuple):
    """Customers of a filter, from a cursor on, in an order."""

    key: SortKey
    direction: str
    where: str
    parameters: dict[str, Any]


class _Bound(NamedTuple):
    """A value that a page's worth of customers very likely lies before."""

    value: Any
    tied: bool
    """Many have this very value."""


async def choose_parts(connection: AsyncConnection, sought: Sought) -> Sequence[Part]:
    """Say what a page is gathered from; ``:bound`` becomes one of its parameters.

    A page that comes out short may lack somebody: what it is gathered from is very likely enough,
    and not certainly. Empty: gather from everybody.
    """
    values = tuple(Part(test, tied=True) for test in sought.key.values)
    column = sought.key.bounded
    if column is None:
        return values
    if (bound := await _read_bound(connection, sought)) is None:
        return ()
    sought.parameters["bound"] = bound.value
    beyond = ">" if sought.direction == "DESC" else "<"
    found: tuple[Part, ...]
    if bound.tied:
        found = (Part(f"{column} {beyond} :bound"), Part(f"{column} = :bound", tied=True))
    else:
        found = (Part(f"{column} {beyond}= :bound"),)
    return found if sought.direction == "DESC" else found + values


async def _read_bound(connection: AsyncConnection, sought: Sought) -> _Bound | None:
    """Read it from a sample; None: that is too small to tell."""
    key, direction, where, parameters = sought
    query = text(f"""
        WITH sample AS MATERIALIZED (
          SELECT {key.value} AS value FROM customers c TABLESAMPLE SYSTEM ({100 * _SAMPLED})
          WHERE {where}
        )
        SELECT value, (SELECT count(*) FROM sample s WHERE s.value = bound.value) > {_MANY} AS tied
        FROM (SELECT value FROM sample ORDER BY 1 {direction} OFFSET :spare LIMIT 1) bound
    """)
    spare = 3 + int(2 * _SAMPLED * (parameters["skip"] + parameters["one_more"]))
    row = (await connection.execute(query, {**parameters, "spare": spare})).one_or_none()
    return _Bound(row.value, row.tied) if row else None


@asynccontextmanager
async def by_index(connection: AsyncConnection) -> AsyncIterator[None]:
    """Keep the planner from reading all of a table.

    What it expects of a BRIN index depends on how well a column's values happened to follow the
    order of the rows when statistics were taken: figures do not, so its guess is pure chance.
    """
    await connection.execute(text("SET LOCAL enable_seqscan = off"))
    yield
    await connection.execute(text("SET LOCAL enable_seqscan TO DEFAULT"))


def gathered_sql(sought: Sought, parts: Sequence[Part] = ()) -> str:
    """Write the query for ids and sort values that a page is the first of, gathered from parts."""
    key, direction, where, _ = sought
    by_id = f"{key.id} {direction}"
    return " UNION ALL ".join(
        f"(SELECT {key.id} AS id, {key.value} AS sort_value FROM {key.source}"
        f" WHERE {where} AND {part.test}"
        f" ORDER BY {by_id if part.tied else f'sort_value {direction}, {by_id}'}"
        " LIMIT CAST(:one_more AS bigint) + :skip)"
        for part in parts or _EVERYBODY
    )
