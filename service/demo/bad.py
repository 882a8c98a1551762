"""Entries that must become dead letters: one for each kind of mistake."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal

from service.demo.events import (
    STORE_CURRENCY,
    DemoEntry,
    Document,
    Order,
    document,
    entry,
    named,
    stamp,
)
from service.demo.people import person


def bad_entry(mistake: str, at: datetime) -> DemoEntry:
    """Return an order placed at ``at`` that is right except for one of the `MISTAKES`."""
    number = list(MISTAKES).index(mistake) + 1
    customer = person(number)
    order = Order(
        id=f"CDNOW-BAD-{number:02}",
        version=1,
        customer=named(customer),
        status="pending",
        payment="paid",
        total="20.00",
        refunded=Decimal("0.00"),
        currency=STORE_CURRENCY,
        rate=None,
        address=customer.address,
        created=at,
        updated=at,
    )
    return MISTAKES[mistake](document(f"{order.id}/{stamp(at)}", "created", at, order))


def _with(**data: str) -> Callable[[Document], DemoEntry]:
    return lambda event: entry(event | {"data": event["data"] | data})


def _body(event: Document) -> bytes:
    return entry(event)["data"]


def _without(fields: Document, name: str) -> Document:
    return {key: value for key, value in fields.items() if key != name}


MISTAKES: dict[str, Callable[[Document], DemoEntry]] = {
    "not JSON": lambda event: {"data": _body(event)[:-40]},
    "invalid UTF-8": lambda event: {"data": _body(event).replace(b'"name":"', b'"name":"\xff', 1)},
    "not an object": lambda event: {"data": b"[" + _body(event) + b"]"},
    "no data field": lambda event: {"payload": _body(event)},
    "no event id": lambda event: entry(_without(event, "id")),
    "unknown type": lambda event: entry(event | {"type": "order-archived"}),
    "no total": lambda event: entry(event | {"data": _without(event["data"], "totalAmount")}),
    "negative amount": _with(totalAmount="-20.00"),
    "amount not a number": _with(totalAmount="NaN"),
    "amount infinite": _with(totalAmount="Infinity"),
    "negative refund": _with(refundedAmount="-20.00"),
    "unknown currency": _with(currency="dollars"),
    "unknown status": _with(status="teleported"),
    "date without an offset": lambda event: _with(
        dateCreated=event["data"]["dateCreated"].removesuffix("Z")
    )(event),
    "date in the far future": _with(dateCreated="2222-02-22T22:22:22Z"),
}
"""Each mistake by its name, and the function that makes it in a good event."""
