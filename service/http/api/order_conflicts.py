"""``/api/v1/orders/conflicts``: orders whose events contradict each other."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field
from pydantic.config import JsonDict
from starlette.responses import Response

from service.core.customer_ids import customer_ref
from service.db.customers import order_conflicts
from service.db.customers.order_conflicts import Contradiction, ToldState
from service.http.api.cursors import Cursor, Limit, SealedCursors
from service.http.api.models import Camel, Collection, collection
from service.http.auth.guard import Reader
from service.http.json_response import Json
from service.http.problems import DOCUMENTED
from service.http.state import replica_snapshot

router = APIRouter(prefix="/api/v1/orders", tags=["orders"], responses=DOCUMENTED)

CONFLICTS = "conflicts"
"""Names the list in its cursors."""
_STATE: JsonDict = {
    "paymentStatus": "paid",
    "totalAmount": 129.97,
    "refundedAmount": 0.00,
    "currency": None,
    "exchangeRate": None,
    "dateCreated": "2026-11-22T09:59:58Z",
}
_CONFLICT: JsonDict = {
    "orderId": "ORD-1001",
    "customerId": "CUST-1001",
    "version": 2,
    "dateUpdated": "2026-11-22T12:00:00Z",
    "events": [
        {"eventId": "ORD-1001:b", "holds": True, "status": "shipped", **_STATE},
        {"eventId": "ORD-1001:a", "holds": False, "status": "cancelled", **_STATE},
    ],
}


class ToldEvent(Camel):
    """What one event says of the order."""

    event_id: str
    holds: bool = Field(description="It is the order's state: of all of them, its id is greatest.")
    status: str
    payment_status: str | None
    total_amount: float
    refunded_amount: float
    currency: str | None = Field(description="Of both amounts. Null: the store's.")
    exchange_rate: float | None
    date_created: datetime


class Conflict(Camel):
    """An order whose events have the same version and times, and say different things."""

    model_config = ConfigDict(json_schema_extra={"examples": [_CONFLICT]})

    order_id: str
    customer_id: str | None
    version: int
    date_updated: datetime
    events: list[ToldEvent] = Field(
        description="The first one holds. If several others say the same, only the one with the "
        "greatest id is here."
    )


class Conflicts(Collection):
    """A page of conflicts."""

    items: list[Conflict]


@router.get("/conflicts", response_model=Conflicts)
async def conflicting_orders(
    request: Request,
    _: Reader,
    cursors: SealedCursors,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List orders whose events contradict each other, the latest noticed first.

    A conflict is over when a later event of the order arrives: one with a greater version or time.
    """
    after = cursors.decode_time(cursor, CONFLICTS)
    async with replica_snapshot(request) as connection:
        page = await order_conflicts.page(connection, limit, after)
    next_cursor = cursors.encode_time(page.end, CONFLICTS)
    return Json(collection([_conflict(each) for each in page.items], page.total, next_cursor))


def _conflict(found: Contradiction) -> dict[str, Any]:
    return {
        "orderId": found.order_id,
        "customerId": None if found.customer_id is None else customer_ref(found.customer_id),
        "version": found.version,
        "dateUpdated": found.updated_at,
        "events": [_event(event) for event in found.events],
    }


def _event(told: ToldState) -> dict[str, Any]:
    return {
        "eventId": told.event_id,
        "holds": told.holds,
        "status": told.status,
        "paymentStatus": told.payment_status,
        "totalAmount": told.total,
        "refundedAmount": told.refunded,
        "currency": told.currency,
        "exchangeRate": None if told.exchange_rate is None else float(told.exchange_rate),
        "dateCreated": told.date_created,
    }
