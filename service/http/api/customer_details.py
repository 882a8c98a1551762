"""``/api/v1/customers/{id}/…``: orders, timeline, segment and personal data of one customer."""

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from service.core.counting import NotCounted
from service.core.json_values import camel
from service.core.order_flags import OrderFlag
from service.core.segment_explanation import Explanation as CoreExplanation
from service.core.segment_explanation import PlainNotation, explain
from service.core.segment_rules import Facts, Segment
from service.core.time_zones import zone_of
from service.db.customers import (
    interactions,
    mentions,
    order_history,
    shop_requests,
    timeline,
)
from service.db.customers.customer_row import CustomerRow
from service.db.customers.identifiers import identifiers_of
from service.db.customers.order_history import OrderRow
from service.db.customers.paging import Listed
from service.db.customers.personal_data import dead_letters_about
from service.db.customers.timeline import TimelineRow
from service.db.locks import read_clock
from service.db.segments import rule_settings
from service.db.store_clock import read_store_clock
from service.http.api.cursors import Cursor, Cursors, Limit, SealedCursors
from service.http.api.customer_interactions import interaction_json
from service.http.api.customer_json import customer_identifier_json, customer_json
from service.http.api.customer_outlook import OUTLOOK_EXAMPLE, outlook_document
from service.http.api.customer_routes import NOT_FOUND, CustomerNumber, existing
from service.http.api.erasure_notice import mentions_json
from service.http.api.models import Camel, Collection, collection
from service.http.auth.guard import Reader
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, example
from service.http.state import snapshot

router = APIRouter(
    prefix="/api/v1/customers/{id}", tags=["customers"], responses=DOCUMENTED | NOT_FOUND
)

ORDERS, _TIMELINE = "orders", "timeline"
"""Names of the lists. Each cursor carries one, so that another list refuses it."""
_ALL = 1_000_000
"""The size of a page that holds everything about one customer."""


class Order(Camel):
    """An order in its latest known state."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "ORD-1001",
                    "version": 2,
                    "status": "shipped",
                    "paymentStatus": "paid",
                    "totalAmount": 129.97,
                    "refundedAmount": 0.00,
                    "currency": None,
                    "exchangeRate": None,
                    "netAmount": 129.97,
                    "counts": True,
                    "notCountedBecause": None,
                    "dateCreated": "2026-11-22T09:59:58Z",
                    "dateUpdated": "2026-11-22T12:00:00Z",
                    "namedBy": ["email:jane@example.com"],
                    "assignedByHand": False,
                    "flags": [],
                }
            ]
        }
    )

    id: str
    version: int
    status: str
    payment_status: str | None
    total_amount: float
    refunded_amount: float
    currency: str | None = Field(
        description="Of these two amounts, as in ISO 4217. Null: the store's."
    )
    exchange_rate: float | None = Field(
        description="The store's currency per unit of `currency`. Null: none was sent, or the "
        "order is in the store's currency."
    )
    net_amount: float | None = Field(
        description="What the order adds to `totalSpent` while it counts, in the store's currency. "
        "Null: it is in another currency, and no exchange rate was sent."
    )
    counts: bool = Field(description="Whether it counts towards `totalOrders` and `totalSpent`.")
    not_counted_because: NotCounted | None = Field(
        description="The first reason why it does not count: `cancelled`, `payment_failed`, "
        "`refunded_in_full`; `unpaid` if the setting `countFrom` is `paid`; `free` if "
        "`countFreeOrders` is false. Null if it counts, or if it will as soon as a running recount "
        "comes to it."
    )
    date_created: datetime
    date_updated: datetime
    named_by: list[str] = Field(
        description="The identifiers that its events named the customer by. An unattributed order "
        "has one if it was marked as not a person."
    )
    assigned_by_hand: bool = Field(
        description="Staff gave it to the customer, and may give it to another one."
    )
    flags: list[OrderFlag] = Field(
        description="`refund_exceeds_total`: more was refunded than the total. `refund_fell`: an "
        "event told of a greater refund than `refundedAmount`. `conflict`: two events have the "
        "same version and times, and say different things; `/orders/conflicts` has both. "
        "`update_refused`: a newer update is a dead letter, so this may be an older state."
    )


class Orders(Collection):
    """A page of orders."""

    items: list[Order]


class Timeline(Collection):
    """A page of events: each item has ``at``, ``type`` and the fields of its type."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [
                        {
                            "at": "2026-11-22T10:00:00.123456Z",
                            "type": "segment",
                            "previousSegment": "new",
                            "segment": "returning",
                            "cause": "order",
                            "sequence": 2,
                        },
                        {
                            "at": "2026-11-22T09:59:58Z",
                            "type": "order",
                            "orderId": "ORD-1001",
                            "status": "pending",
                            "totalAmount": 129.97,
                            "refundedAmount": 0.00,
                        },
                    ],
                    "total": 2,
                    "nextCursor": None,
                }
            ]
        }
    )

    items: list[dict[str, Any]]


class Explanation(BaseModel):
    """Why a customer is in their segment, and what would change it."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "segment": "returning",
                    "source": "rules",
                    "since": "2026-11-22T10:00:00.123456Z",
                    "cause": "order",
                    "settingsVersion": 1,
                    "autoSegmentation": True,
                    "facts": {
                        "totalOrders": 2,
                        "totalSpent": 379.50,
                        "lastOrderDate": "2026-11-22T09:59:58Z",
                    },
                    "hold": None,
                    "byRules": "returning",
                    "rule": "they have ordered more than once, and no other rule fits",
                    "rulesThatHold": [],
                    "needs": [
                        {
                            "segment": "vip",
                            "orders": 1,
                            "amount": 120.50,
                            "text": "VIP with 1 more order, or 120.50 more spent",
                        }
                    ],
                    "upcoming": [
                        {
                            "segment": "at_risk",
                            "at": "2027-01-21T09:59:58Z",
                            "text": "At Risk on 2027-01-21 unless they order",
                        }
                    ],
                    "afterNextOrder": "vip",
                    "notCounted": "1 order does not count: not paid yet. The settings count paid "
                    "orders only.",
                }
            ]
        },
    )

    segment: Segment
    source: Literal["rules", "manual"]


@router.get("/orders", response_model=Orders)
async def orders(
    request: Request,
    _: Reader,
    number: CustomerNumber,
    cursors: SealedCursors,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List a customer's orders, the latest first."""
    async with snapshot(request) as connection:
        await existing(request, connection, number)
        after = cursors.decode_time(cursor, ORDERS)
        page = await order_history.of_customer(connection, number, limit, after)
    return orders_response(page, cursors)


@router.get("/timeline", response_model=Timeline)
async def events(
    request: Request,
    _: Reader,
    number: CustomerNumber,
    cursors: SealedCursors,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List orders, their updates, segment changes, edits and interactions, the latest first."""
    async with snapshot(request) as connection:
        await existing(request, connection, number)
        after = cursors.decode_time(cursor, _TIMELINE)
        page = await timeline.timeline(connection, number, limit, after)
    items = [_event_json(event) for event in page.items]
    return Json(collection(items, page.total, cursors.encode_time(page.end, _TIMELINE)))


@router.get("/segment", response_model=Explanation)
async def segment(request: Request, _: Reader, number: CustomerNumber) -> Response:
    """Explain the segment: its rule and facts, its beginning, what would change it and when."""
    async with snapshot(request) as connection:
        customer = await existing(request, connection, number)
        since = await timeline.segment_since(connection, number)
        current = await rule_settings.current(connection)
        not_counted = await order_history.not_counted(connection, customer.id)
        now = await read_clock(connection)
    facts = Facts(customer.total_orders, customer.total_spent, customer.last_order_date)
    notation = PlainNotation(zone_of(current.settings.time_zone))
    return Json(
        {
            "segment": customer.segment,
            "source": "manual" if customer.segment_manual else "rules",
            "since": since and since.changed_at,
            "cause": since and since.cause,
            "settingsVersion": current.version,
            "autoSegmentation": current.settings.auto_segmentation,
            "facts": camel(facts._asdict()),
            "hold": _hold(customer) if customer.segment_manual else None,
            **_explained(explain(facts, current.settings, now, notation, not_counted)),
        }
    )


def _explained(why: CoreExplanation) -> dict[str, Any]:
    return {
        "byRules": why.by_rules.segment,
        "rule": why.by_rules.because,
        "rulesThatHold": [{"segment": fit.segment, "rule": fit.because} for fit in why.fits],
        "needs": [
            need._asdict() | {"text": f"{need.segment.label} {need.text}"} for need in why.needs
        ],
        "upcoming": [
            step._asdict() | {"text": f"{step.segment.label} {step.text}"} for step in why.upcoming
        ],
        "afterNextOrder": why.after_next_order,
        "notCounted": why.not_counted or None,
    }


@router.get(
    "/data",
    response_model=dict[str, Any],
    responses=example(
        {
            "customer": {"id": "CUST-1001", "name": "Jane Smith", "email": "jane@example.com"},
            "identifiers": [
                {
                    "identifier": "email:jane@exmaple.com",
                    "kind": "email",
                    "value": "jane@exmaple.com",
                    "source": None,
                    "since": "2026-10-01T12:00:00Z",
                    "by": None,
                }
            ],
            "formerEmails": ["jane@exmaple.com"],
            "orders": [],
            "timeline": [],
            "interactions": [],
            "deadLetters": [
                {"streamId": "1764000000000-0", "partition": None, "reason": "invalid_amount"}
            ],
            "shopRequests": [],
            "mentions": {"items": [], "complete": True},
            "outlook": OUTLOOK_EXAMPLE,
        }
    ),
)
async def data(request: Request, _: Reader, number: CustomerNumber) -> Response:
    """Return everything that is stored about a person, so that you can send it to them.

    `identifiers` are all that mean the person, with the ids of customers who were merged into them.
    `mentions` are texts about others that mention the person. They are for staff to read, and are
    listed without their contents.
    """
    async with snapshot(request) as connection:
        customer = await existing(request, connection, number)
        order_page = await order_history.of_customer(connection, number, _ALL, None)
        event_page = await timeline.timeline(connection, number, _ALL, None)
        noted = await interactions.with_removed(connection, number)
        identifiers = await identifiers_of(connection, customer)
        letters = await dead_letters_about(connection, number, identifiers)
        mentioned = await mentions.of_others(connection, number, identifiers)
        asked = await shop_requests.about(connection, identifiers.customers)
        clock = await read_store_clock(connection)
        outlook = await outlook_document(connection, customer, clock)
    return Json(
        {
            "customer": customer_json(customer),
            "identifiers": [customer_identifier_json(row) for row in customer.identifiers],
            "formerEmails": [
                email for email in identifiers.email_keys if email != customer.email_key
            ],
            "orders": [_order_json(order) for order in order_page.items],
            "timeline": [_event_json(event) for event in event_page.items],
            "interactions": [
                interaction_json(each) | ({"removedAt": removed_at} if removed_at else {})
                for each, removed_at in noted
            ],
            "deadLetters": [
                {
                    "streamId": letter.stream_id,
                    "partition": letter.partition,
                    "reason": letter.reason,
                }
                for letter in letters
            ],
            "shopRequests": [
                {"shop": each.domain, "askedAt": each.received_at, "doneAt": each.done_at}
                for each in asked
            ],
            "mentions": mentions_json(mentioned),
            "outlook": outlook,
        }
    )


def orders_response(page: Listed[OrderRow], cursors: Cursors) -> Response:
    """Return a page of orders as a response."""
    items = [_order_json(order) for order in page.items]
    return Json(collection(items, page.total, cursors.encode_time(page.end, ORDERS)))


def _order_json(order: OrderRow) -> dict[str, Any]:
    return {
        "id": order.id,
        "version": order.version,
        "status": order.status,
        "paymentStatus": order.payment_status,
        "totalAmount": order.total,
        "refundedAmount": order.refunded,
        "currency": order.currency,
        "exchangeRate": None if order.exchange_rate is None else float(order.exchange_rate),
        "netAmount": None if order.currency and order.exchange_rate is None else order.net,
        "counts": order.counts,
        "notCountedBecause": order.not_counted,
        "dateCreated": order.date_created,
        "dateUpdated": order.updated_at,
        "namedBy": order.named_by,
        "assignedByHand": order.by_hand,
        "flags": order.flags,
    }


def _event_json(event: TimelineRow) -> dict[str, Any]:
    return {"at": event.at, "type": event.kind, **camel(dict(event.details))}


def _hold(customer: CustomerRow) -> dict[str, Any]:
    until = customer.segment_pinned_until
    lasts = "until their next order"
    if customer.segment_pinned:
        lasts = "for good"
    elif until:
        lasts = "until a date"
    return {"pinned": customer.segment_pinned, "until": until, "lasts": lasts}
