"""Retention by cohort: of those who first ordered in a month, how many ordered in each later one.

The definition is the usual one of shop systems, for example SHOPLINE's "Customer Group Analysis"
(https://help.shopline.com/hc/en-001/articles/17735006852121-Customer-Group-Analysis): customers
are grouped by the period of their first order, and the retention rate of a following period is
100 · those of the group who ordered in it / the size of the group. The period of the first order
itself is 100 % and is not repeated here.
"""

from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

# Months are numbered from year 0, so that they can be subtracted.
_MONTH = "CAST(extract(year FROM {0}) * 12 + extract(month FROM {0}) - 1 AS integer)"


def _month(column: str) -> str:
    return _MONTH.format(f"({column} AT TIME ZONE 'UTC')")


_COHORTS = text(f"""
WITH span AS (
  SELECT date_trunc('month', CAST(:now AS timestamptz), 'UTC')
           - (:months - 1) * interval '1 month' AS first,
         date_trunc('month', CAST(:now AS timestamptz), 'UTC') + interval '1 month' AS next
),
members AS MATERIALIZED (
  SELECT c.id, {_month("c.first_order_date")} AS cohort
  FROM span, customers c
  WHERE c.first_order_date >= span.first AND c.first_order_date < span.next
),
ordered AS (
  SELECT DISTINCT o.customer_id, {_month("o.date_created")} AS month
  FROM span, orders o
  WHERE o.counts AND o.customer_id IS NOT NULL
    AND o.date_created >= span.first AND o.date_created < span.next
)
SELECT m.cohort, o.month - m.cohort AS later, count(*) AS customers
FROM members m JOIN ordered o ON o.customer_id = m.id
GROUP BY m.cohort, o.month - m.cohort
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
    now = now or (await connection.execute(_NOW)).scalar_one()
    found: dict[tuple[int, int], int] = {
        (row.cohort, row.later): row.customers
        for row in await connection.execute(_COHORTS, {"months": months, "now": now})
    }
    this = now.year * 12 + now.month - 1
    return [
        {
            "month": _name(cohort),
            # Everybody placed their first order in the first month.
            "size": (size := found.get((cohort, 0), 0)),
            "retention": [
                {
                    "monthsLater": later,
                    "month": _name(cohort + later),
                    "customers": (customers := found.get((cohort, later), 0)),
                    "percentage": _percentage(customers, size),
                }
                for later in range(1, this - cohort + 1)
            ],
        }
        for cohort in range(this - months + 1, this + 1)
    ]


def _name(month: int) -> str:
    return f"{month // 12:04}-{month % 12 + 1:02}"


def _percentage(part: int, whole: int) -> Decimal:
    exact = Decimal(100 * part) / whole if whole else Decimal(0)
    return exact.quantize(_CENT, ROUND_HALF_UP)
