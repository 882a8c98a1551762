"""Events of an order that contradict each other, as staff see them.

Batches keep both events of each conflict that they notice (`service.db.ingest.apply`). Which ones
they notice depends on the order of arrival. What is shown does not: the order's state, and of each
other content the event with the greatest id. That one is always among those that are kept, because
it was the order's state at some time, or met the state.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.customers.paging import Listed, TimePosition

_SAME_KEY = (
    "(c.version, c.updated_at, c.sent_at)"
    " = (o.version, o.updated_at, coalesce(o.sent_at, o.updated_at))"
)
_CONTENT = {
    "status": "c.content ->> 'status'",
    "payment_status": "c.content ->> 'payment_status'",
    "total": "CAST(c.content ->> 'total_cents' AS numeric) / 100",
    "refunded": "CAST(c.content ->> 'refunded_cents' AS numeric) / 100",
    "currency": "c.content ->> 'currency'",
    "exchange_rate": "CAST(c.content ->> 'exchange_rate' AS numeric)",
    "date_created": "CAST(c.content ->> 'date_created' AS timestamptz)",
}
_OTHER_CONTENT = " OR ".join(
    f"{told} IS DISTINCT FROM o.{column}" for column, told in _CONTENT.items()
)
IN_CONFLICT = f"""EXISTS (
  SELECT FROM order_conflicts c
  WHERE c.order_id = o.id AND c.event_id <> o.event_id AND {_SAME_KEY} AND ({_OTHER_CONTENT})
)"""
"""SQL for: another event contradicts the state of ``orders o``."""

_OPEN = f"""
SELECT c.order_id, min(c.noticed_at) AS noticed_at
FROM order_conflicts c JOIN orders o ON o.id = c.order_id
WHERE c.event_id <> o.event_id AND {_SAME_KEY} AND ({_OTHER_CONTENT})
GROUP BY c.order_id
"""
_PAGE = text(f"""
SELECT order_id, noticed_at FROM ({_OPEN}) open
WHERE CAST(:at AS timestamptz) IS NULL OR (noticed_at, order_id) < (:at, :last)
ORDER BY noticed_at DESC, order_id DESC LIMIT :one_more
""")
_COUNT = text(f"SELECT count(*) FROM ({_OPEN}) open")
_EVENTS = text(f"""
SELECT o.id AS order_id, o.customer_id, o.version, o.updated_at, o.event_id, true AS holds,
       {", ".join(f"o.{column}" for column in _CONTENT)}
FROM orders o WHERE o.id = ANY(:ids)
UNION ALL
SELECT * FROM (
  SELECT DISTINCT ON (c.order_id, c.content) c.order_id, o.customer_id, c.version, c.updated_at,
         c.event_id, false AS holds, {", ".join(_CONTENT.values())}
  FROM order_conflicts c JOIN orders o ON o.id = c.order_id
  WHERE c.order_id = ANY(:ids) AND c.event_id <> o.event_id AND {_SAME_KEY} AND ({_OTHER_CONTENT})
  ORDER BY c.order_id, c.content, c.event_id DESC
) others
ORDER BY order_id, holds DESC, event_id DESC
""")
_FORGET = text(f"""
DELETE FROM order_conflicts WHERE (order_id, event_id) IN (
  SELECT c.order_id, c.event_id FROM order_conflicts c JOIN orders o ON o.id = c.order_id
  WHERE NOT ({_SAME_KEY}) LIMIT 1000
)
""")


class ToldState(NamedTuple):
    """What one of the events says of the order."""

    event_id: str
    holds: bool
    """It is the order's state: it has the greatest id."""
    status: str
    payment_status: str | None
    total: Decimal
    """In the currency that this event says, as is what was refunded."""
    refunded: Decimal
    currency: str | None
    """None: the store's."""
    exchange_rate: Decimal | None
    date_created: datetime


class Contradiction(NamedTuple):
    """An order, and its events that contradict each other; the first of them holds."""

    order_id: str
    customer_id: int | None
    version: int
    updated_at: datetime
    """When all of them say that the order was changed."""
    events: Sequence[ToldState]


async def count(connection: AsyncConnection) -> int:
    """Return how many orders have events that contradict each other."""
    return int((await connection.execute(_COUNT)).scalar_one())


async def page(
    connection: AsyncConnection, limit: int, after: TimePosition | None
) -> Listed[Contradiction]:
    """Return a page of the orders whose events contradict each other, the latest noticed first."""
    rows = (
        await connection.execute(
            _PAGE,
            {
                "at": after.at if after else None,
                "last": after.ref if after else None,
                "one_more": limit + 1,
            },
        )
    ).all()
    shown = rows[:limit]
    found = await of_orders(connection, [row.order_id for row in shown])
    end = TimePosition(shown[-1].noticed_at, shown[-1].order_id) if len(rows) > limit else None
    return Listed([found[row.order_id] for row in shown], await count(connection), end)


async def of_orders(
    connection: AsyncConnection, order_ids: Sequence[str]
) -> dict[str, Contradiction]:
    """Return those of the orders whose events contradict each other, by id."""
    if not order_ids:
        return {}
    found = dict[str, Contradiction]()
    events = dict[str, list[ToldState]]()
    for row in await connection.execute(_EVENTS, {"ids": order_ids}):
        told = events.setdefault(row.order_id, [])
        told.append(_told(row))
        if len(told) > 1:
            found[row.order_id] = Contradiction(
                row.order_id, row.customer_id, row.version, row.updated_at, told
            )
    return found


async def forget_superseded(connection: AsyncConnection) -> int | None:
    """Delete kept events of orders whose state is newer by now. Return how many; None if none."""
    return (await connection.execute(_FORGET)).rowcount or None


def _told(row: Any) -> ToldState:
    return ToldState(*(getattr(row, name) for name in ToldState._fields))
