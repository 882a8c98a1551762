"""Customers as staff see them: one, or a filtered and sorted page of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.cursor import BadCursorError, decode, encode
from service.core.customer_ids import customer_ref
from service.core.segment_rules import Segment
from service.db.customers.filters import Filter, search_test
from service.db.customers.sorting import (
    KEYS,
    Part,
    Sort,
    Sought,
    by_index,
    choose_parts,
    gathered_sql,
)
from service.db.engine import refused_data
from service.db.statistics.counters import read_figures

_COLUMNS = """
c.id, c.email, c.name, c.phone, c.address, c.email_opt_in, c.sms_opt_in, c.notes, c.date_created,
c.date_updated, c.total_orders, c.total_spent, c.first_order_date, c.last_order_date, c.segment,
c.segment_manual, c.segment_pinned, c.segment_pinned_until,
ARRAY(SELECT o.id FROM orders o WHERE o.customer_id = c.id ORDER BY o.date_created, o.id)
  AS order_ids"""


@dataclass(frozen=True)
class Page:
    """Where a page begins and how it is sorted."""

    sort: Sort = Sort.DATE_CREATED
    descending: bool = True
    limit: int = 50
    cursor: str | None = None
    skip: int = 0
    """How many to leave out before it: for pages with numbers, which people want."""


@dataclass(frozen=True)
class Found:
    """A page of customers, as the API writes them."""

    items: list[dict[str, Any]] = field(default_factory=list)
    total: int = 0
    next_cursor: str | None = None


async def find(connection: AsyncConnection, wanted: Filter, page: Page) -> Found:
    """List customers; ``total`` counts the same filter in the same snapshot.

    The cursor holds the last row's sort value and id, so a page goes on where the one before
    ended, whatever was written in between. Raises BadCursorError for one that is not ours.
    """
    hits = await _count_hits(connection, wanted)
    key = KEYS[page.sort]
    where, parameters = wanted.where(hits, in_order=key.in_order)
    direction, beyond = ("DESC", "<") if page.descending else ("ASC", ">")
    if page.cursor:
        value, last_id = decode(page.cursor, f"{page.sort}{direction}")
        where += (
            f" AND ({key.value}, {key.id}) {beyond}"
            f" (CAST(CAST(:after AS text) AS {key.kind}), :after_id)"
        )
        parameters |= {"after": value, "after_id": last_id}
    parameters |= {"one_more": page.limit + 1, "skip": page.skip}
    sought = Sought(key, direction, where, parameters)
    try:
        rows: Sequence[RowMapping] = ()
        if hits is None and (parts := await choose_parts(connection, sought)):
            async with by_index(connection):
                rows = await _rows(connection, sought, parts)
        if len(rows) <= page.limit:
            rows = await _rows(connection, sought)
    except DBAPIError as error:
        if page.cursor and refused_data(error):
            raise BadCursorError from None  # what it holds is nothing to sort by
        raise
    shown, more = rows[: page.limit], len(rows) > page.limit
    return Found(
        items=[customer_json(dict(row)) for row in shown],
        total=await _count(connection, wanted, hits),
        next_cursor=encode(shown[-1]["sort_value"], shown[-1]["id"], f"{page.sort}{direction}")
        if more
        else None,
    )


async def _rows(
    connection: AsyncConnection, sought: Sought, parts: Sequence[Part] = ()
) -> Sequence[RowMapping]:
    direction = sought.direction
    query = text(
        # Sorted first and looked up after: rows are wide, and only a page of them is wanted.
        f"WITH page AS (SELECT * FROM ({gathered_sql(sought, parts)}) gathered"
        f" ORDER BY sort_value {direction}, id {direction} LIMIT :one_more OFFSET :skip)"
        f" SELECT {_COLUMNS}, CAST(page.sort_value AS text) AS sort_value"
        " FROM page CROSS JOIN LATERAL (SELECT * FROM customers WHERE id = page.id OFFSET 0) c"
        f" ORDER BY page.sort_value {direction}, c.id {direction}"
    )
    return (await connection.execute(query, sought.parameters)).mappings().all()


async def _count_hits(connection: AsyncConnection, wanted: Filter) -> int | None:
    """Count what the search finds, without looking at customers; None: nothing is searched for."""
    if not wanted.term:
        return None
    test, parameters = search_test(wanted.term)
    query = text(f"SELECT count(*) FROM customer_search s WHERE {test}")
    return int((await connection.execute(query, parameters)).scalar_one())


async def _count(connection: AsyncConnection, wanted: Filter, hits: int | None) -> int:
    """Count the customers of a filter; from the counters where they know."""
    if hits is not None and wanted == Filter(search=wanted.search):
        return hits
    if wanted.only_by_segment:
        figures = await read_figures(connection)
        return sum(figures[segment].customers for segment in wanted.segments or Segment)
    where, parameters = wanted.where(hits)
    result = await connection.execute(
        text(f"SELECT count(*) FROM customers c WHERE {where}"), parameters
    )
    return int(result.scalar_one())


async def read(
    connection: AsyncConnection, customer_id: int, *, lock: bool = False
) -> RowMapping | None:
    """Read one customer; ``lock`` keeps every other writer away until the transaction ends."""
    query = f"SELECT {_COLUMNS} FROM customers c WHERE c.id = :id{' FOR UPDATE' if lock else ''}"
    return (await connection.execute(text(query), {"id": customer_id})).mappings().one_or_none()


def customer_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """Write a customer as the API does."""
    address = row["address"] or {}
    return {
        "id": customer_ref(row["id"]),
        "name": row["name"],
        "email": row["email"],
        "phone": row["phone"],
        "address": {
            part: address.get(part) for part in ("street", "city", "state", "zip", "country")
        },
        "segment": row["segment"],
        "segmentSource": "manual" if row["segment_manual"] else "rules",
        "segmentPinned": row["segment_pinned"],
        "segmentPinnedUntil": row["segment_pinned_until"],
        "preferences": {"emailOptIn": row["email_opt_in"], "smsOptIn": row["sms_opt_in"]},
        "notes": row["notes"],
        "dateCreated": row["date_created"],
        "dateUpdated": row["date_updated"],
        "firstOrderDate": row["first_order_date"],
        "lastOrderDate": row["last_order_date"],
        "totalOrders": row["total_orders"],
        "totalSpent": row["total_spent"],
        "orderIds": row["order_ids"],
    }
