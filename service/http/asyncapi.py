"""The AsyncAPI document of the streams. The OpenAPI document comes from the web application."""

from importlib.metadata import version
from itertools import chain
from typing import Any

from service.core.lenient import OTHER_STREETS
from service.core.order_contract import ORDER_EVENT
from service.core.order_event import Reason
from service.core.removal_event import CustomerRemovedCloudEvent
from service.core.segment_event import SegmentChangedCloudEvent

ORDER_EXAMPLE = {
    "specversion": "1.0",
    "id": "0b6f6f0e",
    "source": "/order-management",
    "type": "order-created",
    "time": "2026-11-22T10:00:00Z",
    "subject": "ORD-1001",
    "datacontenttype": "application/json",
    "data": {
        "id": "ORD-1001",
        "version": 1,
        "customer": {
            "id": None,
            "name": "Jane Smith",
            "email": "jane@example.com",
            "phone": "555-5678",
        },
        "status": "pending",
        "paymentStatus": "paid",
        "totalAmount": "129.97",
        "refundedAmount": "0.00",
        "currency": "USD",
        "shippingAddress": {
            "street": "1 Main St",
            "city": "Austin",
            "state": "TX",
            "zip": "78701",
            "country": "US",
        },
        "dateCreated": "2026-11-22T09:59:58Z",
        "dateUpdated": "2026-11-22T09:59:58Z",
    },
}

CHANGE_EXAMPLE = {
    "specversion": "1.0",
    "id": "CUST-1001:2",
    "source": "/recovery-essentials-crm",
    "type": "customer-segment-changed",
    "time": "2026-11-22T10:00:00.123456Z",
    "subject": "CUST-1001",
    "datacontenttype": "application/json",
    "data": {
        "customerId": "CUST-1001",
        "previousSegment": "new",
        "segment": "returning",
        "cause": "order",
        "totalOrders": 2,
        "totalSpent": 229.94,
        "lastOrderDate": "2026-11-22T09:59:58Z",
        "settingsVersion": 1,
        "changedAt": "2026-11-22T10:00:00.123456Z",
        "sequence": 2,
    },
}

REMOVAL_EXAMPLE = {
    "specversion": "1.0",
    "id": "CUST-1002:removed",
    "source": "/recovery-essentials-crm",
    "type": "customer-removed",
    "time": "2026-11-22T10:00:00.123456Z",
    "subject": "CUST-1002",
    "datacontenttype": "application/json",
    "data": {
        "customerId": "CUST-1002",
        "reason": "merged",
        "mergedInto": "CUST-1001",
        "removedAt": "2026-11-22T10:00:00.123456Z",
    },
}

_AMOUNT = {
    "oneOf": [
        {"type": "number", "minimum": 0, "exclusiveMaximum": 10**12},
        {"type": "string", "pattern": r"^\d{1,12}(\.\d+)?$"},
    ],
    "description": "Read as a decimal, never as a float; rounded half up to the cent.",
}
_STREET_LINE = {
    "type": ["string", "null"],
    "description": "A line of the street, if there is no `street`.",
}
_INSTANT = {"type": "string", "format": "date-time", "description": "ISO 8601 with an offset"}


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document of the streams as they are on the wire."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Recovery Essentials CRM: streams",
            "version": version("recovery-essentials-crm"),
            "description": (
                "Three Redis streams. A stream entry is a flat list of fields; `x-redis-field` "
                "names the field whose value is the JSON document."
            ),
        },
        "servers": {
            "redis": {"host": "localhost:6379", "protocol": "redis", "title": "Redis 7, Valkey 9"}
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": {
            "orders": _channel(
                "orders",
                "orders",
                "Orders, created and updated; both types carry the whole order. If the stream is "
                "partitioned, `orders:{0}` and so on carry the same.",
            ),
            "customerSegmentChanged": _channel(
                "customerSegmentChanged",
                "customer-segment-changed",
                "Segment changes: each at least once, those of one customer in order. Entry ids "
                "are `<n>-0`.",
            ),
            "customerRemoved": _channel(
                "customerRemoved",
                "customer-removed",
                "Customers who are gone: each at least once. Entry ids are `<n>-0`. There is no "
                "order between this stream and that of segment changes: ignore segment changes of "
                "a customer who is gone.",
            ),
        },
        "operations": {
            "receiveOrders": _operation("receive", "orders"),
            "sendSegmentChanges": _operation("send", "customerSegmentChanged"),
            "sendRemovals": _operation("send", "customerRemoved"),
        },
        "components": {
            "messages": {
                "orders": _message(
                    "An order in one of its states. An entry that is refused becomes a dead letter "
                    f"with one of these reasons: {', '.join(reason.value for reason in Reason)}.",
                    "data",
                    "orders",
                    ORDER_EXAMPLE,
                ),
                "customerSegmentChanged": _message(
                    "A customer's segment changed.",
                    "__data__",
                    "customerSegmentChanged",
                    CHANGE_EXAMPLE,
                ),
                "customerRemoved": _message(
                    "A customer is gone for good.", "__data__", "customerRemoved", REMOVAL_EXAMPLE
                ),
            },
            "schemas": {
                "orders": _order_schema(),
                "customerSegmentChanged": _inlined(SegmentChangedCloudEvent.model_json_schema()),
                "customerRemoved": _inlined(CustomerRemovedCloudEvent.model_json_schema()),
            },
        },
    }


def _channel(name: str, address: str, description: str) -> dict[str, Any]:
    return {
        "address": address,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
    }


def _operation(action: str, channel: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}}


def _message(text: str, field: str, schema: str, example: dict[str, Any]) -> dict[str, Any]:
    return {
        "summary": text,
        "contentType": "application/cloudevents+json",
        "x-redis-field": field,
        "payload": {"$ref": f"#/components/schemas/{schema}"},
        "examples": [{"payload": example}],
    }


def _order_schema() -> dict[str, Any]:
    """Return the schema of the events that `judge` accepts.

    The event's model does not describe amounts and times, because code checks them, nor what else
    is read leniently. Both are added here.
    """
    schema = _inlined(ORDER_EVENT.json_schema())
    order = schema["properties"]["data"]["properties"]
    for name in ("totalAmount", "refundedAmount"):
        order[name] = _AMOUNT
    for name in ("dateCreated", "dateUpdated"):
        order[name] = _INSTANT
    order["id"]["type"] = ["string", "integer"]
    (address,) = (it for it in order["shippingAddress"]["anyOf"] if it["type"] == "object")
    address["properties"] |= dict.fromkeys(chain.from_iterable(OTHER_STREETS), _STREET_LINE)
    schema["properties"]["time"] = _INSTANT
    schema["required"] = ["id", "type", "data"]
    return schema


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with each definition written out where it is used.

    References into `$defs` would lead nowhere once the schema is part of a larger document.
    """
    definitions = schema.pop("$defs", {})

    def inline(node: Any) -> Any:
        if isinstance(node, list):
            return [inline(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return inline(definitions[node["$ref"].rpartition("/")[2]])
        return {name: inline(value) for name, value in node.items()}

    inlined: dict[str, Any] = inline(schema)
    return inlined
