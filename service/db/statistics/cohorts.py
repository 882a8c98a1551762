"""Retention by cohort: how many customers with a first order in one month came back, and when.

Customers are grouped by the month of their first order. For each month from that one on, the table
says how many of the group came back in it:

* In a later month, those who ordered in it. That is the usual definition of shop systems, for
  example SHOPLINE's "Customer Group Analysis"
  (https://help.shopline.com/hc/en-001/articles/17735006852121-Customer-Group-Analysis).
* In the month of the first order, month 0, those who ordered a second time in it. Everybody ordered
  once in that month, so to count them would always give 100 % and say nothing. Without month 0, a
  customer who came back after a week and never again would be in no column. Users of PostHog miss
  the same there (https://github.com/PostHog/posthog/issues/14239).

Months are those of the store's time zone. The running month is not complete: its figures still
grow.
"""

from collections.abc import Iterable
from datetime import date, datetime, tzinfo
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.store_days import beginning_of, day_of
from service.db.statistics.answer_cache import recall
from service.db.statistics.counters import percentage
from service.db.store_clock import read_store_clock

MOST_MONTHS = 60
CACHE_NAME = "cohorts and returns"
"""The result of `compute` is cached under this name."""


class Cell(NamedTuple):
    """A cohort in one month. Months are counted from year 0 on."""

    cohort: int
    month: int
    customers: int
    """Those of the cohort who placed a counted order in the month."""
    twice: int
    """Those who placed two or more."""


# width_bucket finds the month in the list of the beginnings of months. Computing the month of each
# date takes twice as long.
_COHORTS = text("""
WITH members AS (
  SELECT id, width_bucket(first_order_date, CAST(:begins AS timestamptz[])) AS cohort
  FROM customers WHERE first_order_date >= :start AND first_order_date < :end
),
ordered AS (
  SELECT customer_id, width_bucket(date_created, CAST(:begins AS timestamptz[])) AS month,
         count(*) >= 2 AS twice
  FROM orders
  WHERE counts AND customer_id IS NOT NULL AND date_created >= :start AND date_created < :end
  GROUP BY 1, 2
)
SELECT m.cohort, o.month, count(*) AS customers, count(*) FILTER (WHERE o.twice) AS twice
FROM members m JOIN ordered o ON o.customer_id = m.id
GROUP BY m.cohort, o.month
""")


class CohortMonth(NamedTuple):
    """A cohort in the month of its first orders (0 months later), or in a later one."""

    months_later: int
    month: str
    """For example ``2026-11``."""
    customers: int
    """Those of the cohort who placed a counted order in this month. In the month of the first
    order, those who placed a second one."""
    percentage: Decimal
    """Their share of the cohort's size."""
    complete: bool
    """Whether the month is over. If it is not, more customers may still come back."""


class Cohort(NamedTuple):
    """The customers whose first counted order was placed in a month."""

    month: str
    size: int
    retention: list[CohortMonth]
    """The month of the first order, and every month since, the unfinished one included."""


class Cohorts(NamedTuple):
    """Cohorts, the oldest first, and the time they were computed at."""

    items: list[Cohort]
    as_of: datetime


async def cohorts(connection: AsyncConnection, months: int, now: datetime | None = None) -> Cohorts:
    """Return the cohorts of the store's last ``months`` months, this one and empty ones included.

    Without ``now``, the time is the database's, and a cached answer is used where computing takes
    long.
    """
    clock = await read_store_clock(connection)
    cached = await recall(connection, CACHE_NAME) if now is None else None
    # After the zone was changed, the cache has the months of the old zone until a worker renews it.
    if cached and cached.answer["zone"] == clock.zone.key:
        cells = [Cell(*cell) for cell in cached.answer["cells"]]
        return Cohorts(_cohorts(cells, months, cached.as_of, clock.zone), cached.as_of)
    now = now or clock.now
    cells = await count_cells(connection, now, clock.zone, months)
    return Cohorts(_cohorts(cells, months, now, clock.zone), now)


async def compute(connection: AsyncConnection, now: datetime) -> dict[str, Any]:
    """Return what is cached: the cells of `MOST_MONTHS`, and the zone whose months they are."""
    zone = (await read_store_clock(connection)).zone
    return {"zone": zone.key, "cells": await count_cells(connection, now, zone, MOST_MONTHS)}


async def count_cells(
    connection: AsyncConnection, now: datetime, zone: tzinfo, months: int
) -> list[Cell]:
    """Count, for each cohort and month, the customers of the cohort who ordered in the month."""
    this_month = _number(now, zone)
    first = this_month - months + 1
    begins = [_begin(month, zone) for month in range(first, this_month + 1)]
    parameters = {"begins": begins, "start": begins[0], "end": _begin(this_month + 1, zone)}
    return [
        Cell(first + row.cohort - 1, first + row.month - 1, row.customers, row.twice)
        for row in await connection.execute(_COHORTS, parameters)
    ]


def _cohorts(cells: Iterable[Cell], months: int, now: datetime, zone: tzinfo) -> list[Cohort]:
    this_month = _number(now, zone)
    counts = {(cell.cohort, cell.month): cell for cell in cells}

    def cohort(first: int) -> Cohort:
        # Everybody ordered in the first month, so that count is the size.
        own = counts.get((first, first), Cell(first, first, 0, 0))
        came_back = [(first, own.twice)] + [
            (month, counts[first, month].customers if (first, month) in counts else 0)
            for month in range(first + 1, this_month + 1)
        ]
        retention = [
            CohortMonth(
                month - first,
                _name(month),
                customers,
                percentage(customers, own.customers),
                complete=month < this_month,
            )
            for month, customers in came_back
        ]
        return Cohort(_name(first), own.customers, retention)

    return [cohort(first) for first in range(this_month - months + 1, this_month + 1)]


def _number(moment: datetime, zone: tzinfo) -> int:
    """Return the number of a moment's month, counted from year 0 on."""
    day = day_of(moment, zone)
    return day.year * 12 + day.month - 1


def _begin(month: int, zone: tzinfo) -> datetime:
    """Return the beginning of a month by its number."""
    return beginning_of(date(month // 12, month % 12 + 1, 1), zone)


def _name(month: int) -> str:
    return f"{month // 12:04}-{month % 12 + 1:02}"
