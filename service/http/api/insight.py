"""``/api/v1/insight``: the model, its test, the work lists, and what came of them."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request
from pydantic import ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from service.core.customer_ids import customer_ref
from service.core.outlook import (
    FAR_DAYS,
    NEAR_DAYS,
    Compared,
    FitCause,
    HoldOut,
    Lacking,
    Outlook,
    Verdict,
)
from service.core.rfm import RfmGroup, scores
from service.core.work_lists import Result, WorkList
from service.db.engine import in_transaction
from service.db.outlook import contacts, models, reading, work_lists
from service.db.outlook.contacts import Contact, Round
from service.db.outlook.due import Situation, ask_for_fit, read_situation
from service.db.outlook.models import StoredModel
from service.db.store_clock import StoreClock, read_store_clock
from service.http.api.customer_routes import NOT_FOUND, CustomerNumber, existing
from service.http.api.models import Camel
from service.http.auth.guard import Admin, Reader, Writer, within
from service.http.budgets import STATISTICS
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, Problem, ProblemError
from service.http.state import replica_snapshot, snapshot, state_of

router = APIRouter(prefix="/api/v1", tags=["insight"], responses=DOCUMENTED)

MOST_LISTED = 500
_ROUNDS = 20
State = Literal["fitted", "too_little", "not_fitted", "no_orders"]


OUTLOOK_EXAMPLE: dict[str, Any] = {
    "state": "fitted",
    "lacking": [],
    "verdict": "good",
    "asOf": "2026-11-28T09:12:00Z",
    "modelId": 12,
    "fittedAt": "2026-11-28T03:00:00Z",
    "orderDays": 4,
    "chance": 0.42,
    "chanceDays": 90,
    "expectedOrders": 1.87,
    "expectedOrderValue": 38.2,
    "expectedValue": 71.43,
    "expectedDays": 365,
    "expectedNextOrder": "2026-12-14",
    "overdueFrom": "2027-02-20",
    "overdue": False,
    "rfm": {"recency": 5, "frequency": 4, "monetary": 4, "group": "champions"},
    "contacts": [],
}


class Rfm(Camel):
    """Recency, frequency and monetary value: 1 to 5 each, in fifths of the shop's customers."""

    recency: int
    frequency: int
    monetary: int
    group: RfmGroup


class CustomerOutlook(Camel):
    """What is expected of a customer, as the last refresh stored it."""

    model_config = ConfigDict(json_schema_extra={"examples": [OUTLOOK_EXAMPLE]})

    state: State = Field(
        description="`too_little`: see `lacking`. `not_fitted`: a worker has not come to it yet. "
        "`no_orders`: nobody who has not ordered is predicted."
    )
    lacking: list[Lacking]
    verdict: Verdict | None = Field(
        description="How far the figures can be trusted, by the test on the shop's own past."
    )
    as_of: datetime | None = Field(description="When outlooks were last refreshed.")
    model_id: int | None
    fitted_at: datetime | None
    order_days: int | None = Field(description="UTC days with a counted order.")
    chance: float | None = Field(description="Of an order within `chanceDays`, 0 to 1.")
    chance_days: int
    expected_orders: float | None = Field(description="Within `expectedDays`.")
    expected_order_value: float | None
    expected_value: float | None = Field(
        description="Within `expectedDays`, in the store's currency. Null if the verdict is `poor` "
        "or `untested`."
    )
    expected_days: int
    expected_next_order: date | None
    overdue_from: date | None = Field(
        description="From when it is unusual that they have not ordered. Only after two order days."
    )
    overdue: bool
    rfm: Rfm | None
    contacts: list["CustomerContact"]


class CustomerContact(Camel):
    """That staff contacted a customer, or left them out by chance to compare."""

    work_list: WorkList
    marked_at: datetime
    contacted: bool


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


class ArmJson(Camel):
    """Customers of a round."""

    customers: int
    ordered: int


class RoundResult(Camel):
    """Who ordered within some days after a round."""

    days: int
    contacted: ArmJson
    left_out: ArmJson
    difference: float
    chance_range: float | None = Field(
        description="Chance alone makes a difference of this size, up or down, in 95 of 100 cases. "
        "Null: nobody was left out, so nobody knows what contacting did."
    )


class RoundJson(Camel):
    """When a work list was marked as contacted."""

    id: int
    work_list: WorkList
    marked_at: datetime
    marked_by: str
    contacted: int
    left_out: int
    results: list[RoundResult]


class Insight(Camel):
    """The model in force, how far it can be trusted, and what there is to do."""

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

    as_of: datetime | None
    items: list[RfmGroupJson]


class ListedCustomer(Camel):
    """A customer of a work list."""

    id: str
    name: str | None
    email: str | None
    phone: str | None
    email_opt_in: bool
    sms_opt_in: bool
    segment: str
    total_orders: int
    total_spent: float
    last_order_date: datetime | None
    chance: float
    expected_value: float | None


class ListMembers(Camel):
    """The first customers of a work list, those of whom most is expected first."""

    work_list: WorkList
    total: int
    items: list[ListedCustomer]


class Contacted(Camel):
    """How to mark a list as contacted."""

    leave_out: bool = Field(
        default=False,
        description="Leave a random fifth out, to see later what contacting the others did.",
    )


class Wanted(Camel):
    """That a fit was asked for."""

    asked_at: datetime


_BUSY: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "Somebody has asked before, and it is not done yet."}
}
_NOBODY: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "Nobody is on the list."}
}


@router.get("/customers/{id}/outlook", response_model=CustomerOutlook, responses=NOT_FOUND)
async def customer_outlook(request: Request, _: Reader, number: CustomerNumber) -> Response:
    """Return what is expected of a customer. Nothing is computed while you wait."""
    async with snapshot(request) as connection:
        await existing(request, connection, number)
        clock = await read_store_clock(connection)
        return Json(await outlook_document(connection, number, clock))


async def outlook_document(
    connection: AsyncConnection, number: int, clock: StoreClock
) -> dict[str, Any]:
    """Return what is expected of a customer, as JSON."""
    model = await models.newest(connection)
    refresh = await reading.last_refresh(connection)
    found = (await reading.outlooks_of(connection, [number])).get(number)
    contacted = await contacts.of_customer(connection, number)
    lacking = model.lacking if model else []
    if model is None:
        lacking = (await read_situation(connection)).gate.lacking
    fitted = model is not None and model.fitted is not None
    without = "no_orders" if fitted else "too_little" if lacking else "not_fitted"
    return {
        "state": "fitted" if found else without,
        "lacking": lacking,
        "verdict": model.verdict if model and model.fitted else None,
        "asOf": refresh.completed_at if fitted else None,
        "modelId": refresh.model if found else None,
        "fittedAt": model.fitted_at if model and found else None,
        "chanceDays": NEAR_DAYS,
        "expectedDays": FAR_DAYS,
        **figures_json(found, model, clock.today),
        "contacts": [contact_json(each) for each in contacted],
    }


def figures_json(outlook: Outlook | None, model: StoredModel | None, today: date) -> dict[str, Any]:
    """Return the figures of an outlook; all of them are null if there is none."""
    if outlook is None:
        return dict.fromkeys(
            (
                "orderDays",
                "chance",
                "expectedOrders",
                "expectedOrderValue",
                "expectedValue",
                "expectedNextOrder",
                "overdueFrom",
                "rfm",
            )
        ) | {"overdue": False}
    money = model is not None and model.verdict.shows_money
    each = scores(outlook.rfm)
    return {
        "orderDays": outlook.order_days,
        "chance": round(outlook.chance, 4),
        "expectedOrders": round(outlook.orders, 3),
        "expectedOrderValue": round(outlook.value / outlook.orders, 2)
        if money and outlook.orders
        else None,
        "expectedValue": round(outlook.value, 2) if money else None,
        "expectedNextOrder": outlook.expected_on and outlook.expected_on.isoformat(),
        "overdueFrom": outlook.overdue_on and outlook.overdue_on.isoformat(),
        "overdue": outlook.overdue_on is not None and outlook.overdue_on < today,
        "rfm": {**each._asdict(), "group": each.group},
    }


def contact_json(contact: Contact) -> dict[str, Any]:
    """Return a contact as JSON."""
    return {
        "workList": contact.work_list,
        "markedAt": contact.marked_at,
        "contacted": contact.contacted,
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
            "enough": situation.gate.model_dump(),
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


def round_json(marked: Round) -> dict[str, Any]:
    """Return a round as JSON."""
    return {
        "id": marked.id,
        "workList": marked.work_list,
        "markedAt": marked.marked_at,
        "markedBy": marked.marked_by,
        "contacted": marked.contacted,
        "leftOut": marked.left_out,
        "results": [_result_json(result) for result in marked.results],
    }


def _result_json(result: Result) -> dict[str, Any]:
    return {
        "days": result.days,
        "contacted": result.contacted._asdict(),
        "leftOut": result.left_out._asdict(),
        "difference": result.difference,
        "chanceRange": result.chance_range,
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


@router.get("/insight/lists/{name}", response_model=ListMembers, dependencies=[within(STATISTICS)])
async def list_members(request: Request, _: Reader, name: Annotated[WorkList, Path()]) -> Response:
    """Return the first 500 customers of a work list. Look at their consent before you write."""
    async with replica_snapshot(request) as connection:
        model = await models.newest(connection)
        clock = await read_store_clock(connection)
        top = (await work_lists.overview(connection)).top
        found = await work_lists.members(connection, name, clock.now, top, MOST_LISTED)
    money = model is not None and model.verdict.shows_money
    return Json(
        {
            "workList": name,
            "total": found.total,
            "items": [
                {
                    "id": customer_ref(row.id),
                    "name": row.name,
                    "email": row.email,
                    "phone": row.phone,
                    "emailOptIn": row.email_opt_in,
                    "smsOptIn": row.sms_opt_in,
                    "segment": row.segment,
                    "totalOrders": row.total_orders,
                    "totalSpent": row.total_spent,
                    "lastOrderDate": row.last_order_date,
                    "chance": round(row.chance, 4),
                    "expectedValue": round(row.value, 2) if money else None,
                }
                for row in found.rows
            ],
        }
    )


@router.post(
    "/insight/lists/{name}/contacted",
    status_code=201,
    response_model=RoundJson,
    responses=_NOBODY,
)
async def mark_contacted(
    request: Request,
    actor: Writer,
    name: Annotated[WorkList, Path()],
    body: Contacted,
) -> Response:
    """Mark all customers of a work list as contacted. They are on no list for 30 days.

    30 and 90 days later, `results` says how many of them ordered. Only with `leaveOut` can anybody
    know what contacting them did.
    """
    marked = await marked_as_contacted(request, actor.name, name, leave_out=body.leave_out)
    if marked is None:
        raise ProblemError(409, "Nobody is listed", "Nobody is on this list now.")
    return Json(round_json(marked), status_code=201)


async def marked_as_contacted(
    request: Request, actor: str, name: WorkList, *, leave_out: bool
) -> Round | None:
    """Mark a list as contacted. None: nobody is on it."""

    async def work(connection: AsyncConnection) -> Round | None:
        clock = await read_store_clock(connection)
        top = (await work_lists.overview(connection)).top
        return await contacts.mark(connection, actor, name, clock.now, top, leave_out=leave_out)

    return await in_transaction(state_of(request).engine, work)


@router.post("/insight/fit", status_code=202, response_model=Wanted, responses=_BUSY)
async def want_fit(request: Request, _: Admin) -> Response:
    """Have a worker fit the model anew. It does so by itself once a day."""
    asked_at = await in_transaction(state_of(request).engine, ask_for_fit)
    if asked_at is None:
        detail = "Somebody has asked for a fit, and a worker has not come to it yet."
        raise ProblemError(409, "Asked before", detail)
    return Json({"askedAt": asked_at}, status_code=202)
