"""The service in plain Python, step by step: events, edits, settings and time.

Written from the contract; it shares no code with the service. `tests.model` says what counts, what
the rules are, and what a set of events ends in whatever their order. This model adds what people do
in between: edits, holds, erasures, settings, and days that pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from tests import model

FOREVER = datetime.max.replace(tzinfo=UTC)
"""When what a person typed was told."""


class Key(NamedTuple):
    version: int
    at: datetime
    event_id: str


@dataclass(frozen=True)
class Event:
    """One state of one order, as published."""

    id: str
    order: str
    version: int
    at: datetime
    created: datetime
    status: str
    payment: str
    total: Decimal
    refunded: Decimal
    ref: str | None
    """``CUST-…``, which may be one of ours."""
    email: str | None
    name: str | None
    phone: str | None

    @property
    def key(self) -> Key:
        return Key(self.version, self.at, self.id)

    @property
    def as_order(self) -> model.Order:
        return model.Order(self.status, self.payment, self.total, self.refunded, self.created)


@dataclass(frozen=True)
class Told:
    """A value of the profile, and the key it came with."""

    value: str | None
    at: datetime
    event_id: str = ""


@dataclass(frozen=True)
class Hold:
    """A segment set by hand: for good, until a moment, or until an order placed after it."""

    since: datetime
    pinned: bool = False
    until: datetime | None = None


@dataclass(eq=False)
class Customer:
    ref: str | None
    """``CUST-…``; None before the service has said it."""
    email: str
    created: datetime
    name: Told | None = None
    phone: Told | None = None
    notes: str = ""
    segment: str = "new"
    hold: Hold | None = None


@dataclass(eq=False)
class Order:
    state: Event
    owner: Customer | None = None
    named: Key | None = None
    erased: bool = False


DEFAULTS: dict[str, Any] = {
    "vipOrderCount": 3,
    "vipTotalSpent": 500,
    "atRiskDays": 60,
    "inactiveDays": 90,
    "autoSegmentation": True,
    "precedence": "recency_first",
}


def rules_of(settings: Mapping[str, Any]) -> model.Rules:
    """Return the settings in the words of `tests.model`."""
    return model.Rules(
        vip_orders=settings["vipOrderCount"],
        vip_spent=Decimal(settings["vipTotalSpent"]),
        at_risk_days=settings["atRiskDays"],
        inactive_days=settings["inactiveDays"],
        recency_first=settings["precedence"] == "recency_first",
    )


class Seen(NamedTuple):
    """What is compared of a customer."""

    name: str | None
    phone: str | None
    notes: str
    created: datetime
    orders: tuple[str, ...]
    """All of them, those that do not count, too."""
    counted: int
    spent: Decimal
    first: datetime | None
    last: datetime | None
    segment: str
    source: str
    pinned: bool
    until: datetime | None


@dataclass
class World:
    """Customers by e-mail in lower case, orders by id, the erased by e-mail, until when.

    ``former`` has customers by the e-mails that they had, and that nobody has now.
    """

    customers: dict[str, Customer] = field(default_factory=dict)
    former: dict[str, Customer] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    erased: dict[str, datetime] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=lambda: dict(DEFAULTS))

    def totals(self, customer: Customer) -> model.Totals:
        return model.totals(
            order.state.as_order for order in self.orders.values() if order.owner is customer
        )

    def happen(self, batch: Sequence[Event], now: datetime) -> None:
        """Take up events, told at once."""
        told: dict[Customer, list[Event]] = {}
        refs = {customer.ref: customer for customer in self.customers.values() if customer.ref}
        for event in batch:
            order = self.orders.setdefault(event.order, Order(event))
            order.state = max(order.state, event, key=lambda each: each.key)
            customer = self._named(event, refs)
            if customer is not None:
                told.setdefault(customer, []).append(event)
                if order.named is None or event.key > order.named:
                    order.named, order.owner = event.key, customer
            elif event.ref not in refs and event.email:
                order.erased = True
        for customer, events in told.items():
            for event in events:
                self._tell(customer, event)
            hold = customer.hold
            newest = max(event.created for event in events)
            if hold and not hold.pinned and hold.until is None and newest > hold.since:
                customer.hold = None
        self.settle(now)

    def _named(self, event: Event, refs: dict[str, Customer]) -> Customer | None:
        if event.ref in refs:
            return refs[event.ref]
        if event.email is None:
            return None
        email = event.email.lower()
        if email in self.erased and event.created <= self.erased[email]:
            return None
        if email not in self.customers and email not in self.former:
            self.customers[email] = Customer(None, email, event.created)
        return self.customers.get(email) or self.former[email]

    def _tell(self, customer: Customer, event: Event) -> None:
        customer.created = min(customer.created, event.created)
        for attribute in ("name", "phone"):
            value = getattr(event, attribute)
            before = getattr(customer, attribute)
            key = (event.at, event.id)
            if value and (before is None or key > (before.at, before.event_id)):
                setattr(customer, attribute, Told(value, *key))

    def settle(self, now: datetime) -> None:
        """Judge everybody by what is known at this moment."""
        for customer in self.customers.values():
            if customer.hold and customer.hold.until and customer.hold.until <= now:
                customer.hold = None
            if customer.hold is None and self.settings["autoSegmentation"]:
                customer.segment = model.segment(
                    self.totals(customer), now, rules_of(self.settings)
                )

    def create(self, ref: str, body: Mapping[str, Any], now: datetime) -> None:
        """Do what a POST says that was accepted."""
        customer = Customer(ref, body["email"], now)
        customer.name = Told(body["name"], FOREVER)
        customer.phone = Told(body["phone"], FOREVER) if "phone" in body else None
        self.customers[customer.email.lower()] = customer
        self.former.pop(customer.email.lower(), None)
        rest = {name: value for name, value in body.items() if name not in {"name", "email"}}
        self.edit(customer, rest, now)

    def edit(self, customer: Customer, body: Mapping[str, Any], now: datetime) -> None:
        """Do what a PATCH says that was accepted."""
        if "email" in body:
            self._rename(customer, body["email"])
        for attribute in ("name", "phone"):
            before = getattr(customer, attribute)
            # Sending back what there is types nothing: forms do it with every field.
            if attribute in body and body[attribute] != (before and before.value):
                setattr(customer, attribute, Told(body[attribute], FOREVER))
        customer.notes = body.get("notes", customer.notes)
        if "segment" in body or "segmentPinned" in body or "segmentPinnedUntil" in body:
            self._hold(customer, body, now)
        self.settle(now)

    def _hold(self, customer: Customer, body: Mapping[str, Any], now: datetime) -> None:
        segment, before = body.get("segment"), customer.hold
        pinned = body.get("segmentPinned", bool(before and before.pinned))
        until = body.get("segmentPinnedUntil", before and before.until)
        if body.get("segmentPinned"):
            until = None
        if body.get("segmentPinnedUntil"):
            pinned = False
        given = any(body.get(n) for n in ("segment", "segmentPinned", "segmentPinnedUntil"))
        if ("segment" in body and segment is None) or not (before or given):
            customer.hold = None
            return
        # A publisher's clock may run ahead: what it has told of is no next order.
        known = (order.state.created for order in self.orders.values() if order.owner is customer)
        customer.hold = Hold(max([now, *known]), pinned, until)
        customer.segment = segment or customer.segment

    def _rename(self, customer: Customer, email: str) -> None:
        old, new = customer.email.lower(), email.lower()
        customer.email = email
        self.customers[new] = self.customers.pop(old)
        self.former.pop(new, None)
        if old != new:
            self.former[old] = customer

    def erase(self, customer: Customer, now: datetime) -> None:
        """Forget them under every e-mail that was theirs and is nobody else's now."""
        del self.customers[customer.email.lower()]
        theirs = [order for order in self.orders.values() if order.owner is customer]
        until = max([now, *(order.state.created for order in theirs)])
        for order in theirs:
            order.owner, order.erased = None, True
        former = [email for email, whose in self.former.items() if whose is customer]
        for email in (customer.email.lower(), *former):
            self.erased[email] = until
            self.former.pop(email, None)

    def seen(self) -> dict[str, Seen]:
        return {email: self._see(customer) for email, customer in self.customers.items()}

    def _see(self, customer: Customer) -> Seen:
        totals = self.totals(customer)
        hold = customer.hold
        return Seen(
            customer.name.value if customer.name else None,
            customer.phone.value if customer.phone else None,
            customer.notes,
            customer.created,
            tuple(sorted(o.state.order for o in self.orders.values() if o.owner is customer)),
            *totals,
            customer.segment,
            "manual" if hold else "rules",
            bool(hold and hold.pinned),
            hold.until if hold else None,
        )
