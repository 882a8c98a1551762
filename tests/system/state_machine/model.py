"""The service in plain Python, step by step: events, edits, settings and time.

Written from the contract; it shares no code with the service. `tests.model` has the
segment rules, and the result of a set of events in any order. This model adds everything that may
happen between them: edits, holds, erasures, new settings, and days that pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from tests import model

FOREVER = datetime.max.replace(tzinfo=UTC)
"""The time of a value that a person typed: it outranks every event."""


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
    """A customer id, which may be one of ours."""
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
class Register:
    """A profile value and the key it came with."""

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
    """``CUST-…``; None until the service has returned it."""
    email: str
    created: datetime
    name: Register | None = None
    phone: Register | None = None
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
    """The values of a customer that are compared."""

    name: str | None
    phone: str | None
    notes: str
    created: datetime
    orders: tuple[str, ...]
    """All orders, including those that do not count."""
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
    """Customers by e-mail in lower case, and orders by id.

    ``former`` has customers by e-mails that they once had and that nobody has now. ``erased`` has,
    per e-mail of an erased person, the time up to which orders belong to that person.
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

    def apply(self, batch: Sequence[Event], now: datetime) -> None:
        """Apply the events of one batch."""
        named: dict[Customer, list[Event]] = {}
        refs = {customer.ref: customer for customer in self.customers.values() if customer.ref}
        for event in batch:
            order = self.orders.setdefault(event.order, Order(event))
            order.state = max(order.state, event, key=lambda each: each.key)
            customer = self._named(event, refs)
            if customer is not None:
                named.setdefault(customer, []).append(event)
                if order.named is None or event.key > order.named:
                    order.named, order.owner = event.key, customer
            elif event.ref not in refs and event.email:
                order.erased = True
        for customer, events in named.items():
            for event in events:
                self._update_profile(customer, event)
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

    def _update_profile(self, customer: Customer, event: Event) -> None:
        customer.created = min(customer.created, event.created)
        for attribute in ("name", "phone"):
            value = getattr(event, attribute)
            before = getattr(customer, attribute)
            key = (event.at, event.id)
            if value and (before is None or key > (before.at, before.event_id)):
                setattr(customer, attribute, Register(value, *key))

    def settle(self, now: datetime) -> None:
        """Set every customer's segment, as of this moment."""
        for customer in self.customers.values():
            if customer.hold and customer.hold.until and customer.hold.until <= now:
                customer.hold = None
            if customer.hold is None and self.settings["autoSegmentation"]:
                customer.segment = model.segment(
                    self.totals(customer), now, rules_of(self.settings)
                )

    def create(self, ref: str, body: Mapping[str, Any], now: datetime) -> None:
        """Apply a POST that was accepted."""
        customer = Customer(ref, body["email"], now)
        customer.name = Register(body["name"], FOREVER)
        customer.phone = Register(body["phone"], FOREVER) if "phone" in body else None
        self.customers[customer.email.lower()] = customer
        self.former.pop(customer.email.lower(), None)
        rest = {name: value for name, value in body.items() if name not in {"name", "email"}}
        self.edit(customer, rest, now)

    def edit(self, customer: Customer, body: Mapping[str, Any], now: datetime) -> None:
        """Apply a PATCH that was accepted."""
        if "email" in body:
            self._rename(customer, body["email"])
        for attribute in ("name", "phone"):
            before = getattr(customer, attribute)
            # A form sends every field. A value that did not change was not typed.
            if attribute in body and body[attribute] != (before and before.value):
                setattr(customer, attribute, Register(body[attribute], FOREVER))
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
        # A publisher's clock may run ahead: an order that is already known is no next order.
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
        """Erase the customer under every e-mail they had, unless somebody else has it now."""
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
