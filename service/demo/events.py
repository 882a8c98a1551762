"""Order events as an order management system writes them: CloudEvents JSON in a stream entry."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from service.demo.people import Person

STORE_CURRENCY = "USD"

DemoEntry = dict[str, bytes]
"""The fields of one stream entry, ready for ``XADD``."""

Document = dict[str, Any]
"""A JSON object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order as an event carries it, complete. Without a version, the newer time wins."""

    id: str
    version: int | None
    customer: Mapping[str, object] | None
    status: str
    payment: str
    total: str | float
    refunded: Decimal
    currency: str
    rate: str | None
    """The store's currency per unit of ``currency``. None: unknown, or the same currency."""
    address: Mapping[str, str]
    created: datetime
    updated: datetime


def named(person: Person) -> Document:
    """Return the customer part of an order that ``person`` placed."""
    return {"id": None, "name": person.name, "email": person.email, "phone": person.phone}


def document(event_id: str, kind: str, time: datetime, order: Order) -> Document:
    """Return the event as a JSON object. ``kind`` is ``created`` or ``updated``."""
    data: Document = {
        "id": order.id,
        "version": order.version,
        "customer": order.customer,
        "status": order.status,
        "paymentStatus": order.payment,
        "totalAmount": order.total,
        "refundedAmount": str(order.refunded),
        "currency": order.currency,
        "exchangeRate": order.rate,
        "shippingAddress": order.address,
        "dateCreated": stamp(order.created),
        "dateUpdated": stamp(order.updated),
    }
    for name in ("version", "exchangeRate"):
        if data[name] is None:
            del data[name]
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "/order-management",
        "type": f"order-{kind}",
        "time": stamp(time),
        "subject": order.id,
        "datacontenttype": "application/json",
        "data": data,
    }


def entry(event: Document) -> DemoEntry:
    """Return the stream entry that carries ``event``."""
    return {"data": json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()}


def stamp(moment: datetime) -> str:
    """Return the time as ISO 8601 in UTC with ``Z``."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
