"""``/api/v1/statistics``: the key figures, and their split by segment."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from service.core.scopes import Scope
from service.db.locks import read_clock
from service.db.statistics import cohorts as retention
from service.db.statistics import key_figures as figures
from service.db.statistics import trend as days_past
from service.db.statistics.counters import Window
from service.db.statistics.key_figures import PERIODS
from service.http.api.date_ranges import BEGINNING, moment
from service.http.auth.guard import require
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, invalid
from service.http.state import aged_snapshot, state_of

_AS_OF = "now; some minutes ago in large shops, where workers keep what takes long to compute"

router = APIRouter(
    prefix="/api/v1/statistics",
    tags=["statistics"],
    responses=DOCUMENTED,
    dependencies=[require(Scope.READ)],
)


class Statistics(BaseModel):
    """Key figures, all over the same set of customers. Money in the store's currency."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "totalCustomers": 2368,
                    "activeCustomers": 1504,
                    "newCustomers": 470,
                    "returningCustomers": 331,
                    "vipCustomers": 703,
                    "atRiskCustomers": 506,
                    "inactiveCustomers": 358,
                    "averageLTV": 96.57,
                    "medianLTV": 40.62,
                    "totalRevenue": 228682.79,
                    "retentionRate": 54.48,
                    "repeatPurchaseRate": 48.30,
                    "unattributedOrders": 19,
                    "asOf": "2026-11-22T12:32:21.349535Z",
                }
            ]
        }
    )

    totalCustomers: int
    activeCustomers: int = Field(description="new + returning + vip")
    newCustomers: int
    returningCustomers: int
    vipCustomers: int
    atRiskCustomers: int
    inactiveCustomers: int
    averageLTV: float = Field(description="mean of total spent per customer")
    medianLTV: float
    totalRevenue: float = Field(description="sum of total spent")
    retentionRate: float = Field(
        description="100 · (returning + vip) / (all − new), in percent; 0 when that is empty"
    )
    repeatPurchaseRate: float = Field(
        description="100 · customers with ≥ 2 counted orders / with ≥ 1, in percent"
    )
    unattributedOrders: int = Field(description="orders whose events named nobody yet")
    customersWhoOrdered: int | None = Field(
        None, description="with a period: customers with a counted order placed in it"
    )
    periodRetention: float | None = Field(
        None,
        description="with a period: of those who ordered in the span of the same length before, "
        "the percentage who ordered in this one",
    )
    asOf: datetime = Field(description=_AS_OF)


class SegmentItem(BaseModel):
    """One segment's share."""

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
    """One of the months after a cohort's first."""

    monthsLater: int
    month: str = Field(examples=["2026-11"])
    customers: int = Field(description="of the cohort, who placed a counted order in it")
    percentage: float = Field(description="of the cohort's size")


class CohortItem(BaseModel):
    """The customers whose first counted order was placed in a month (UTC)."""

    month: str = Field(examples=["2026-10"])
    size: int
    retention: list[CohortMonth] = Field(description="every month since, the present one too")


class CohortItems(BaseModel):
    """One item per month, the oldest first, empty ones too."""

    items: list[CohortItem]
    total: int
    nextCursor: str | None = None
    asOf: datetime = Field(description=_AS_OF)


class SegmentCounts(BaseModel):
    """Customers per segment."""

    new: int
    returning: int
    vip: int
    at_risk: int
    inactive: int


class TrendDay(BaseModel):
    """A day in UTC. Money in the store's currency."""

    date: str = Field(examples=["2026-11-22"])
    segments: SegmentCounts = Field(
        description="when the day ended, as was known then: before the service was told of "
        "anybody, there is nobody in them"
    )
    totalCustomers: int = Field(description="created up to the end of the day")
    newCustomers: int = Field(description="whose dateCreated lies in the day")
    orders: int = Field(description="counted orders placed in it, attributed or not")
    revenue: float = Field(description="their total less refunds")


class TrendDays(BaseModel):
    """One item per day, the oldest first; the last is today so far."""

    items: list[TrendDay]
    total: int
    nextCursor: str | None = None


class Span:
    """Which customers are meant: everybody, or those created in a period."""

    def __init__(
        self,
        period: Annotated[
            Literal["day", "week", "month", "year", "all"] | None,
            Query(description="rolling, ending now: 1, 7, 30 or 365 days; customers created in it"),
        ] = None,
        date_from: Annotated[
            str | None,
            Query(alias="dateFrom", description="ISO 8601; a day without a time starts at 00:00Z"),
        ] = None,
        date_to: Annotated[
            str | None,
            Query(alias="dateTo", description="ISO 8601; a day without a time is included"),
        ] = None,
    ) -> None:
        """Refuse what contradicts itself."""
        if period is not None and (date_from is not None or date_to is not None):
            raise invalid("query.period", "give either a period or dateFrom/dateTo, not both")
        self.period = period
        self.start = moment(date_from, "query.dateFrom")
        self.end = moment(date_to, "query.dateTo", end=True)
        if self.start and self.end and self.start >= self.end:
            raise invalid("query.dateTo", "must lie after dateFrom")

    async def window(self, connection: AsyncConnection) -> Window | None:
        """Turn it into a window by the database's clock; None is everybody."""
        if self.period in PERIODS:
            return await figures.rolling(connection, self.period)
        if self.start or self.end:
            end = self.end or await read_clock(connection)
            return Window(self.start or BEGINNING, end)
        return None


@router.get("", response_model=Statistics, response_model_exclude_none=True)
async def statistics(request: Request, span: Annotated[Span, Depends()]) -> Response:
    """Give the key figures of everybody, or of the customers created in a period."""
    async with aged_snapshot(request) as connection:
        window = await span.window(connection)
        medians = state_of(request).medians
        return Json(await figures.statistics(connection, window, medians))


@router.get("/segments", response_model=SegmentItems)
async def segments(request: Request, span: Annotated[Span, Depends()]) -> Response:
    """Give each segment's count, share and lifetime values, empty segments too."""
    return await _by_segment(request, span)


@router.get("/ltv", response_model=SegmentItems)
async def ltv(request: Request, span: Annotated[Span, Depends()]) -> Response:
    """Give the lifetime values (mean, median, total) per segment, empty segments too."""
    return await _by_segment(request, span)


@router.get("/cohorts", response_model=CohortItems)
async def cohorts(request: Request, months: Annotated[int, Query(ge=1, le=60)] = 12) -> Response:
    """Give retention by month of first order: who of a cohort ordered again in each later month.

    A cohort's customers placed their first counted order in its month (UTC); `percentage` is
    100 · those who placed a counted order in a later month / the cohort's size. This is the usual
    definition, as in SHOPLINE's "Customer Group Analysis",
    `https://help.shopline.com/hc/en-001/articles/17735006852121-Customer-Group-Analysis`.
    The first month, always 100 %, is left out.
    """
    async with aged_snapshot(request) as connection:
        found = await retention.cohorts(connection, months)
    listed = {"items": found.items, "total": len(found.items), "nextCursor": None}
    return Json(listed | {"asOf": found.as_of})


@router.get("/trend", response_model=TrendDays)
async def trend(request: Request, days: Annotated[int, Query(ge=1, le=731)] = 90) -> Response:
    """Give segments and key figures per UTC day, today last and so far.

    Segments are those that were known when the day ended. Orders and revenue stand on the day
    the order was placed, customers on their `dateCreated`.
    """
    async with aged_snapshot(request) as connection:
        items = await days_past.trend(connection, days)
    return Json({"items": items, "total": len(items), "nextCursor": None})


async def _by_segment(request: Request, span: Span) -> Response:
    async with aged_snapshot(request) as connection:
        window = await span.window(connection)
        items = await figures.by_segment(connection, window, state_of(request).medians)
    return Json({"items": items, "total": len(items), "nextCursor": None})
