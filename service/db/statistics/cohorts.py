"""Retention by cohort: of those who first ordered in a month, how many ordered in each later one.

The definition is the usual one of shop systems, for example SHOPLINE's "Customer Group Analysis"
(https://help.shopline.com/hc/en-001/articles/17735006852121-Customer-Group-Analysis): customers
are grouped by the period of their first order, and the retention rate of a following period is
100 · those of the group who ordered in it / the size of the group. The period of the first order
itself is 100 % and is not repeated here.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.locks import read_clock
from service.db.statistics.answer_cache import recall

MOST_MONTHS = 60
KEPT = "cohorts"
"""Under this name `count_cells` is kept."""

Cell = tuple[int, int, int]
"""Cohort and month, both counted from year 0 on, and customers."""

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
_CENT = Decimal("0.01")


class Cohorts(NamedTuple):
    """One item per cohort, and the moment they are of."""

    items: list[dict[str, Any]]
    as_of: datetime


async def cohorts(connection: AsyncConnection, months: int, now: datetime | None = None) -> Cohorts:
    """Give the cohorts of the last ``months`` UTC months, this one included, the oldest first.

    A cohort is the customers whose first counted order was placed in that month: its ``size``.
    For every month since, this unfinished one included, ``customers`` of them placed a counted
    order, which is ``percentage`` of the size. Empty cohorts are listed, too.

    ``now``: None is the database's clock; then what is kept is given where computing takes long.
    """
    if now is None and (kept := await recall(connection, KEPT)):
        return Cohorts(_items(kept.answer, months, kept.as_of), kept.as_of)
    now = now or await read_clock(connection)
    return Cohorts(_items(await count_cells(connection, now, months), months, now), now)


async def count_cells(
    connection: AsyncConnection, now: datetime, months: int = MOST_MONTHS
) -> list[Cell]:
    """Count the customers of each cohort in each month that any of them ordered in."""
    this = _number(now)
    first = this - months + 1
    begins = [_begin(month) for month in range(first, this + 1)]
    parameters = {"begins": begins, "start": begins[0], "end": _begin(this + 1)}
    return [
        (first + row.cohort - 1, first + row.month - 1, row.customers)
        for row in await connection.execute(_COHORTS, parameters)
    ]


def _items(cells: Iterable[Cell], months: int, now: datetime) -> list[dict[str, Any]]:
    this = _number(now)
    found = {(cohort, month): customers for cohort, month, customers in cells}
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
        for cohort in range(this - months + 1, this + 1)
    ]


def _number(moment: datetime) -> int:
    """Count a moment's month from year 0 on."""
    utc = moment.astimezone(UTC)
    return utc.year * 12 + utc.month - 1


def _begin(month: int) -> datetime:
    """Give the beginning of a month that is counted from year 0 on."""
    return datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)


def _name(month: int) -> str:
    return f"{month // 12:04}-{month % 12 + 1:02}"


def _percentage(part: int, whole: int) -> Decimal:
    exact = Decimal(100 * part) / whole if whole else Decimal(0)
    return exact.quantize(_CENT, ROUND_HALF_UP)
