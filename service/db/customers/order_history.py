"""Lists of orders: those of a customer, and those that no event has attributed yet."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.counting import NotCounted
from service.core.order_flags import OrderFlag
from service.db.counting import COUNTING, STORED_REASON
from service.db.customers.order_flags import FLAGS
from service.db.customers.paging import Listed, TimePosition

_OF_CUSTOMER = "customer_id = :id"
# Orders of erased people have no customer either, but on purpose.
_UNATTRIBUTED = "customer_id IS NULL AND NOT erased AND CAST(:id AS bigint) IS NULL"


class OrderRow(NamedTuple):
    """An order in its latest known state."""

    id: str
    version: int
    status: str
    payment_status: str | None
    total: Decimal
    """In the order's currency, as is what was refunded."""
    refunded: Decimal
    currency: str | None
    """None: the store's."""
    exchange_rate: Decimal | None
    """The store's currency per unit of this one. None: unknown, or it is the store's."""
    net: Decimal
    """What it adds to the customer's total if it counts, in the store's currency."""
    counts: bool
    not_counted: NotCounted | None
    """Why it does not count. None if it does, or if it will when a recount comes to it."""
    date_created: datetime
    updated_at: datetime
    named_by: Sequence[str]
    """The identifiers that named the customer; none for orders that an earlier release read."""
    by_hand: bool
    """Staff assigned it to the customer. They may assign it to another one."""
    flags: Sequence[OrderFlag]


_COMPOSED = {
    "not_counted": f"{STORED_REASON} AS not_counted",
    "named_by": "array_remove(ARRAY[identifier, other_identifier], NULL) AS named_by",
    "by_hand": "coalesce(named_at = 'infinity', false) AS by_hand",
    "flags": f"{FLAGS} AS flags",
}
_COLUMNS = ", ".join(_COMPOSED.get(name, name) for name in OrderRow._fields)
_NOT_COUNTED = text(f"""
SELECT reason, count(*) AS orders FROM (
  SELECT {STORED_REASON} AS reason FROM orders CROSS JOIN ({COUNTING}) counting
  WHERE customer_id = :id
) o
WHERE reason IS NOT NULL GROUP BY reason
""")
_ORDERS = f"SELECT {_COLUMNS} FROM orders o CROSS JOIN ({COUNTING}) counting"


async def of_customer(
    connection: AsyncConnection, customer_id: int, limit: int, after: TimePosition | None
) -> Listed[OrderRow]:
    """Return a page of a customer's orders, the latest first."""
    return await _page(connection, _OF_CUSTOMER, customer_id, limit, after)


async def unattributed(
    connection: AsyncConnection, limit: int, after: TimePosition | None
) -> Listed[OrderRow]:
    """Return a page of the orders whose events named no customer, the latest first."""
    return await _page(connection, _UNATTRIBUTED, None, limit, after)


async def assignable(connection: AsyncConnection, order_id: str) -> OrderRow | None:
    """Return an order without a customer, or with one whom staff gave it; None for others."""
    query = text(
        f"{_ORDERS} WHERE id = :order_id AND NOT erased"
        " AND (customer_id IS NULL OR named_at = 'infinity')"
    )
    row = (await connection.execute(query, {"order_id": order_id})).one_or_none()
    return None if row is None else _order(row)


async def not_counted(connection: AsyncConnection, customer_id: int) -> dict[NotCounted, int]:
    """Return how many orders of a customer do not count, by the reason, in the enum's order."""
    rows = await connection.execute(_NOT_COUNTED, {"id": customer_id})
    found = {NotCounted(row.reason): row.orders for row in rows}
    return {reason: found[reason] for reason in NotCounted if reason in found}


async def _page(
    connection: AsyncConnection,
    condition: str,
    customer_id: int | None,
    limit: int,
    after: TimePosition | None,
) -> Listed[OrderRow]:
    parameters: dict[str, Any] = {"id": customer_id, "one_more": limit + 1}
    beyond = ""
    if after:
        beyond = "AND (date_created, id) < (:at, :last)"
        parameters |= {"at": after.at, "last": after.ref}
    query = text(
        f"{_ORDERS} WHERE {condition} {beyond} ORDER BY date_created DESC, id DESC LIMIT :one_more"
    )
    rows = [_order(row) for row in await connection.execute(query, parameters)]
    total = await connection.execute(
        text(f"SELECT count(*) FROM orders WHERE {condition}"), {"id": customer_id}
    )
    last = rows[limit - 1] if len(rows) > limit else None
    return Listed(
        rows[:limit],
        int(total.scalar_one()),
        TimePosition(last.date_created, last.id) if last else None,
    )


def _order(row: Sequence[Any]) -> OrderRow:
    order = OrderRow(*row)
    return order._replace(
        not_counted=order.not_counted and NotCounted(order.not_counted),
        flags=[OrderFlag(flag) for flag in order.flags],
    )
