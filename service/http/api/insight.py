"""``/api/v1/insight``: the model, its test on the past, the sums, and the wish for a fit."""

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field
from starlette.responses import Response

from service.core.json_values import camel
from service.core.outlook import (
    Compared,
    FitCause,
    HoldOut,
    Lacking,
    Verdict,
)
from service.core.rfm import RfmGroup
from service.core.work_lists import WorkList
from service.db.engine import in_transaction
from service.db.outlook import contacts, models, reading, work_lists
from service.db.outlook.due import Situation, ask_for_fit, read_situation
from service.db.outlook.models import StoredModel
from service.http.api.models import Camel
from service.http.api.work_lists import ROUND_EXAMPLE, RoundJson, round_json
from service.http.auth.guard import Admin, Reader, within
from service.http.budgets import STATISTICS
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, Problem, ProblemError
from service.http.state import replica_snapshot, state_of

router = APIRouter(prefix="/api/v1", tags=["insight"], responses=DOCUMENTED)


_EXAMPLE: dict[str, Any] = {
    "state": "fitted",
    "lacking": [],
    "enough": {"customers": 2280, "repeaters": 892, "historyDays": 544.8, "silentDays": 0.1},
    "verdict": "good",
    "model": {
        "id": 12,
        "fittedAt": "2026-11-28T03:00:00Z",
        "seconds": 0.8,
        "cause": "daily",
        "customers": 2280,
        "repeaters": 878,
        "kind": "BG/NBD",
        "parameters": {
            "r": 0.24,
            "alpha": 32.4,
            "a": 0.52,
            "b": 1.67,
            "p": 8.9,
            "q": 3.5,
            "v": 9.0,
        },
        "settled": True,
        "verdict": "good",
    },
    "test": {
        "begunAt": "2026-08-30T00:00:00Z",
        "days": 90.5,
        "customers": 1906,
        "buyers": {"said": 336.0, "came": 305.0},
        "orders": {"said": 599.7, "came": 577.0},
        "revenue": {"said": 21229.0, "came": 21210.47},
        "rankedRight": 0.777,
        "rankedRightByRules": 0.7,
        "rankedRightByRecency": 0.745,
        "brier": 0.108,
        "bandError": 0.021,
        "bands": [
            {
                "from": 0.5,
                "to": 0.7,
                "customers": 85,
                "said": 0.578,
                "came": 0.624,
                "chanceFrom": 0.473,
                "chanceTo": 0.683,
            }
        ],
    },
    "refreshedAt": "2026-11-28T09:12:00Z",
    "forecasts": [{"days": 90, "orders": 695.0, "revenue": 24010.5}],
    "lists": [{"workList": "overdue", "customers": 67, "expectedValue": 2192.75}],
    "listsAsOf": "2026-11-28T09:12:00Z",
    "rounds": [ROUND_EXAMPLE],
    "fitWantedAt": None,
}


_ROUNDS = 20


class ModelFit(Camel):
    """A fit."""

    id: int
    fitted_at: datetime
    seconds: float
    cause: FitCause
    customers: int
    repeaters: int
    kind: Literal["BG/NBD", "MBG/NBD"] | None
    parameters: dict[str, float] | None
    settled: bool | None = Field(description="False: a parameter lies at a bound.")
    verdict: Verdict


class SaidAndCame(Camel):
    """What was predicted, and what came."""

    said: float
    came: float


class TestBand(Camel):
    """Customers with about the same chance of an order."""

    from_: float = Field(alias="from")
    to: float
    customers: int
    said: float = Field(description="The mean of their chances.")
    came: float = Field(description="The share of them who ordered.")
    chance_from: float = Field(description="From here …")
    chance_to: float = Field(description="… to here chance alone explains what came.")


class Test(Camel):
    """The test on the shop's own past: fitted to what was known then, compared with what came."""

    begun_at: datetime
    days: float
    customers: int
    buyers: SaidAndCame
    orders: SaidAndCame
    revenue: SaidAndCame
    ranked_right: float = Field(
        description="Of two customers, one of whom ordered, how often the chance was higher for "
        "that one (AUC)."
    )
    ranked_right_by_rules: float
    ranked_right_by_recency: float
    brier: float
    band_error: float
    bands: list[TestBand]


class ForecastJson(Camel):
    """What is expected of all customers there are. New customers come on top."""

    days: int
    orders: float
    revenue: float | None


class ListFigures(Camel):
    """A work list."""

    work_list: WorkList
    customers: int
    expected_value: float | None


class Insight(Camel):
    """The model in force, how far it can be trusted, and what there is to do."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    state: Literal["fitted", "too_little", "not_fitted"]
    lacking: list[Lacking]
    enough: dict[str, float] = Field(
        description="How much there is: customers, repeaters, days of history, days since an order."
    )
    verdict: Verdict | None
    model: ModelFit | None
    test: Test | None
    refreshed_at: datetime | None
    forecasts: list[ForecastJson]
    lists: list[ListFigures]
    lists_as_of: datetime | None
    rounds: list[RoundJson]
    fit_wanted_at: datetime | None


class RfmGroupJson(Camel):
    """An RFM group."""

    group: RfmGroup
    customers: int
    share: float
    total_spent: float
    expected_value: float | None


class RfmGroups(Camel):
    """All customers by RFM group, prospects (no orders) included."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "asOf": "2026-11-28T09:00:00Z",
                    "items": [
                        {
                            "group": "champions",
                            "customers": 265,
                            "share": 0.112,
                            "totalSpent": 52931.4,
                            "expectedValue": 43362.07,
                        }
                    ],
                }
            ]
        }
    )

    as_of: datetime | None
    items: list[RfmGroupJson]


class Wanted(Camel):
    """That a fit was asked for."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"askedAt": "2026-11-28T09:00:00Z"}]})

    asked_at: datetime


_BUSY: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "Somebody has asked before, and it is not done yet."}
}


@router.get("/insight", response_model=Insight, dependencies=[within(STATISTICS)])
async def insight(request: Request, _: Reader) -> Response:
    """Return the model in force, its test on the shop's past, and the work lists."""
    async with replica_snapshot(request) as connection:
        model = await models.newest(connection)
        situation = await read_situation(connection)
        refresh = await reading.last_refresh(connection)
        fitted = model is not None and model.fitted is not None
        figures = await work_lists.overview(connection) if fitted else None
        marked = await contacts.rounds(connection, _ROUNDS)
    money = model is not None and model.verdict.shows_money
    test = model.fitted.hold_out if model and model.fitted else None
    return Json(
        {
            "state": state_name(model, situation),
            "lacking": lacking_of(model, situation),
            "enough": camel(situation.gate.model_dump()),
            "verdict": model.verdict if model and model.fitted else None,
            "model": _model_json(model) if model else None,
            "test": _test_json(test) if test else None,
            "refreshedAt": refresh.completed_at,
            "forecasts": [
                {
                    "days": each.days,
                    "orders": round(each.orders, 1),
                    "revenue": round(each.revenue, 2) if money else None,
                }
                for each in refresh.forecasts
                if fitted
            ],
            "lists": [
                {
                    "workList": name,
                    "customers": listed.customers,
                    "expectedValue": round(listed.value, 2) if money else None,
                }
                for name, listed in (figures.lists if figures else {}).items()
            ],
            "listsAsOf": figures.as_of if figures else None,
            "rounds": [round_json(each) for each in marked],
            "fitWantedAt": situation.fit_wanted_at,
        }
    )


def state_name(model: StoredModel | None, situation: Situation) -> str:
    """Return whether there is a model, and if not, whether there will be one."""
    if model and model.fitted:
        return "fitted"
    return "too_little" if lacking_of(model, situation) else "not_fitted"


def lacking_of(model: StoredModel | None, situation: Situation) -> list[Lacking]:
    """Return what the shop has too little of now, or had when a fit was last tried."""
    if model and model.fitted:
        return []
    return situation.gate.lacking or (model.lacking if model else [])


def _model_json(model: StoredModel) -> dict[str, Any]:
    parameters = model.fitted.parameters if model.fitted else None
    return {
        "id": model.id,
        "fittedAt": model.fitted_at,
        "seconds": model.seconds,
        "cause": model.cause,
        "customers": model.customers,
        "repeaters": model.repeaters,
        "kind": ("MBG/NBD" if parameters.late else "BG/NBD") if parameters else None,
        "parameters": {
            name: value for name, value in parameters._asdict().items() if name != "late"
        }
        if parameters
        else None,
        "settled": model.fitted.settled if model.fitted else None,
        "verdict": model.verdict,
    }


def _test_json(test: HoldOut) -> dict[str, Any]:
    def compared(each: Compared) -> dict[str, float]:
        return {"said": round(each.said, 2), "came": round(each.came, 2)}

    return {
        "begunAt": test.begun_at,
        "days": test.days,
        "customers": test.customers,
        "buyers": compared(test.buyers),
        "orders": compared(test.orders),
        "revenue": compared(test.revenue),
        "rankedRight": test.ranked_right,
        "rankedRightByRules": test.ranked_right_by_rules,
        "rankedRightByRecency": test.ranked_right_by_recency,
        "brier": test.brier,
        "bandError": test.band_error,
        "bands": [
            {
                "from": band.lowest,
                "to": band.highest,
                "customers": band.customers,
                "said": band.said,
                "came": band.came,
                "chanceFrom": band.range[0],
                "chanceTo": band.range[1],
            }
            for band in test.bands
        ],
    }


@router.get("/insight/rfm", response_model=RfmGroups, dependencies=[within(STATISTICS)])
async def rfm_groups(request: Request, _: Reader) -> Response:
    """Return how many customers each RFM group has. Empty without a model."""
    async with replica_snapshot(request) as connection:
        model = await models.newest(connection)
        fitted = model is not None and model.fitted is not None
        found = await work_lists.overview(connection) if fitted else None
    if found is None:
        return Json({"asOf": None, "items": []})
    everybody = sum(figures.customers for figures in found.groups.values())
    money = model is not None and model.verdict.shows_money
    return Json(
        {
            "asOf": found.as_of,
            "items": [
                {
                    "group": group,
                    "customers": figures.customers,
                    "share": figures.customers / everybody if everybody else 0.0,
                    "totalSpent": figures.spent,
                    "expectedValue": round(figures.value, 2) if money else None,
                }
                for group, figures in found.groups.items()
            ],
        }
    )


@router.post("/insight/fit", status_code=202, response_model=Wanted, responses=_BUSY)
async def want_fit(request: Request, _: Admin) -> Response:
    """Have a worker fit the model anew. It does so by itself once a day."""
    asked_at = await in_transaction(state_of(request).engine, ask_for_fit)
    if asked_at is None:
        detail = "Somebody has asked for a fit, and a worker has not come to it yet."
        raise ProblemError(409, "Asked before", detail)
    return Json({"askedAt": asked_at}, status_code=202)
