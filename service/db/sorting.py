"""How lists are sorted: pages that are found without sorting everybody.

Name, e-mail and date of creation have an index that is in order. Figures change with every order,
and a b-tree on them would cost all of these more than it is worth. Theirs is a BRIN index: it has
no order, but it leads to those beyond a bound, and a bound comes from a sample.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.rules import Segment


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


class Key(NamedTuple):
    """How to sort: by a value, then by ``id``, both of ``source``."""

    value: str
    kind: str
    source: str = "customers c"
    id: str = "c.id"
    in_order: bool = False
    """An index has them in this order."""
    parts: "tuple[Sequence[Part], Sequence[Part]]" = ((), ())
    """What a page is gathered from, falling and rising; all, if it is up to no bound."""


class Part(NamedTuple):
    """Of one value many are found along the ids, of many values few by the BRIN index."""

    test: str
    """May compare with ``:bound``."""
    tied: bool = True
    """All have the same value."""


def _up_to_bound(column: str, *others: Part) -> tuple[Sequence[Part], Sequence[Part]]:
    at_bound = Part(f"{column} = :bound")
    return (
        (Part(f"{column} > :bound", tied=False), at_bound),
        (Part(f"{column} < :bound", tied=False), at_bound, *others),
    )


_SEGMENTS = tuple(Part(f"c.segment = '{segment}'") for segment in Segment)
_EVERYBODY = (Part("true", tied=False),)
KEYS = {
    Sort.NAME: Key(
        "split_part(n.searched, chr(10), 1)",
        "text",
        "customer_search n JOIN customers c ON c.id = n.customer_id",
        "n.customer_id",
        in_order=True,
    ),
    Sort.EMAIL: Key("c.email_key", "text", in_order=True),
    Sort.SEGMENT: Key("c.segment", "text", parts=(_SEGMENTS, _SEGMENTS)),
    Sort.TOTAL_ORDERS: Key("c.total_orders", "integer", parts=_up_to_bound("c.total_orders")),
    Sort.TOTAL_SPENT: Key("c.total_spent", "numeric", parts=_up_to_bound("c.total_spent")),
    Sort.LAST_ORDER_DATE: Key(
        "coalesce(c.last_order_date, '-infinity')",
        "timestamptz",
        parts=_up_to_bound("c.last_order_date", Part("c.last_order_date IS NULL")),
    ),
    Sort.DATE_CREATED: Key("c.date_created", "timestamptz", in_order=True),
}
_SAMPLED = 0.01
"""The share of the table's pages that is looked at for a bound."""


class Sought(NamedTuple):
    """Customers of a filter, from a cursor on, in an order."""

    key: Key
    direction: str
    where: str
    parameters: dict[str, Any]


async def read_bound(connection: AsyncConnection, sought: Sought) -> Any | None:
    """Give, from a sample, a value that a page's worth of customers very likely lies before.

    None: the sample is too small to tell.
    """
    key, direction, where, parameters = sought
    query = text(
        f"SELECT {key.value} FROM customers c TABLESAMPLE SYSTEM ({100 * _SAMPLED})"
        f" WHERE {where} ORDER BY 1 {direction} OFFSET :spare LIMIT 1"
    )
    spare = 3 + int(2 * _SAMPLED * (parameters["skip"] + parameters["one_more"]))
    return (await connection.execute(query, {**parameters, "spare": spare})).scalar()


def gathered_sql(sought: Sought, parts: Sequence[Part] = ()) -> str:
    """Write the query for ids and sort values that a page is the first of; see `Key.parts`."""
    key, direction, where, _ = sought
    by_id = f"{key.id} {direction}"
    return " UNION ALL ".join(
        f"(SELECT {key.id} AS id, {key.value} AS sort_value FROM {key.source}"
        f" WHERE {where} AND {part.test}"
        f" ORDER BY {by_id if part.tied else f'sort_value {direction}, {by_id}'}"
        " LIMIT CAST(:one_more AS bigint) + :skip)"
        for part in parts or _EVERYBODY
    )
