"""Money in other currencies, which is never added to the store's.

An order in another currency without an exchange rate counts, but its money is kept apart. A partial
index holds such orders, so a shop that has none pays nothing.
"""

from decimal import Decimal
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.customers.filters import Filter

_APART = "o.counts AND o.currency IS NOT NULL AND o.exchange_rate IS NULL"
_SUMS = "o.currency, count(*) AS orders, sum(o.total - LEAST(o.refunded, o.total)) AS amount"


class MoneyApart(NamedTuple):
    """What counted orders in one other currency add up to."""

    currency: str
    """As in ISO 4217."""
    orders: int
    amount: Decimal
    """Their totals less refunds, in this currency."""


OF_CUSTOMER = f"""
(SELECT coalesce(jsonb_agg(jsonb_build_array(a.currency, a.orders, CAST(a.amount AS text))
                           ORDER BY a.currency), '[]')
 FROM (SELECT {_SUMS} FROM orders o
       WHERE o.customer_id = c.id AND {_APART} GROUP BY o.currency) a)"""
"""SQL for the `MoneyApart` of ``customers c``, as JSON arrays; amounts are texts."""

OF_CUSTOMER_IN_A_CELL = f"""
(SELECT string_agg(a.currency || ' ' || a.amount, '; ' ORDER BY a.currency)
 FROM (SELECT {_SUMS} FROM orders o
       WHERE o.customer_id = c.id AND {_APART} GROUP BY o.currency) a)"""
"""SQL for the same as one text, such as ``EUR 120.00; GBP 5.00``; NULL if there is none."""

_OF_ALL = text(f"""
SELECT {_SUMS} FROM orders o
WHERE {_APART} AND o.customer_id IS NOT NULL GROUP BY o.currency ORDER BY o.currency
""")


async def money_apart(
    connection: AsyncConnection, chosen: Filter, hits: int | None = None
) -> list[MoneyApart]:
    """Return what the customers whom a filter chooses spent in other currencies.

    ``hits`` is the number of hits of the filter's search, if it is known.
    """
    if chosen == Filter():
        rows = await connection.execute(_OF_ALL)
    else:
        where, parameters = chosen.where(hits)
        query = text(f"""
SELECT {_SUMS} FROM orders o JOIN customers c ON c.id = o.customer_id
WHERE {_APART} AND {where} GROUP BY o.currency ORDER BY o.currency
""")
        rows = await connection.execute(query, parameters)
    return [MoneyApart(*row) for row in rows]
