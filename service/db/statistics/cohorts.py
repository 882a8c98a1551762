"""Retention by cohort: how many customers with a first order in one month ordered in later months.

The definition is the usual one of shop systems, for example SHOPLINE's "Customer Group Analysis"
(https://help.shopline.com/hc/en-001/articles/17735006852121-Customer-Group-Analysis): customers
are grouped by the period of their first order, and the retention rate of a following period is
100 · those of the group who ordered in it / the size of the group. The period of the first order
itself is always 100 % and is left out.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.locks import read_clock
from service.db.statistics.answer_cache import recall
from service.db.statistics.counters import percentage

MOST_MONTHS = 60
CACHE_NAME = "cohorts"
"""The result of `count_cells` is cached under this name."""

Cell = tuple[int, int, int]
"""A cohort's month and a later month, both counted from year 0 on, and a number of customers."""

# width_bucket finds the month in the list of the beginnings of months. Computing the month of each
# date takes twice as long.
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


class LaterMonth(NamedTuple):
    """A month after the first one of a cohort."""

    months_later: int
    month: str
    """For example ``2026-11``."""
    customers: int
    """Those of the cohort who placed a counted order in this month."""
    percentage: Decimal
    """Their share of the cohort's size."""


class Cohort(NamedTuple):
    """The customers whose first counted order was placed in a month."""

    month: str
    size: int
    retention: list[LaterMonth]
    """Every month since, this unfinished one included."""


class Cohorts(NamedTuple):
    """Cohorts, the oldest first, and the time they were computed at."""

    items: list[Cohort]
    as_of: datetime


async def cohorts(connection: AsyncConnection, months: int, now: datetime | None = None) -> Cohorts:
    """Return the cohorts of the last ``months`` UTC months, this one and empty ones included.

    Without ``now``, the time is the database's, and a cached answer is used where computing takes
    long.
    """
    if now is None and (cached := await recall(connection, CACHE_NAME)):
        return Cohorts(_cohorts(cached.answer, months, cached.as_of), cached.as_of)
    now = now or await read_clock(connection)
    return Cohorts(_cohorts(await count_cells(connection, now, months), months, now), now)


async def count_cells(
    connection: AsyncConnection, now: datetime, months: int = MOST_MONTHS
) -> list[Cell]:
    """Count, for each cohort and month, the customers of the cohort who ordered in the month."""
    this_month = _number(now)
    first = this_month - months + 1
    begins = [_begin(month) for month in range(first, this_month + 1)]
    parameters = {"begins": begins, "start": begins[0], "end": _begin(this_month + 1)}
    return [
        (first + row.cohort - 1, first + row.month - 1, row.customers)
        for row in await connection.execute(_COHORTS, parameters)
    ]


def _cohorts(cells: Iterable[Cell], months: int, now: datetime) -> list[Cohort]:
    this_month = _number(now)
    counts = {(cohort, month): customers for cohort, month, customers in cells}

    def cohort(first: int) -> Cohort:
        # Everybody ordered in the first month, so that count is the size.
        size = counts.get((first, first), 0)
        later = [
            (month, counts.get((first, month), 0)) for month in range(first + 1, this_month + 1)
        ]
        retention = [
            LaterMonth(month - first, _name(month), customers, percentage(customers, size))
            for month, customers in later
        ]
        return Cohort(_name(first), size, retention)

    return [cohort(first) for first in range(this_month - months + 1, this_month + 1)]


def _number(moment: datetime) -> int:
    """Return the number of a moment's UTC month, counted from year 0 on."""
    utc = moment.astimezone(UTC)
    return utc.year * 12 + utc.month - 1


def _begin(month: int) -> datetime:
    """Return the beginning of a month by its number."""
    return datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)


def _name(month: int) -> str:
    return f"{month // 12:04}-{month % 12 + 1:02}"
