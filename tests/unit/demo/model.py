"""A model of the order events' contract in plain Python, to check the demo's entries with."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
TYPES = {"order-created", "order-updated"}
STATUSES = {
    *("pending", "processing", "shipped", "delivered", "completed"),
    *("cancelled", "refunded", "on_hold", "backordered"),
}
PAYMENTS = {"pending", "paid", "failed", "refunded", "partially_refunded"}


class Unreadable(Exception):  # noqa: N818  # a verdict, not an error of the program
    """The entry breaks the contract. The message says how."""


class Event(NamedTuple):
    """The state of an order in one event."""

    key: tuple[int, datetime, str]
    type: str
    order: str
    email: str
    status: str
    payment: str
    total: Decimal
    net: Decimal
    created: datetime

    @property
    def counts(self) -> bool:
        """Whether the order is a counted order."""
        return self.status not in {"cancelled", "refunded"} and self.payment not in {
            "failed",
            "refunded",
        }


@dataclass
class Shop:
    """The orders and customers that follow from a set of entries."""

    orders: dict[str, Event] = field(default_factory=dict)
    owners: dict[str, Event] = field(default_factory=dict)
    """For each order, the greatest event that names a customer."""
    customers: set[str] = field(default_factory=set)
    unreadable: list[str] = field(default_factory=list)

    def segments(self, now: datetime) -> dict[str, str]:
        """Return each customer's segment; the rules about time come first."""
        counted: dict[str, list[Event]] = {email: [] for email in self.customers}
        for order, owner in self.owners.items():
            if self.orders[order].counts:
                counted[owner.email].append(self.orders[order])
        return {email: _segment(orders, now) for email, orders in counted.items()}


def fold(entries: Iterable[Mapping[str, bytes]], now: datetime) -> Shop:
    """Return the result of all entries; their order does not matter."""
    shop = Shop()
    for entry in entries:
        try:
            event = read(entry, now)
        except Unreadable as why:
            shop.unreadable.append(str(why))
            continue
        _greater(shop.orders, event)
        if event.email:
            _greater(shop.owners, event)
            shop.customers.add(event.email)
    return shop


def read(entry: Mapping[str, bytes], now: datetime) -> Event:
    """Return the event in an entry. Raises Unreadable."""
    _require("data" in entry, "no data")
    try:
        event = json.loads(entry["data"].decode(), parse_float=Decimal)
    except ValueError as error:
        raise Unreadable(type(error).__name__) from None
    _require(isinstance(event, dict), "not an object")
    _require(event.get("id"), "no event id")
    _require(event.get("type") in TYPES, "type")
    data: dict[str, Any] = event["data"]
    _require(data["status"] in STATUSES and data["paymentStatus"] in PAYMENTS, "status")
    _require(data["currency"] == "USD", "currency")
    _require("totalAmount" in data, "no total")
    total, refunded = _money(data["totalAmount"]), _money(data["refundedAmount"])
    _require(refunded <= total, "refund")
    created = _time(data["dateCreated"], now)
    return Event(
        key=(data.get("version") or 0, _time(data["dateUpdated"], now), event["id"]),
        type=event["type"],
        order=data["id"],
        email=((data["customer"] or {}).get("email") or "").strip().lower(),
        status=data["status"],
        payment=data["paymentStatus"],
        total=total,
        net=total - refunded,
        created=created,
    )


def _greater(known: dict[str, Event], event: Event) -> None:
    if event.order not in known or event.key > known[event.order].key:
        known[event.order] = event


def _require(holds: object, otherwise: str) -> None:
    if not holds:
        raise Unreadable(otherwise)


def _money(value: str | int | Decimal) -> Decimal:
    amount = Decimal(value)
    _require(amount.is_finite() and 0 <= amount < 10**12, "amount")
    return amount.quantize(Decimal("0.01"), ROUND_HALF_UP)


def _time(text: str, now: datetime) -> datetime:
    moment = datetime.fromisoformat(text)
    _require(moment.tzinfo is not None, "no offset")
    _require(EARLIEST <= moment <= now + timedelta(days=1), "time")
    return moment


def _segment(orders: list[Event], now: datetime) -> str:
    if orders:
        since = now - max(order.created for order in orders)
        if since >= timedelta(days=90):
            return "inactive"
        if since >= timedelta(days=60):
            return "at_risk"
    if len(orders) >= 3 or sum(order.net for order in orders) >= 500:
        return "vip"
    return "returning" if len(orders) > 1 else "new"
