"""Order events, written as order management writes them."""

import json
from datetime import UTC, datetime
from itertools import count
from typing import Any

from service.core.envelope import Entry

_numbers = count(1)


def cloud_event(order_id: str = "ORD-1", **order: Any) -> dict[str, Any]:
    """Return a CloudEvents document; keywords are the order's fields, in snake case.

    ``email``, ``name`` and ``phone`` go into ``customer``; ``event_id``, ``event_type``,
    ``event_time`` and ``source`` go into the envelope. ``created`` and ``updated`` are datetimes.
    """
    number = next(_numbers)
    created = order.pop("created", datetime.now(UTC))
    updated = order.pop("updated", created)
    customer = order.pop("customer", {"id": None})
    for field in ("email", "name", "phone"):
        if field in order:
            customer = {**customer, field: order.pop(field)}
    document: dict[str, Any] = {
        "specversion": "1.0",
        "id": order.pop("event_id", f"event-{number}"),
        "source": order.pop("source", "/order-management"),
        "type": order.pop("event_type", "order-created"),
        "subject": order_id,
        "data": {
            "id": order_id,
            "version": order.pop("version", 1),
            "customer": customer,
            "status": order.pop("status", "completed"),
            "paymentStatus": order.pop("payment_status", "paid"),
            "totalAmount": order.pop("total", "100.00"),
            "refundedAmount": order.pop("refunded", "0.00"),
            "currency": order.pop("currency", "USD"),
            "dateCreated": created.isoformat(),
            "dateUpdated": updated.isoformat(),
        },
    }
    if "event_time" in order:
        document["time"] = order.pop("event_time").isoformat()
    document["data"].update(order)
    return document


def fields(order_id: str = "ORD-1", **order: Any) -> dict[bytes, bytes]:
    """Return the fields of a stream entry."""
    return {b"data": json.dumps(cloud_event(order_id, **order)).encode()}


def entry(order_id: str = "ORD-1", **order: Any) -> Entry:
    """Return an entry as if it had been read from the stream."""
    return Entry(f"{1_700_000_000_000 + next(_numbers)}-0", fields(order_id, **order))
