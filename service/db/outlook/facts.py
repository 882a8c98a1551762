"""The facts of customers that predictions are made from, gathered in sets."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from random import Random
from typing import Any, NamedTuple

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.outlook import KnownCustomer, PastCustomer
from service.db.columns import pack, unpack

MOST_FITTED = 50_000
"""A model is fitted to at most so many customers. More make it no better, only slower."""
_DRAWN = 5_000
"""Customers per statement."""

_DAY = "CAST(o.date_created AT TIME ZONE 'UTC' AS date)"
# Who has one order has one day, so only the others' orders are read.
_ORDER_DAYS = f"""CASE WHEN c.total_orders = 1 THEN 1 ELSE (
    SELECT count(DISTINCT {_DAY}) FROM orders o WHERE o.customer_id = c.id AND o.counts) END"""
_FACTS = f"""
SELECT c.id, {_ORDER_DAYS} AS order_days, c.total_orders, c.first_order_date,
  c.last_order_date, c.total_spent"""
CHUNK = text(f"""{_FACTS}
FROM (SELECT * FROM customers WHERE id > :after ORDER BY id LIMIT :most) c ORDER BY c.id
""")
_OF = text(f"""{_FACTS}
FROM customers c WHERE c.id = ANY(CAST(:ids AS bigint[])) AND c.total_orders > 0
""")
_RANGE = text("SELECT count(*), min(id), max(id) FROM customers WHERE total_orders > 0")
_ALL = text("SELECT id FROM customers WHERE total_orders > 0 ORDER BY id")
_DRAWN_FACTS = text(f"""
SELECT count(DISTINCT {_DAY}) AS order_days, count(*) AS orders, min(o.date_created) AS first_order,
  max(o.date_created) AS last_order, sum(o.net) AS spent,
  count(DISTINCT {_DAY}) FILTER (WHERE o.date_created < :cut) AS days_then,
  max(o.date_created) FILTER (WHERE o.date_created < :cut) AS last_then,
  sum(o.net) FILTER (WHERE o.date_created < :cut) AS spent_then
FROM ({unpack({"id": "bigint"})}) d JOIN orders o ON o.customer_id = d.id AND o.counts
GROUP BY d.id
""")


class Drawn(NamedTuple):
    """Customers to fit a model to: as they are now, and as they were when the test begins."""

    now: list[KnownCustomer]
    then: list[PastCustomer]
    everybody: int
    """All customers with orders, of whom these were drawn."""


async def draw(connection: AsyncConnection, now: datetime, cut: datetime) -> Drawn:
    """Return all customers with orders, or `MOST_FITTED` of them, drawn by the date.

    Each statement reads a snapshot of its own; the caller ends the transaction when it likes.
    """
    everybody, lowest, highest = (await connection.execute(_RANGE)).one()
    if everybody <= MOST_FITTED:
        ids: Sequence[int] = (await connection.execute(_ALL)).scalars().all()
    else:
        ids = sorted(Random(str(now.date())).sample(range(lowest, highest + 1), MOST_FITTED))
    drawn = Drawn([], [], everybody)
    for start in range(0, len(ids), _DRAWN):
        rows = await connection.execute(
            _DRAWN_FACTS, pack({"id": ids[start : start + _DRAWN]}) | {"cut": cut}
        )
        for row in rows:
            drawn.now.append(KnownCustomer(*row[:5]))
            if row.days_then:
                drawn.then.append(
                    PastCustomer(
                        row.days_then,
                        row.first_order,
                        row.last_then,
                        row.spent_then,
                        row.order_days - row.days_then,
                        row.spent - row.spent_then,
                    )
                )
    return drawn


class Chunk(NamedTuple):
    """The facts of the next customers in the order of their ids."""

    ids: list[int]
    facts: list[KnownCustomer]
    examined: int
    """How many customers were looked at, without orders too."""
    last_id: int
    """The greatest of their ids; that which they come after if there are none."""


async def next_chunk(connection: AsyncConnection, after: int, most: int) -> Chunk:
    """Return the facts of those of the next ``most`` customers who have orders."""
    rows = (await connection.execute(CHUNK, {"after": after, "most": most})).all()
    known = _known(rows)
    return Chunk(list(known), list(known.values()), len(rows), rows[-1].id if rows else after)


async def facts_of(connection: AsyncConnection, ids: Sequence[int]) -> dict[int, KnownCustomer]:
    """Return the facts of those of these customers who have orders."""
    rows = await connection.execute(_OF, {"ids": list(ids)})
    return _known(rows)


def _known(rows: Iterable[Row[Any]]) -> dict[int, KnownCustomer]:
    """Return the facts of the customers with orders, by id, from rows of `_FACTS`."""
    return {row[0]: KnownCustomer._make(row[1:]) for row in rows if row.order_days}
