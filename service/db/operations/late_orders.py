"""Notice orders of past days that came through the stream, and have past days computed again.

When a shop publishes the orders of three years, its customers all come on one day. What was known
when the days before it ended says nothing about them. Daily totals have them on their own days. So
the two tell how much came late.
"""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.reconstruction import ReconstructionCause
from service.db.statistics.generations import IN_USE, READ, request_reconstruction

DAYS = 7
"""How many days back is looked. A worker may have been stopped for some."""
_SHARE = Decimal("0.01")
"""Less than this share of all customers, and of all money, is the daily round of a shop: an order
of the last evening that comes after midnight."""

# Each day's sum goes up to the newest day: it is what came later than the day before it ended, less
# what is dated later. Computing past days costs a large shop much, so it is done once an hour.
_LATE = text(f"""
WITH g AS MATERIALIZED (
  SELECT CAST(clock_timestamp() AT TIME ZONE time_zone AS date) - {DAYS} AS first
  FROM daily_generations
  WHERE generation = {IN_USE} AND NOT EXISTS (SELECT FROM reconstructions)
    AND (reconstructed_until IS NULL OR counted_at < clock_timestamp() - interval '1 hour')
),
moved AS (
  SELECT day, customers, total_spent AS spent FROM daily_changes WHERE {READ}
  UNION ALL
  SELECT day, -created, -revenue FROM daily_totals WHERE {READ}
),
late AS (
  SELECT sum(sum(customers)) OVER later AS customers, sum(sum(spent)) OVER later AS spent
  FROM moved JOIN g ON day > first GROUP BY day WINDOW later AS (ORDER BY day DESC)
)
SELECT coalesce(max(late.customers), 0) AS customers, coalesce(max(late.spent), 0) AS spent,
  (SELECT sum(customers) FROM segment_counters) AS all_customers,
  (SELECT sum(total_spent) FROM segment_counters) AS all_spent
FROM late
""")


class Late(NamedTuple):
    """What nobody knew when a day of the last `DAYS` ended, at the most."""

    customers: int
    spent: Decimal

    def is_near(self, other: "Late") -> bool:
        """Return whether the other one is the same, but for a hundredth."""
        pairs = ((Decimal(self.customers), Decimal(other.customers)), (self.spent, other.spent))
        return all(abs(one - two) <= _SHARE * max(abs(one), abs(two)) for one, two in pairs)


async def find_late(connection: AsyncConnection) -> Late | None:
    """Return what came late; None if it is little, or if past days cannot be computed now."""
    row = (await connection.execute(_LATE)).one()
    if row.customers > _SHARE * row.all_customers or row.spent > _SHARE * row.all_spent:
        return Late(row.customers, row.spent)
    return None


def late_orders_step() -> Callable[[AsyncConnection], Awaitable[int | None]]:
    """Build the step that asks for past days when late orders have stopped coming."""
    before: Late | None = None

    async def step(connection: AsyncConnection) -> int | None:
        nonlocal before
        late, known = await find_late(connection), before
        before = late
        if late is None or known is None or not late.is_near(known):
            return None
        await request_reconstruction(connection, ReconstructionCause.LATE_ORDERS)
        before = None
        return 1

    return step
