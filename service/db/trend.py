"""How the figures came to be what they are: one item per day, the days being UTC's.

Segments are taken back from today's counters by the changes since, so only the days shown are
read. They are known from when this service was told: an order of last year that was imported
today moved its customer today, while orders, revenue and customers stand on their own dates.
"""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.statistics import clock, read_figures
from service.rules import Segment


def _day(column: str) -> str:
    return f"CAST({column} AT TIME ZONE 'UTC' AS date)"


# Those who were erased are in no counter any more; their changes stayed.
_MOVES = text(f"""
WITH moves AS (
  SELECT {_day("s.changed_at")} AS day, s.previous, s.segment, count(*) AS customers
  FROM segment_changes s
  WHERE s.changed_at >= :start AND EXISTS (SELECT FROM customers c WHERE c.id = s.customer_id)
  GROUP BY 1, 2, 3
)
SELECT day, segment, CAST(sum(customers) AS bigint) AS customers FROM (
  SELECT day, segment, customers FROM moves
  UNION ALL SELECT day, previous, -customers FROM moves WHERE previous IS NOT NULL
) sides GROUP BY day, segment
""")
_CREATED = text(f"""
SELECT {_day("date_created")} AS day, count(*) AS customers
FROM customers WHERE date_created >= :start GROUP BY 1
""")
_SALES = text(f"""
SELECT {_day("date_created")} AS day, count(*) AS orders, sum(total - refunded) AS revenue
FROM orders WHERE counts AND date_created >= :start AND date_created < :end GROUP BY 1
""")


async def trend(
    connection: AsyncConnection, days: int, now: datetime | None = None
) -> list[dict[str, Any]]:
    """Give the last ``days`` UTC days, the oldest first; today goes up to ``now`` (None: now).

    ``segments``: customers per segment when the day ended, of those there are today.
    ``newCustomers``: customers whose ``dateCreated`` lies in the day. ``totalCustomers``: those
    created up to its end. ``orders`` and ``revenue``: number and net sum (total less refunds) of
    the counted orders placed in it, attributed or not.

    Read in one snapshot, as the counters have to agree with the changes.
    """
    today = (now or await clock(connection)).astimezone(UTC).date()
    first = today - timedelta(days=days - 1)
    start, end = _midnight(first), _midnight(today + timedelta(days=1))
    figures = await read_figures(connection)
    present = {segment: figure.customers for segment, figure in figures.items()}
    moved: dict[tuple[date, Segment], int] = {
        (row.day, Segment(row.segment)): row.customers
        for row in await connection.execute(_MOVES, {"start": start})
    }
    created = {
        row.day: row.customers for row in await connection.execute(_CREATED, {"start": start})
    }
    sales = {row.day: row for row in await connection.execute(_SALES, {"start": start, "end": end})}
    # Publishers' clocks may run ahead: some were created tomorrow.
    total = sum(present.values()) - sum(n for day, n in created.items() if day > today)
    items: list[dict[str, Any]] = []
    for day in (today - timedelta(days=n) for n in range(days)):
        sold = sales.get(day)
        items.append(
            {
                "date": day.isoformat(),
                "segments": {segment.value: present[segment] for segment in Segment},
                "totalCustomers": total,
                "newCustomers": created.get(day, 0),
                "orders": sold.orders if sold else 0,
                "revenue": sold.revenue if sold else Decimal(0),
            }
        )
        present = {segment: n - moved.get((day, segment), 0) for segment, n in present.items()}
        total -= created.get(day, 0)
    return items[::-1]


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
