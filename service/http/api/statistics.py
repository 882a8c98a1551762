"""``/api/v1/statistics``: key figures, their split by segment, cohorts and trend."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.alias_generators import to_camel
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from service.core.day_or_moment import BEGINNING
from service.core.json_values import camel
from service.core.scopes import Scope
from service.core.segment_rules import Segment
from service.db.customers.filters import Filter
from service.db.customers.other_currencies import MoneyApart, money_apart
from service.db.statistics import cohorts as cohort_figures
from service.db.statistics import key_figures as figures
from service.db.statistics import trend as daily_figures
from service.db.statistics.cohorts import Cohort
from service.db.statistics.counters import Window
from service.db.statistics.key_figures import PERIODS, SegmentShare
from service.db.statistics.trend import TrendPoint
from service.db.store_clock import read_store_clock
from service.http.api.customer_json import OtherCurrency
from service.http.api.date_ranges import day_or_moment
from service.http.api.models import collection
from service.http.auth.guard import require, within
from service.http.budgets import STATISTICS
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, invalid
from service.http.state import replica_snapshot, state_of

_AS_OF = (
    "The time the answer was computed at: now, or some minutes ago in large shops, "
    "where workers cache what takes long to compute."
)

router = APIRouter(
    prefix="/api/v1/statistics",
    tags=["statistics"],
    responses=DOCUMENTED,
    dependencies=[require(Scope.READ), within(STATISTICS)],
)


_COUNTS = {segment: to_camel(f"{segment}_customers") for segment in Segment}
"""The name of each segment's figure, as in ``newCustomers``."""
_EXAMPLE = {"new": 470, "returning": 331, "vip": 703, "at_risk": 506, "inactive": 358}


class _Statistics(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "totalCustomers": 2368,
                    "activeCustomers": 1504,
                    **{name: _EXAMPLE.get(segment, 0) for segment, name in _COUNTS.items()},
                    "averageLTV": 96.57,
                    "medianLTV": 40.62,
                    "totalRevenue": 228682.79,
                    "retentionRate": 54.48,
                    "repeatPurchaseRate": 48.30,
                    "otherCurrencies": [{"currency": "EUR", "orders": 12, "amount": 840.00}],
                    "unattributedOrders": 19,
                    "asOf": "2026-11-22T12:32:21.349535Z",
                }
            ]
        }
    )

    totalCustomers: int
    activeCustomers: int = Field(description="New, returning and VIP customers.")
    averageLTV: float = Field(description="The mean of `totalSpent` per customer.")
    medianLTV: float
    totalRevenue: float = Field(description="The sum of `totalSpent`.")
    retentionRate: float = Field(
        description="100 · (returning + vip) / (all − new), in percent; 0 if all are new."
    )
    repeatPurchaseRate: float = Field(
        description="100 · customers with 2 or more counted orders / with 1 or more, in percent."
    )
    otherCurrencies: list[OtherCurrency] = Field(
        description="What these customers spent in other currencies without an exchange rate. It "
        "is in none of the figures above."
    )
    unattributedOrders: int = Field(description="Orders whose events have named no customer yet.")
    customersWhoOrdered: int | None = Field(
        None, description="Only with a period: customers with a counted order placed in it."
    )
    periodRetention: float | None = Field(
        None,
        description="Only with a period: the percentage of the customers of the previous period "
        "of the same length who ordered again in this one. If the period was given as days, it is "
        "compared with as many days.",
    )
    asOf: datetime = Field(description=_AS_OF)


_fields: dict[str, Any] = dict.fromkeys(_COUNTS.values(), int)
Statistics = create_model(
    "Statistics",
    __base__=_Statistics,
    __doc__="Key figures of the same customers. Money is in the store's currency.",
    **_fields,
)


class SegmentItem(BaseModel):
    """The share of one segment."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "segment": "vip",
                    "label": "VIP",
                    "count": 703,
                    "percentage": 29.69,
                    "averageLTV": 233.24,
                    "medianLTV": 139.31,
                    "totalSpent": 163970.08,
                }
            ]
        }
    )

    segment: str
    label: str
    count: int
    percentage: float
    averageLTV: float
    medianLTV: float
    totalSpent: float


class SegmentItems(BaseModel):
    """One item per segment, in the order of the lifecycle."""

    items: list[SegmentItem]
    total: int
    nextCursor: str | None = None


class CohortMonth(BaseModel):
    """A month of a cohort: the month of the first orders (`monthsLater` is 0), or a later one."""

    monthsLater: int
    month: str = Field(examples=["2026-11"])
    customers: int = Field(
        description="Customers of the cohort who placed a counted order in this month. With "
        "`monthsLater` 0: those who placed a second one, because everybody placed the first."
    )
    percentage: float = Field(description="Their share of the cohort's size, in percent.")
    complete: bool = Field(
        description="Whether the month is over. If not, more customers may come back in it."
    )


class CohortItem(BaseModel):
    """The customers whose first counted order was placed in a month of the store's time zone."""

    month: str = Field(examples=["2026-10"])
    size: int
    retention: list[CohortMonth] = Field(
        description="The month of the first orders, and every later one up to the current one."
    )


class CohortItems(BaseModel):
    """One item for each month, the oldest first, empty ones included."""

    items: list[CohortItem]
    total: int
    nextCursor: str | None = None
    asOf: datetime = Field(description=_AS_OF)


_fields = dict.fromkeys(map(str, Segment), int)
SegmentCounts = create_model("SegmentCounts", __doc__="Customers per segment.", **_fields)


class TrendDay(BaseModel):
    """A day of the store's time zone. Money is in the store's currency."""

    date: str = Field(examples=["2026-11-22"])
    segments: SegmentCounts = Field(
        description="Customers per segment at the end of the day, as known at that time, or "
        "`reconstructed`. All are 0 for days before the first customer."
    )
    reconstructed: bool = Field(
        description="`segments` are computed from the orders by today's rules, because they were "
        "not known when the day ended. Segments set by hand are left out."
    )
    totalCustomers: int = Field(description="Customers created up to the end of the day.")
    newCustomers: int = Field(description="Customers whose `dateCreated` lies in the day.")
    orders: int = Field(description="Counted orders placed on the day, attributed or not.")
    revenue: float = Field(
        description="The total of these orders less refunds. A refund reduces the day of its order."
    )


class TrendDays(BaseModel):
    """One item for each day, the oldest first. The last one is today so far."""

    items: list[TrendDay]
    total: int
    nextCursor: str | None = None


class Span:
    """The customers to count: everybody, or those created in a period."""

    def __init__(
        self,
        period: Annotated[
            Literal["day", "week", "month", "year", "all"] | None,
            Query(description="Counts customers created in the last 1, 7, 30 or 365 days."),
        ] = None,
        date_from: Annotated[
            str | None,
            Query(
                alias="dateFrom",
                description="ISO 8601. A day without a time is one of the store's time zone.",
            ),
        ] = None,
        date_to: Annotated[
            str | None,
            Query(
                alias="dateTo",
                description="ISO 8601. A day without a time is one of the store's time zone, and "
                "is included.",
            ),
        ] = None,
    ) -> None:
        """Read the parameters. Raises a problem if they contradict each other."""
        if period is not None and (date_from is not None or date_to is not None):
            raise invalid("query.period", "contradicts dateFrom and dateTo; send one or the other")
        self.period = period
        self.date_from = day_or_moment(date_from, "query.dateFrom")
        self.date_to = day_or_moment(date_to, "query.dateTo")

    async def window(self, connection: AsyncConnection) -> Window | None:
        """Return the window by the database's clock and the store's days. None means everybody.

        Raises a problem if the window ends before it starts.
        """
        if self.period in PERIODS:
            return await figures.rolling_window(connection, self.period)
        if not (self.date_from or self.date_to):
            return None
        clock = await read_store_clock(connection)
        start = self.date_from.start(clock.zone) if self.date_from else BEGINNING
        end = self.date_to.end(clock.zone) if self.date_to else clock.now
        if self.date_from and self.date_to and start >= end:
            raise invalid("query.dateTo", "must lie after dateFrom")
        first = self.date_from and self.date_from.day
        last = self.date_to.day if self.date_to else clock.today
        if first and last and first <= last:
            return Window.of_days(first, last, clock.zone)
        return Window(start, end)


@router.get("", response_model=Statistics, response_model_exclude_none=True)
async def statistics(request: Request, span: Annotated[Span, Depends()]) -> Response:
    """Return the key figures of everybody, or of the customers created in a period."""
    async with replica_snapshot(request) as connection:
        window = await span.window(connection)
        medians = state_of(request).medians
        answer = await figures.statistics(connection, window, medians)
        created = Filter(date_from=window.start, date_to=window.end) if window else Filter()
        apart = await money_apart(connection, created)
    return Json(_statistics_json(answer, apart))


@router.get("/segments", response_model=SegmentItems)
async def segments(request: Request, span: Annotated[Span, Depends()]) -> Response:
    """Return the count, share and lifetime values of each segment, empty ones included."""
    return await _by_segment(request, span)


@router.get("/ltv", response_model=SegmentItems)
async def ltv(request: Request, span: Annotated[Span, Depends()]) -> Response:
    """Return the lifetime values (mean, median, total) of each segment, empty ones included."""
    return await _by_segment(request, span)


@router.get("/cohorts", response_model=CohortItems)
async def cohorts(request: Request, months: Annotated[int, Query(ge=1, le=60)] = 12) -> Response:
    """Return the retention of each cohort: how many of its customers came back, and when.

    The customers of a cohort placed their first counted order in its month, which is one of the
    store's time zone. `percentage` is 100 · customers of the cohort who placed a counted order in a
    later month / the cohort's size. This is the usual definition, as in SHOPLINE's "Customer Group
    Analysis",
    `https://help.shopline.com/hc/en-001/articles/17735006852121-Customer-Group-Analysis`.
    `retention[0]` is the month of the first orders itself. Everybody ordered in it, so it counts
    those who ordered a second time. The current month has `complete: false`.
    """
    async with replica_snapshot(request) as connection:
        result = await cohort_figures.cohorts(connection, months)
    items = [_cohort_json(cohort) for cohort in result.items]
    return Json(collection(items) | {"asOf": result.as_of})


@router.get("/trend", response_model=TrendDays)
async def trend(request: Request, days: Annotated[int, Query(ge=1, le=731)] = 90) -> Response:
    """Return segments and key figures for each day; the last one is today so far.

    Days are those of the store's time zone. Segments are as known at the end of the day, or
    reconstructed. Orders and revenue count on the day the order was placed, customers on their
    `dateCreated`.
    """
    async with replica_snapshot(request) as connection:
        points, _ = await daily_figures.trend(connection, days)
    return Json(collection([_trend_json(point) for point in points]))


async def _by_segment(request: Request, span: Span) -> Response:
    async with replica_snapshot(request) as connection:
        window = await span.window(connection)
        shares = await figures.by_segment(connection, window, state_of(request).medians)
    return Json(collection([_share_json(share) for share in shares]))


def _statistics_json(answer: figures.Statistics, apart: Sequence[MoneyApart]) -> dict[str, Any]:
    period_figures = {
        "customersWhoOrdered": answer.customers_who_ordered,
        "periodRetention": answer.period_retention,
    }
    key_figures = answer.key_figures._asdict()
    customers = key_figures.pop("customers")
    return {
        **_camel_ltv(key_figures),
        **{name: customers[segment] for segment, name in _COUNTS.items()},
        "otherCurrencies": [each._asdict() for each in apart],
        "unattributedOrders": answer.unattributed_orders,
        **{name: value for name, value in period_figures.items() if value is not None},
        "asOf": answer.as_of,
    }


def _share_json(share: SegmentShare) -> dict[str, Any]:
    return {
        "segment": share.segment,
        "label": share.segment.label,
        "count": share.customers,
        "percentage": share.percentage,
        "averageLTV": share.average_ltv,
        "medianLTV": share.median_ltv,
        "totalSpent": share.total_spent,
    }


def _cohort_json(cohort: Cohort) -> dict[str, Any]:
    retention = [camel(month._asdict()) for month in cohort.retention]
    return {"month": cohort.month, "size": cohort.size, "retention": retention}


def _trend_json(point: TrendPoint) -> dict[str, Any]:
    return {
        "date": point.day.isoformat(),
        "segments": {segment.value: count for segment, count in point.segments.items()},
        "reconstructed": point.reconstructed,
        "totalCustomers": point.total_customers,
        "newCustomers": point.new_customers,
        "orders": point.orders,
        "revenue": point.revenue,
    }


def _camel_ltv(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields in camelCase, with the abbreviation LTV as the API writes it."""
    return {name.replace("Ltv", "LTV"): value for name, value in camel(fields).items()}
