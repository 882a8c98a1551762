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
    at: datetime | None
    """None: whatever comes next replaces it."""
    event_id: str = ""

    def loses_to(self, at: datetime, event_id: str) -> bool:
        return self.at is None or (at, event_id) > (self.at, self.event_id)


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
    created: datetime
    email: Register | None = None
    name: Register | None = None
    phone: Register | None = None
    notes: str = ""
    segment: str = "new"
    hold: Hold | None = None

    @property
    def key(self) -> str:
        """The e-mail in lower case, or the id of a customer without one."""
        return (self.email.value or "").lower() if self.email else self.ref or ""


@dataclass(eq=False)
class Order:
    state: Event
    by: str | None = None
    """The e-mail or customer id that named its owner."""
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
    """Customers, what means them, and orders by id.

    An identifier is an e-mail in lower case or a customer id.
    """

    customers: list[Customer] = field(default_factory=list)
    emails: dict[str, Customer | None] = field(default_factory=dict)
    """Whom each e-mail means, the oldest first; None: it was marked as no person."""
    merged: dict[str, Customer] = field(default_factory=dict)
    """Whom the ids of merged customers mean, the latest merge last."""
    orders: dict[str, Order] = field(default_factory=dict)
    erased: dict[str, datetime] = field(default_factory=dict)
    """The time up to which orders with an identifier belong to a person who was erased."""
    settings: dict[str, Any] = field(default_factory=lambda: dict(DEFAULTS))

    def whose(self, identifier: str | None) -> Customer | None:
        """Return whom an identifier means; None if nobody."""
        own = (customer for customer in self.customers if identifier and customer.ref == identifier)
        return (
            next(own, None)
            or self.merged.get(identifier or "")
            or self.emails.get(identifier or "")
        )

    def identifiers(self, customer: Customer) -> list[str]:
        """Return the e-mails that mean a customer, then the ids of merged ones."""
        return [
            identifier
            for table in (self.emails, self.merged)
            for identifier, whose in table.items()
            if whose is customer
        ]

    def orders_of(self, customer: Customer) -> list[Order]:
        return [order for order in self.orders.values() if self.whose(order.by) is customer]

    def totals(self, customer: Customer) -> model.Totals:
        return model.totals(order.state.as_order for order in self.orders_of(customer))

    def apply(self, batch: Sequence[Event], now: datetime) -> None:
        """Apply the events of one batch."""
        named: dict[Customer, list[Event]] = {}
        self._create_missing(batch)
        for event in batch:
            order = self.orders.setdefault(event.order, Order(event))
            order.state = max(order.state, event, key=lambda each: each.key)
            by, names_erased = self._named(event)
            if by is None:
                order.erased = order.erased or names_erased
                continue
            if customer := self.whose(by):
                named.setdefault(customer, []).append(event)
                if by in self.emails:
                    self._update(customer, "email", by, event)
            if order.named is None or event.key > order.named:
                order.named, order.by = event.key, by
        for customer, events in named.items():
            for event in events:
                self._update_profile(customer, event)
            newest = max(event.created for event in events)
            self._end_hold(customer, newest)
        self.settle(now)

    def _create_missing(self, batch: Sequence[Event]) -> None:
        new: dict[str, datetime] = {}
        for event in batch:
            if email := self._creates(event):
                new[email] = min(event.created, new.get(email, event.created))
        for email in sorted(new):
            self._add(email, Customer(None, new[email]))

    def _end_hold(self, customer: Customer, newest: datetime) -> None:
        hold = customer.hold
        if hold and not hold.pinned and hold.until is None and newest > hold.since:
            customer.hold = None

    def _live(self, event: Event) -> list[str]:
        """Return the identifiers of an event, without those of erased people."""
        given = [event.ref, event.email.lower() if event.email else None]
        return [
            each
            for each in given
            if each and not (each in self.erased and event.created <= self.erased[each])
        ]

    def _creates(self, event: Event) -> str | None:
        """Return the e-mail by which an event creates a customer; None if it does not."""
        live = self._live(event)
        if event.ref in live and self.whose(event.ref):
            return None
        email = event.email.lower() if event.email else None
        return email if email in live and email not in self.emails else None

    def _named(self, event: Event) -> tuple[str | None, bool]:
        """Return by what an event names its customer, and whether it names an erased person."""
        live = self._live(event)
        erased = len(live) < sum(each is not None for each in (event.ref, event.email))
        for identifier in live:
            if self.whose(identifier):
                return identifier, False
        if erased:
            return None, True
        return next((each for each in live if each in self.emails), None), False

    def _add(self, email: str, customer: Customer) -> None:
        self.emails[email] = customer
        if customer not in self.customers:
            self.customers.append(customer)
            customer.email = Register(email, None)

    def _update(self, customer: Customer, attribute: str, value: str, event: Event) -> None:
        before = getattr(customer, attribute)
        if before is None or before.loses_to(event.at, event.id):
            setattr(customer, attribute, Register(value, event.at, event.id))

    def _update_profile(self, customer: Customer, event: Event) -> None:
        customer.created = min(customer.created, event.created)
        for attribute in ("name", "phone"):
            if value := getattr(event, attribute):
                self._update(customer, attribute, value, event)

    def settle(self, now: datetime) -> None:
        """Set every customer's segment, as of this moment."""
        for customer in self.customers:
            if customer.hold and customer.hold.until and customer.hold.until <= now:
                customer.hold = None
            if customer.hold is None and self.settings["autoSegmentation"]:
                customer.segment = model.segment(
                    self.totals(customer), now, rules_of(self.settings)
                )

    def create(self, ref: str, body: Mapping[str, Any], now: datetime) -> None:
        """Apply a POST that was accepted."""
        customer = Customer(ref, now)
        self._add(body["email"].lower(), customer)
        customer.email = Register(body["email"], FOREVER)
        customer.name = Register(body["name"], FOREVER)
        customer.phone = Register(body["phone"], FOREVER) if "phone" in body else None
        rest = {name: value for name, value in body.items() if name not in {"name", "email"}}
        self.edit(customer, rest, now)

    def edit(self, customer: Customer, body: Mapping[str, Any], now: datetime) -> None:
        """Apply a PATCH that was accepted."""
        for attribute in ("email", "name", "phone"):
            before = getattr(customer, attribute)
            # A form sends every field. A value that did not change was not typed.
            if attribute in body and body[attribute] != (before and before.value):
                setattr(customer, attribute, Register(body[attribute], FOREVER))
        if "email" in body:
            self.emails.setdefault(body["email"].lower(), customer)
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
        known = (order.state.created for order in self.orders_of(customer))
        customer.hold = Hold(max([now, *known]), pinned, until)
        customer.segment = segment or customer.segment

    def erase(self, customer: Customer, now: datetime) -> None:
        """Erase the customer under everything that means them."""
        theirs = self.orders_of(customer)
        until = max([now, *(order.state.created for order in theirs)])
        for identifier in [*self.identifiers(customer), customer.ref or ""]:
            self.erased[identifier] = until
            self.emails.pop(identifier, None)
            self.merged.pop(identifier, None)
        for order in theirs:
            order.by, order.erased = None, True
        self.customers.remove(customer)

    def merge(self, low: Customer, high: Customer, now: datetime) -> None:
        """Merge two customers; ``low`` has the lower number and stays."""
        for table in (self.emails, self.merged):
            for identifier, whose in table.items():
                if whose is high:
                    table[identifier] = low
        self.customers.remove(high)
        self.merged.pop(high.ref or "", None)
        self.merged[high.ref or ""] = low
        for name in ("email", "name", "phone"):
            mine, other = getattr(low, name), getattr(high, name)
            if other and other.at and (mine is None or mine.loses_to(other.at, other.event_id)):
                setattr(low, name, other)
        if low.notes != high.notes:
            low.notes = "\n\n".join(filter(None, (low.notes, high.notes)))
        if high.hold and (low.hold is None or high.hold.since > low.hold.since):
            low.hold, low.segment = high.hold, high.segment
        low.created = min(low.created, high.created)
        self._recount(low, now)

    def split(
        self, customer: Customer, taken: Sequence[str], ref: str, created: datetime, now: datetime
    ) -> None:
        """Make another customer of some e-mails, created when its first order was."""
        new = Customer(ref, created)
        self.customers.append(new)
        for email in taken:
            self.emails[email] = new
        for each in (customer, new):
            self._keep_own_email(each)
            self._recount(each, now)

    def mark(self, email: str, now: datetime) -> None:
        """Mark an e-mail as no person. A customer of whom nothing else is known is gone."""
        owner = self.emails.pop(email, None)
        self.emails[email] = None
        if owner is None:
            return
        self._keep_own_email(owner)
        typed = owner.notes or (owner.name and owner.name.at == FOREVER)
        if typed or self.identifiers(owner) or self.orders_of(owner):
            self._recount(owner, now)
        else:
            self.customers.remove(owner)

    def unmark(self, email: str, ref: str | None, now: datetime) -> None:
        """Take a mark away. ``ref`` is the new customer's, who has the orders."""
        del self.emails[email]
        if ref is None:
            return
        orders = [order for order in self.orders.values() if order.by == email]
        customer = Customer(ref, min(order.state.created for order in orders))
        self._add(email, customer)
        self._recount(customer, now)

    def _keep_own_email(self, customer: Customer) -> None:
        emails = [email for email, whose in self.emails.items() if whose is customer]
        if customer.email is None or customer.key not in emails:
            customer.email = Register(emails[0], None) if emails else None

    def _recount(self, customer: Customer, now: datetime) -> None:
        orders = self.orders_of(customer)
        first = self.totals(customer).first
        customer.created = min(customer.created, first or customer.created)
        if orders:
            self._end_hold(customer, max(order.state.created for order in orders))
        self.settle(now)

    def seen(self) -> dict[str, Seen]:
        return {customer.key: self._see(customer) for customer in self.customers}

    def _see(self, customer: Customer) -> Seen:
        totals = self.totals(customer)
        hold = customer.hold
        return Seen(
            customer.name.value if customer.name else None,
            customer.phone.value if customer.phone else None,
            customer.notes,
            customer.created,
            tuple(sorted(order.state.order for order in self.orders_of(customer))),
            *totals,
            customer.segment,
            "manual" if hold else "rules",
            bool(hold and hold.pinned),
            hold.until if hold else None,
        )
