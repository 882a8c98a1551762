"""The JSON of customers, as the guide has it: requests are checked by it, answers documented."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from service.core.segment_rules import Segment

_EMAIL = re.compile(r"[^\s@\x00-\x1f,;<>\"()]+@[^\s@.]+(\.[^\s@.]+)+")


def _email(value: str) -> str:
    value = value.strip()
    if not _EMAIL.fullmatch(value):
        msg = "is not an e-mail address, such as jane@example.com"
        raise ValueError(msg)
    return value


def _stored(value: str) -> str:
    if "\x00" in value:
        msg = "contains the character U+0000, which cannot be stored"
        raise ValueError(msg)
    return value.strip()


def _not_blank(value: str) -> str:
    if not value:
        msg = "must not be blank"
        raise ValueError(msg)
    return value


Line = Annotated[str, AfterValidator(_stored), Field(max_length=1000)]
Name = Annotated[Line, AfterValidator(_not_blank)]
Email = Annotated[str, AfterValidator(_stored), AfterValidator(_email), Field(max_length=320)]
Words = Annotated[str, AfterValidator(_stored), Field(max_length=20_000)]


class Camel(BaseModel):
    """Fields in camelCase on the wire; unknown ones are refused, for they are mistakes."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class Address(Camel):
    """A postal address; every part may be missing."""

    street: Line | None = None
    city: Line | None = None
    state: Line | None = None
    zip: Line | None = None
    country: Line | None = None


class Preferences(Camel):
    """Marketing consent; never taken from orders."""

    email_opt_in: bool = False
    sms_opt_in: bool = False


class PreferencesPatch(Camel):
    """What to change of it."""

    email_opt_in: bool | None = None
    sms_opt_in: bool | None = None


class CustomerPatch(Camel):
    """What to change; what is absent stays. Null clears phone and address."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"notes": "Prefers e-mail.", "segment": "vip"}]}
    )

    name: Name | None = None
    email: Email | None = None
    phone: Line | None = None
    address: Address | None = None
    preferences: PreferencesPatch | None = None
    notes: Words | None = None
    segment: Segment | None = Field(
        None, description="Set by hand; null hands the customer back to the rules."
    )
    segment_pinned: bool = Field(
        default=False, description="The segment set by hand stays for good."
    )
    segment_pinned_until: AwareDatetime | None = Field(
        None, description="It stays until then; without a pin, until the next order."
    )


class NewCustomer(CustomerPatch):
    """A customer entered by hand."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "Jane Smith", "email": "jane@example.com"}]}
    )

    name: Name
    email: Email


class Customer(Camel):
    """A customer."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "CUST-1001",
                    "name": "Jane Smith",
                    "email": "jane@example.com",
                    "phone": "555-5678",
                    "address": {
                        "street": "1 Main St",
                        "city": "Austin",
                        "state": "TX",
                        "zip": "78701",
                        "country": "US",
                    },
                    "segment": "returning",
                    "segmentSource": "rules",
                    "segmentPinned": False,
                    "segmentPinnedUntil": None,
                    "preferences": {"emailOptIn": True, "smsOptIn": False},
                    "notes": "",
                    "dateCreated": "2026-09-01T08:30:00Z",
                    "dateUpdated": "2026-11-22T10:00:00Z",
                    "firstOrderDate": "2026-09-01T08:30:00Z",
                    "lastOrderDate": "2026-11-22T09:59:58Z",
                    "totalOrders": 2,
                    "totalSpent": 229.94,
                    "orderIds": ["ORD-900", "ORD-1001"],
                }
            ]
        }
    )

    id: str
    name: str | None
    email: str
    phone: str | None
    address: Address
    segment: Segment
    segment_source: Literal["rules", "manual"]
    segment_pinned: bool
    segment_pinned_until: datetime | None
    preferences: Preferences
    notes: str
    date_created: datetime
    date_updated: datetime
    first_order_date: datetime | None
    last_order_date: datetime | None
    total_orders: int
    total_spent: float
    order_ids: list[str]


class Collection(Camel):
    """A page of a list."""

    total: int
    next_cursor: str | None


class Customers(Collection):
    """A page of customers; ``total`` counts the same filter."""

    items: list[Customer]


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
                    "counts": True,
                    "dateCreated": "2026-11-22T09:59:58Z",
                    "dateUpdated": "2026-11-22T12:00:00Z",
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
    counts: bool = Field(description="whether it counts towards orders and spent")
    date_created: datetime
    date_updated: datetime


class Orders(Collection):
    """A page of orders."""

    items: list[Order]


class Timeline(Collection):
    """A page of what happened: each item has ``at``, ``type`` and what belongs to that type."""

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
                }
            ]
        },
    )

    segment: Segment
    source: Literal["rules", "manual"]


class NewInteraction(Camel):
    """Something that staff did with a customer."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"kind": "call", "text": "Asked about the refund."}]}
    )

    kind: Literal["call", "email", "meeting", "note"]
    text: Annotated[Words, AfterValidator(_not_blank)]
    happened_at: AwareDatetime | None = Field(None, description="absent: now")


class InteractionPatch(Camel):
    """What to change of it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "Asked about the refund; sent."}]}
    )

    kind: Literal["call", "email", "meeting", "note"] | None = None
    text: Annotated[Words, AfterValidator(_not_blank)] | None = None
    happened_at: AwareDatetime | None = None


class Interaction(Camel):
    """An interaction, with who entered it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "17",
                    "kind": "call",
                    "happenedAt": "2026-11-22T10:05:00Z",
                    "author": "support",
                    "text": "Asked about the refund.",
                    "dateCreated": "2026-11-22T10:06:00Z",
                    "dateUpdated": "2026-11-22T10:06:00Z",
                }
            ]
        }
    )

    id: str
    kind: str
    happened_at: datetime
    author: str
    text: str
    date_created: datetime
    date_updated: datetime


class Interactions(Collection):
    """All interactions with a customer."""

    items: list[Interaction]
