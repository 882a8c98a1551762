"""``/api/v1/customers/{id}/outlook``: what is expected of a customer."""

from datetime import date, datetime
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from service.core.lapse import Lapse, lapse_of
from service.core.outlook import (
    FAR_DAYS,
    NEAR_DAYS,
    Lacking,
    Outlook,
    Verdict,
)
from service.core.rfm import RfmGroup, scores
from service.core.segment_rules import Segment, SegmentSettings
from service.core.work_lists import WorkList
from service.db.customers.customer_row import CustomerRow
from service.db.outlook import contacts, models, reading
from service.db.outlook.contacts import Contact
from service.db.outlook.due import read_situation
from service.db.outlook.facts import facts_of
from service.db.outlook.models import StoredModel
from service.db.segments import rule_settings
from service.db.store_clock import StoreClock, read_store_clock
from service.http.api.customer_routes import NOT_FOUND, CustomerNumber, existing
from service.http.api.models import Camel
from service.http.auth.guard import Reader
from service.http.json_response import Json
from service.http.problems import DOCUMENTED
from service.http.state import snapshot

router = APIRouter(prefix="/api/v1", tags=["insight"], responses=DOCUMENTED)


State = Literal["fitted", "too_little", "not_fitted", "no_orders"]


OUTLOOK_EXAMPLE: dict[str, Any] = {
    "state": "fitted",
    "lacking": [],
    "verdict": "good",
    "asOf": "2026-11-28T09:12:00Z",
    "modelId": 12,
    "fittedAt": "2026-11-28T03:00:00Z",
    "orderDays": 4,
    "averageDaysBetweenOrders": 41.3,
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
    "lapses": {"segment": "at_risk", "at": "2027-01-20T10:00:00Z"},
    "contacts": [],
}


class Rfm(Camel):
    """Recency, frequency and monetary value: 1 to 5 each, in fifths of the shop's customers."""

    recency: int
    frequency: int
    monetary: int
    group: RfmGroup


class LapseJson(Camel):
    """The segment that a customer gets by the rules if they do not order, and when."""

    segment: Segment
    at: datetime


class CustomerContact(Camel):
    """That staff contacted a customer, or left them out by chance to compare."""

    work_list: WorkList
    marked_at: datetime
    contacted: bool


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
    average_days_between_orders: float | None = Field(
        description="Between their order days. Only after two of them."
    )
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
    lapses: LapseJson | None = Field(
        description="By the rules, not the model: when they become at risk, or from that inactive. "
        "Null: never without another order, or nothing is predicted of them."
    )
    contacts: list[CustomerContact]


@router.get("/customers/{id}/outlook", response_model=CustomerOutlook, responses=NOT_FOUND)
async def customer_outlook(request: Request, _: Reader, number: CustomerNumber) -> Response:
    """Return what is expected of a customer. Nothing is computed while you wait."""
    async with snapshot(request) as connection:
        customer = await existing(request, connection, number)
        clock = await read_store_clock(connection)
        return Json(await outlook_document(connection, customer, clock))


async def outlook_document(
    connection: AsyncConnection, customer: CustomerRow, clock: StoreClock
) -> dict[str, Any]:
    """Return what is expected of a customer, as JSON."""
    number = customer.id
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
        **(await _by_facts(connection, customer, clock.now) if found else _NO_FACTS),
        "contacts": [contact_json(each) for each in contacted],
    }


_NO_FACTS: dict[str, Any] = {"orderDays": None, "averageDaysBetweenOrders": None, "lapses": None}


async def _by_facts(
    connection: AsyncConnection, customer: CustomerRow, now: datetime
) -> dict[str, Any]:
    """Return what follows from the customer's orders as they are now, without a model."""
    known = (await facts_of(connection, [customer.id]))[customer.id]
    gap = known.gap_days
    lapse = lapse_of_customer(customer, (await rule_settings.current(connection)).settings, now)
    return {
        "orderDays": known.order_days,
        "averageDaysBetweenOrders": None if gap is None else round(gap, 1),
        "lapses": lapse and {"segment": lapse.segment, "at": lapse.at},
    }


def lapse_of_customer(
    customer: CustomerRow, settings: SegmentSettings, now: datetime
) -> Lapse | None:
    """Return when silence moves a customer down by the rules. None if it never does."""
    return lapse_of(customer.facts, settings, now, customer.segment, customer.free_from(now))


def figures_json(outlook: Outlook | None, model: StoredModel | None, today: date) -> dict[str, Any]:
    """Return the figures of an outlook; all of them are null if there is none."""
    if outlook is None:
        return dict.fromkeys(
            (
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


def listed_json(
    outlook: Outlook | None, model: StoredModel | None, today: date
) -> dict[str, Any] | None:
    """Return the outlook of a customer of a list; None if there is none."""
    if outlook is None:
        return None
    figures = figures_json(outlook, model, today)
    kept = ("chance", "expectedOrders", "expectedValue", "expectedNextOrder", "overdue")
    return {name: figures[name] for name in kept} | {"rfmGroup": figures["rfm"]["group"]}


def contact_json(contact: Contact) -> dict[str, Any]:
    """Return a contact as JSON."""
    return {
        "workList": contact.work_list,
        "markedAt": contact.marked_at,
        "contacted": contact.contacted,
    }
