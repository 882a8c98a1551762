"""Read what is expected, as the last refresh stored it."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.outlook import HORIZONS, Outlook

# The row of somebody whose last order was cancelled stays until the next refresh.
_OF = text("""
SELECT o.customer_id, o.order_days, o.chance, o.orders, o.value, o.expected_on, o.overdue_on, o.rfm
FROM customer_outlook o JOIN customers c ON c.id = o.customer_id
WHERE o.customer_id = ANY(:ids) AND c.total_orders > 0
""")
_REFRESH = text("""
SELECT model, completed_at, expected_orders, expected_revenue FROM insight_refresh
""")
_OVERDUE = text("SELECT count(*) FROM customer_outlook WHERE overdue_on < :today")


class Forecast(NamedTuple):
    """What is expected of all customers within some days. New customers come on top."""

    days: int
    orders: float
    revenue: float


class Refresh(NamedTuple):
    """The last complete circle of the refresh."""

    completed_at: datetime | None
    """None: none was completed yet."""
    model: int | None
    forecasts: list[Forecast]


async def outlooks_of(connection: AsyncConnection, ids: Sequence[int]) -> dict[int, Outlook]:
    """Return what is expected of each of these customers who has an outlook."""
    rows = await connection.execute(_OF, {"ids": list(ids)})
    return {row.customer_id: Outlook(*row[1:]) for row in rows}


async def last_refresh(connection: AsyncConnection) -> Refresh:
    """Return when outlooks were last refreshed, and what is expected of everybody."""
    row = (await connection.execute(_REFRESH)).one()
    if row.completed_at is None or row.expected_orders is None:
        return Refresh(row.completed_at, row.model, [])
    forecasts = zip(HORIZONS, row.expected_orders, row.expected_revenue, strict=True)
    return Refresh(row.completed_at, row.model, [Forecast(*each) for each in forecasts])


async def count_overdue(connection: AsyncConnection, today: date) -> int:
    """Return how many customers should have ordered by now, going by their own pace."""
    return int((await connection.execute(_OVERDUE, {"today": today})).scalar_one())
