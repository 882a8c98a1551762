"""``/api/v1/statistics``: the key figures, and their split by segment."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from service.db import statistics as figures
from service.db.statistics import PERIODS, Window
from service.http.json import Json
from service.http.problems import DOCUMENTED, invalid
from service.http.spans import BEGINNING, moment
from service.http.state import snapshot, state_of

router = APIRouter(prefix="/api/v1/statistics", tags=["statistics"], responses=DOCUMENTED)


class Statistics(BaseModel):
    """Key figures, all over the same set of customers. Money in the store's currency."""

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
    asOf: datetime


class SegmentItem(BaseModel):
    """One segment's share."""

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
            now = await figures.clock(connection)
            return Window(now - PERIODS[self.period], now)
        if self.start or self.end:
            end = self.end or await figures.clock(connection)
            return Window(self.start or BEGINNING, end)
        return None


@router.get("", response_model=Statistics, response_model_exclude_none=True)
async def statistics(request: Request, span: Annotated[Span, Depends()]) -> Response:
    """Give the key figures of everybody, or of the customers created in a period."""
    async with snapshot(request) as connection:
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


async def _by_segment(request: Request, span: Span) -> Response:
    async with snapshot(request) as connection:
        window = await span.window(connection)
        items = await figures.by_segment(connection, window, state_of(request).medians)
    return Json({"items": items, "total": len(items), "nextCursor": None})
