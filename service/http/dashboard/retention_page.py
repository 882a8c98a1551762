"""``/retention``: how many customers come back, segments over time, revenue by day."""

from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from itertools import dropwhile

from fastapi import APIRouter, Request
from starlette.datastructures import QueryParams
from starlette.responses import Response

from service.core.outlook import HoldOut
from service.core.segment_rules import Segment
from service.db.outlook import models, reading
from service.db.outlook.models import StoredModel
from service.db.statistics.cohorts import Cohort, cohorts
from service.db.statistics.key_figures import rolling_window, statistics
from service.db.statistics.trend import TrendPoint, trend
from service.http.auth.guard import within
from service.http.budgets import STATISTICS
from service.http.dashboard.charts import Scale, bars, stack
from service.http.dashboard.formats import store_clock
from service.http.dashboard.render import page
from service.http.dashboard.viewer import Viewer
from service.http.state import replica_snapshot, state_of

router = APIRouter(include_in_schema=False)

_PERIODS = {"week": "7 days", "month": "30 days", "year": "365 days"}
_MONTHS = {6: "6 months", 12: "12 months", 24: "24 months"}
_DAYS = {30: "30 days", 90: "90 days", 365: "1 year"}
_MOST_POINTS = 92
_FITS = 400
_TESTS = 6
"""How many tests of fits are listed."""
_MONTH = timedelta(days=30)
WIDTH, HEIGHT = 900, 260
"""The size of the trend chart, in the units of its view box."""


@router.get("/retention", dependencies=[within(STATISTICS)])
async def retention(request: Request, actor: Viewer) -> Response:
    """Show the page. The query chooses the period, the months of cohorts, the days of the trend."""
    state = state_of(request)
    period, months, days = _chosen(request.query_params)
    async with replica_snapshot(request) as connection:
        await store_clock(request, connection)
        window = await rolling_window(connection, period)
        figures = await statistics(connection, None, state.medians)
        period_figures = await statistics(connection, window, state.medians)
        groups = (await cohorts(connection, months)).items
        history, generation = await trend(connection, days)
        fits = await models.last(connection, _FITS)
        refresh = await reading.last_refresh(connection)
    model = fits[0] if fits and fits[0].fitted else None
    step = -(-days // _MOST_POINTS)
    shown = _thinned(history, step)
    # The history of segments begins with the first customer.
    known = list(dropwhile(lambda day: not any(day.segments.values()), shown))
    series = {s.value: [float(day.segments[s]) for day in known] for s in Segment}
    scale = Scale.of(max((sum(day.segments.values()) for day in known), default=0))
    sales = Scale.of(float(max(day.revenue for day in shown)))
    return page(
        request,
        actor,
        "retention.html",
        period=period,
        periods=_PERIODS,
        months=months,
        month_choices=_MONTHS,
        days=days,
        day_choices=_DAYS,
        figures=figures,
        period_figures=period_figures,
        cohorts=_from_the_first(groups),
        heat=_heat,
        history=shown,
        table=request.query_params.get("table") == "1",
        known=known,
        reconstructed_until=generation.reconstructed_until,
        reconstructing=generation.reconstructing,
        bands=stack(series, WIDTH, HEIGHT, scale.top) if known else [],
        scale=scale,
        step=step,
        sales=sales,
        bars=bars([float(day.revenue) for day in shown], WIDTH, HEIGHT, sales.top),
        width=WIDTH,
        height=HEIGHT,
        marks=_marks,
        forecasts=refresh.forecasts if model else [],
        money=model is not None and model.verdict.shows_money,
        tests=_a_month_apart(fits),
    )


def _a_month_apart(fits: Iterable[StoredModel]) -> list[HoldOut]:
    """Return the tests of the last fits, the newest first, no two of them of the same month."""
    tests = list[HoldOut]()
    for fit in fits:
        test = fit.fitted and fit.fitted.hold_out
        if test and (not tests or tests[-1].begun_at - test.begun_at >= _MONTH):
            tests.append(test)
    return tests[:_TESTS]


def _chosen(query: QueryParams) -> tuple[str, int, int]:
    period = query.get("period", "")
    return (
        period if period in _PERIODS else "month",
        _one_of(query, "months", _MONTHS, 12),
        _one_of(query, "days", _DAYS, 90),
    )


def _one_of(query: QueryParams, name: str, choices: Iterable[int], otherwise: int) -> int:
    return next((n for n in choices if str(n) == query.get(name)), otherwise)


def _thinned(history: list[TrendPoint], step: int) -> list[TrendPoint]:
    """Merge each ``step`` days into one point: segments of the last day, sums of all days.

    The newest point always covers ``step`` days.
    """
    newest_first = history[::-1]
    groups = [newest_first[n : n + step] for n in range(0, len(history), step)]
    return [
        group[0]._replace(
            new_customers=sum(day.new_customers for day in group),
            orders=sum(day.orders for day in group),
            revenue=sum((day.revenue for day in group), Decimal(0)),
        )
        for group in groups[::-1]
    ]


def _from_the_first(cohorts: list[Cohort]) -> list[Cohort]:
    return list(dropwhile(lambda cohort: not cohort.size, cohorts))


def _marks(days: list[TrendPoint]) -> list[TrendPoint]:
    """Return the five days that the axis shows."""
    return [days[round(n * (len(days) - 1) / 4)] for n in range(5)]


def _heat(percentage: Decimal) -> int:
    """Return how dark a cell is, 0 to 10: the tenth that its percentage falls in."""
    return min(int(percentage / 10 + Decimal("0.999")), 10) if percentage else 0
