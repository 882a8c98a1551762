"""Customers as staff see them: one, or a filtered and sorted page of them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.cursor import decode, encode
from service.db.statistics import read_figures
from service.rules import Segment
from service.wire import customer_ref

_REF = re.compile(r"(?:CUST-)?(\d{1,18})", re.IGNORECASE)
_SHORTEST_INDEXED = 3  # a trigram index cannot help with less

_COLUMNS = """
c.id, c.email, c.name, c.phone, c.address, c.email_opt_in, c.sms_opt_in, c.notes, c.date_created,
c.date_updated, c.total_orders, c.total_spent, c.first_order_date, c.last_order_date, c.segment,
c.segment_manual, c.segment_pinned, c.segment_pinned_until,
ARRAY(SELECT o.id FROM orders o WHERE o.customer_id = c.id ORDER BY o.date_created, o.id)
  AS order_ids"""


class Sort(StrEnum):
    """What a list can be sorted by."""

    NAME = "name"
    EMAIL = "email"
    SEGMENT = "segment"
    TOTAL_ORDERS = "totalOrders"
    TOTAL_SPENT = "totalSpent"
    LAST_ORDER_DATE = "lastOrderDate"
    DATE_CREATED = "dateCreated"


class _SortKey(NamedTuple):
    expression: str
    kind: str


_SORT_KEYS = {
    Sort.NAME: _SortKey("lower(coalesce(c.name, ''))", "text"),
    Sort.EMAIL: _SortKey("c.email_key", "text"),
    Sort.SEGMENT: _SortKey("c.segment", "text"),
    Sort.TOTAL_ORDERS: _SortKey("c.total_orders", "integer"),
    Sort.TOTAL_SPENT: _SortKey("c.total_spent", "numeric"),
    Sort.LAST_ORDER_DATE: _SortKey("coalesce(c.last_order_date, '-infinity')", "timestamptz"),
    Sort.DATE_CREATED: _SortKey("c.date_created", "timestamptz"),
}


@dataclass(frozen=True)
class Filter:
    """Which customers are meant; spans include their start and exclude their end."""

    segments: Sequence[Segment] = ()
    search: str = ""
    """A part of the name, e-mail, phone or notes, without case; or a customer's id."""
    date_from: datetime | None = None
    date_to: datetime | None = None
    last_order_from: datetime | None = None
    last_order_to: datetime | None = None
    spent_from: Decimal | None = None
    spent_to: Decimal | None = None
    """Included, unlike the ends of spans of time."""

    def where(self) -> tuple[str, dict[str, Any]]:
        """Write the condition over ``customers c``, and its parameters."""
        conditions, parameters = ["true"], dict[str, Any]()
        if self.segments:
            conditions.append("c.segment = ANY(:segments)")
            parameters["segments"] = [segment.value for segment in self.segments]
        term = self.search.strip().lower()
        if term:
            conditions.append(f"c.id IN ({_search(term)})")
            parameters["pattern"] = f"%{_escaped(term)}%"
            found = _REF.fullmatch(term)
            parameters["ref"] = int(found[1]) if found else None
        for condition, name, value in (
            ("c.date_created >= :date_from", "date_from", self.date_from),
            ("c.date_created < :date_to", "date_to", self.date_to),
            ("c.last_order_date >= :last_order_from", "last_order_from", self.last_order_from),
            ("c.last_order_date < :last_order_to", "last_order_to", self.last_order_to),
            ("c.total_spent >= :spent_from", "spent_from", self.spent_from),
            ("c.total_spent <= :spent_to", "spent_to", self.spent_to),
        ):
            if value is not None:
                conditions.append(condition)
                parameters[name] = value
        return " AND ".join(conditions), parameters

    @property
    def only_by_segment(self) -> bool:
        """Whether the counters know how many these are."""
        return self == Filter(segments=self.segments)


def _search(term: str) -> str:
    # Of a term too short for trigrams the index would read everything, and the heap as well.
    test = "searched LIKE :pattern"
    if len(term) < _SHORTEST_INDEXED:
        test = "searched || '' LIKE :pattern"
    return (
        f"SELECT customer_id FROM customer_search WHERE {test}"
        " UNION SELECT CAST(:ref AS bigint) WHERE :ref IS NOT NULL"
    )


def _escaped(term: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", term)


@dataclass(frozen=True)
class Page:
    """Where a page begins and how it is sorted."""

    sort: Sort = Sort.DATE_CREATED
    descending: bool = True
    limit: int = 50
    cursor: str | None = None


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
    where, parameters = wanted.where()
    key = _SORT_KEYS[page.sort]
    direction, beyond = ("DESC", "<") if page.descending else ("ASC", ">")
    after = ""
    if page.cursor:
        value, last_id = decode(page.cursor, f"{page.sort}{direction}")
        after = (
            f" AND ({key.expression}, c.id) {beyond}"
            f" (CAST(CAST(:after AS text) AS {key.kind}), :after_id)"
        )
        parameters |= {"after": value, "after_id": last_id}
    query = text(
        # Sorted first and looked up after: rows are wide, and only a page of them is wanted.
        f"WITH page AS (SELECT c.id, {key.expression} AS sort_value FROM customers c"
        f" WHERE {where}{after} ORDER BY sort_value {direction}, c.id {direction}"
        f" LIMIT :one_more) SELECT {_COLUMNS}, CAST(page.sort_value AS text) AS sort_value"
        " FROM page CROSS JOIN LATERAL (SELECT * FROM customers WHERE id = page.id OFFSET 0) c"
        f" ORDER BY page.sort_value {direction}, c.id {direction}"
    )
    rows = (
        (await connection.execute(query, {**parameters, "one_more": page.limit + 1}))
        .mappings()
        .all()
    )
    shown, more = rows[: page.limit], len(rows) > page.limit
    return Found(
        items=[customer_json(dict(row)) for row in shown],
        total=await count(connection, wanted),
        next_cursor=encode(shown[-1]["sort_value"], shown[-1]["id"], f"{page.sort}{direction}")
        if more
        else None,
    )


async def count(connection: AsyncConnection, wanted: Filter) -> int:
    """Count the customers of a filter; from the counters where they know."""
    if wanted.only_by_segment:
        figures = await read_figures(connection)
        return sum(figures[segment].customers for segment in wanted.segments or Segment)
    where, parameters = wanted.where()
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
