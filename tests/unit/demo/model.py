"""Read the demo's entries as the contract demands, and apply them as `tests.model` does."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

from tests.model import Document, Order, World, world

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
TYPES = {"order-created", "order-updated"}
STATUSES = {
    *("pending", "processing", "shipped", "delivered", "completed"),
    *("cancelled", "refunded", "on_hold", "backordered"),
}
PAYMENTS = {"pending", "paid", "failed", "refunded", "partially_refunded"}


class Unreadable(Exception):  # noqa: N818  # a verdict on the entry, not an error of the program
    """The entry breaks the contract; the message says how."""


class Event(NamedTuple):
    """An order's state, as one event states it."""

    key: tuple[int, datetime, str]
    type: str
    order: str
    email: str
    created: datetime
    total: Decimal


@dataclass
class Shop:
    """The state that a set of entries ends in."""

    world: World
    unreadable: list[str]
    """Per entry that breaks the contract, how it does."""

    @property
    def orders(self) -> dict[str, Order]:
        return self.world.orders

    @property
    def owners(self) -> dict[str, str]:
        """Return the e-mail of each order's customer; unattributed orders are left out."""
        return {id_: _email(order.owner) for id_, order in self.orders.items() if order.owner}

    @property
    def customers(self) -> set[str]:
        return {_email(customer) for customer in self.world.customers}


def _email(person: str) -> str:
    """Return the e-mail of a customer; the demo's customers have one, and nothing else."""
    return person.removeprefix("email:")


def fold(entries: Iterable[Mapping[str, bytes]], now: datetime) -> Shop:
    """Apply all entries, in any order."""
    documents, unreadable = [], []
    for entry in entries:
        try:
            documents.append(_document(entry, now))
        except Unreadable as why:
            unreadable.append(str(why))
    return Shop(world(documents, now), unreadable)


def read(entry: Mapping[str, bytes], now: datetime) -> Event:
    """Return the entry's event, or raise Unreadable."""
    event = _document(entry, now)
    data = event["data"]
    return Event(
        key=(data.get("version") or 0, datetime.fromisoformat(data["dateUpdated"]), event["id"]),
        type=event["type"],
        order=data["id"],
        email=((data["customer"] or {}).get("email") or "").strip().lower(),
        created=datetime.fromisoformat(data["dateCreated"]),
        total=_money(data["totalAmount"]),
    )


def _document(entry: Mapping[str, bytes], now: datetime) -> Document:
    """Return the entry's document, or raise Unreadable."""
    _require("data" in entry, "no data")
    try:
        event: Document = json.loads(entry["data"].decode(), parse_float=Decimal)
    except ValueError as error:
        raise Unreadable(type(error).__name__) from None
    _require(isinstance(event, dict), "not an object")
    _require(event.get("id"), "no event id")
    _require(event.get("type") in TYPES, "type")
    data: dict[str, Any] = event["data"]
    _require(data["status"] in STATUSES and data["paymentStatus"] in PAYMENTS, "status")
    _require(data["currency"] in {"USD", "EUR"}, "currency")
    _require("totalAmount" in data, "no total")
    _money(data["totalAmount"])
    _money(data["refundedAmount"])
    _check_time(data["dateCreated"], now)
    _check_time(data["dateUpdated"], now)
    return event


def _require(holds: object, otherwise: str) -> None:
    if not holds:
        raise Unreadable(otherwise)


def _money(value: str | int | Decimal) -> Decimal:
    amount = Decimal(value)
    _require(amount.is_finite() and 0 <= amount < 10**12, "amount")
    return amount.quantize(Decimal("0.01"), ROUND_HALF_UP)


def _check_time(text: str, now: datetime) -> None:
    moment = datetime.fromisoformat(text)
    _require(moment.tzinfo is not None, "no offset")
    _require(EARLIEST <= moment <= now + timedelta(days=1), "time")
