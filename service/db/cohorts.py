"""Retention by cohort: of those who first ordered in a month, how many ordered in each later one.

The definition is the usual one of shop systems, for example SHOPLINE's "Customer Group Analysis"
(https://help.shopline.com/hc/en-001/articles/17735006852121-Customer-Group-Analysis): customers
are grouped by the period of their first order, and the retention rate of a following period is
100 · those of the group who ordered in it / the size of the group. The period of the first order
itself is 100 % and is not repeated here.
"""

from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

# Searching a month's number among the months' beginnings takes half as long as computing it.
_COHORTS = text("""
WITH members AS (
  SELECT id, width_bucket(first_order_date, CAST(:begins AS timestamptz[])) AS cohort
  FROM customers WHERE first_order_date >= :start AND first_order_date < :end
),
ordered AS (
  SELECT DISTINCT customer_id,
         width_bucket(date_created, CAST(:begins AS timestamptz[])) AS month
  FROM orders
  WHERE counts AND customer_id IS NOT NULL AND date_created >= :start AND date_created < :end
)
SELECT m.cohort, o.month, count(*) AS customers
FROM members m JOIN ordered o ON o.customer_id = m.id
GROUP BY m.cohort, o.month
""")
_NOW = text("SELECT clock_timestamp()")
_CENT = Decimal("0.01")


async def cohorts(
    connection: AsyncConnection, months: int, now: datetime | None = None
) -> list[dict[str, Any]]:
    """Give the cohorts of the last ``months`` UTC months, this one included, the oldest first.

    A cohort is the customers whose first counted order was placed in that month: its ``size``.
    For every month since, this unfinished one included, ``customers`` of them placed a counted
    order, which is ``percentage`` of the size. Empty cohorts are listed, too.
    """
    now = (now or (await connection.execute(_NOW)).scalar_one()).astimezone(UTC)
    this = now.year * 12 + now.month - 1
    shown = range(this - months + 1, this + 1)
    begins = [_begin(month) for month in shown]
    parameters = {"begins": begins, "start": begins[0], "end": _begin(this + 1)}
    found: dict[tuple[int, int], int] = {
        (shown[row.cohort - 1], shown[row.month - 1]): row.customers
        for row in await connection.execute(_COHORTS, parameters)
    }
    return [
        {
            "month": _name(cohort),
            # Everybody placed their first order in the first month.
            "size": (size := found.get((cohort, cohort), 0)),
            "retention": [
                {
                    "monthsLater": month - cohort,
                    "month": _name(month),
                    "customers": (customers := found.get((cohort, month), 0)),
                    "percentage": _percentage(customers, size),
                }
                for month in range(cohort + 1, this + 1)
            ],
        }
        for cohort in shown
    ]


def _begin(month: int) -> datetime:
    """Give the beginning of a month that is counted from year 0 on."""
    return datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)


def _name(month: int) -> str:
    return f"{month // 12:04}-{month % 12 + 1:02}"


def _percentage(part: int, whole: int) -> Decimal:
    exact = Decimal(100 * part) / whole if whole else Decimal(0)
    return exact.quantize(_CENT, ROUND_HALF_UP)
