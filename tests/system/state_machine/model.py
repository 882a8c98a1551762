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


def email(written: str) -> str:
    """Return the identifier of an e-mail."""
    return f"email:{written.lower()}"


def external(id_: str) -> str:
    """Return the identifier of a customer in the shop's own system."""
    return f"external:/order-management#{id_}"


def _is_ours(identifier: str) -> bool:
    return identifier.startswith("CUST-")


@dataclass(frozen=True)
class Event:
    """One state of one order, as published."""

    id: str
    order: str
    version: int
    at: datetime
    created: datetime
    status: str
    payment: str | None
    total: Decimal
    refunded: Decimal
    currency: str | None
    """None: the store's."""
    rate: Decimal | None
    ref: str | None
    """The customer's id: one of ours, or the shop's own."""
    email: str | None
    name: str | None
    phone: str | None

    @property
    def identifiers(self) -> tuple[str, ...]:
        """What names the customer, in this order: one of our ids, ``external:…``, ``email:…``."""
        ref = self.ref if self.ref is None or _is_ours(self.ref) else external(self.ref)
        return tuple(filter(None, (ref, self.email and email(self.email))))

    @property
    def key(self) -> Key:
        return Key(self.version, self.at, self.id)

    @property
    def as_order(self) -> model.Order:
        return model.Order(
            self.status,
            self.payment,
            self.total,
            self.refunded,
            self.created,
            currency=self.currency,
            rate=self.rate,
        )


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
    own: dict[str, int] = field(default_factory=dict)
    """The values of own fields, by key."""
    segment: str = "new"
    hold: Hold | None = None

    @property
    def key(self) -> str:
        """The e-mail in lower case, or the id of a customer without one."""
        return (self.email.value or "").lower() if self.email else self.ref or ""

    @property
    def number(self) -> int:
        """The number in ``CUST-…``. Of two customers who are merged, the lower one stays."""
        assert self.ref
        return int(self.ref.removeprefix("CUST-"))


@dataclass(eq=False)
class Order:
    state: Event
    by: tuple[str, ...] = ()
    """What named its owner: the first identifier that means somebody."""
    named: Key | None = None
    erased: bool = False


DEFAULTS: dict[str, Any] = {
    "vipOrderCount": 3,
    "vipTotalSpent": 500,
    "atRiskDays": 60,
    "inactiveDays": 90,
    "autoSegmentation": True,
    "precedence": "recency_first",
    "countFrom": "placed",
    "countFreeOrders": True,
}


def rules_of(settings: Mapping[str, Any]) -> model.Rules:
    """Return the settings in the words of `tests.model`."""
    return model.Rules(
        vip_orders=settings["vipOrderCount"],
        vip_spent=Decimal(settings["vipTotalSpent"]),
        at_risk_days=settings["atRiskDays"],
        inactive_days=settings["inactiveDays"],
        recency_first=settings["precedence"] == "recency_first",
        paid_only=settings["countFrom"] == "paid",
        free_orders=settings["countFreeOrders"],
    )


class Seen(NamedTuple):
    """The values of a customer that are compared."""

    name: str | None
    phone: str | None
    notes: str
    own: Mapping[str, int]
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


@dataclass(frozen=True)
class Profile:
    """What a merge keeps of one of the two customers, so that a split can give it back."""

    name: Register | None
    phone: Register | None
    notes: str
    own: Mapping[str, int]

    @classmethod
    def of(cls, customer: Customer) -> "Profile":
        """Copy the profile of a customer."""
        return cls(customer.name, customer.phone, customer.notes, dict(customer.own))


NOTHING = Profile(None, None, "", {})


@dataclass(frozen=True)
class Kept:
    """The profiles before a merge; None if an erasure has removed one of them."""

    gone: Profile | None
    stayed: Profile | None


Pair = frozenset[Customer]


@dataclass
class World:
    """Customers, what means them, and orders by id.

    An identifier is ``email:…`` with the e-mail in lower case, ``external:…``, or a customer id.
    """

    customers: list[Customer] = field(default_factory=list)
    known: dict[str, Customer | None] = field(default_factory=dict)
    """Whom each e-mail and external id means, the oldest first; None: it was marked as no person.
    """
    merged: dict[str, Customer] = field(default_factory=dict)
    """Whom the ids of merged customers mean, the latest merge last."""
    kept: dict[str, Kept] = field(default_factory=dict)
    """By the ids of merged customers, the latest merge last."""
    due: set[Pair] = field(default_factory=set)
    """Customers whom an event put together, until they are merged."""
    separated: set[Pair] = field(default_factory=set)
    """Customers who are two people, whatever events say."""
    orders: dict[str, Order] = field(default_factory=dict)
    erased: dict[str, datetime] = field(default_factory=dict)
    """The time up to which orders with an identifier belong to a person who was erased."""
    settings: dict[str, Any] = field(default_factory=lambda: dict(DEFAULTS))

    def means(self, identifier: str) -> Customer | None:
        """Return whom an identifier means; None if nobody."""
        own = (customer for customer in self.customers if customer.ref == identifier)
        return next(own, None) or self.merged.get(identifier) or self.known.get(identifier)

    def whose(self, order: Order) -> Customer | None:
        """Return whose an order is; None if nobody's."""
        return next(filter(None, map(self.means, order.by)), None)

    def identifiers(self, customer: Customer) -> list[str]:
        """Return what means a customer, then the ids of merged ones."""
        return [
            identifier
            for table in (self.known, self.merged)
            for identifier, whose in table.items()
            if whose is customer
        ]

    def orders_of(self, customer: Customer) -> list[Order]:
        return [order for order in self.orders.values() if self.whose(order) is customer]

    def totals(self, customer: Customer) -> model.Totals:
        orders = (order.state.as_order for order in self.orders_of(customer))
        return model.totals(orders, rules_of(self.settings))

    def apply(self, batch: Sequence[Event], now: datetime) -> None:
        """Apply the events of one batch. Whom they put together is merged by `merge_due`."""
        named: dict[Customer, list[Event]] = {}
        self._give_new_identifiers(batch)
        for event in batch:
            order = self.orders.setdefault(event.order, Order(event))
            order.state = max(order.state, event, key=lambda each: each.key)
            naming = self._naming(event)
            if naming and (order.named is None or event.key > order.named):
                order.named, order.by = event.key, naming
            if not naming and len(self._live(event)) < len(event.identifiers):
                order.erased = True
            if means := [each for each in naming if self.means(each)]:
                owner = self._meant(means[0])
                named.setdefault(owner, []).append(event)
                if means[-1] in self.known:
                    self._put_together(owner, self._meant(means[-1]))
                    self._update_email(means[-1], event)
        for customer, events in named.items():
            for event in events:
                self._update_profile(customer, event)
            newest = max(event.created for event in events)
            self._end_hold(customer, newest)
        self.settle(now)

    def _give_new_identifiers(self, batch: Sequence[Event]) -> None:
        """Give the identifiers that nobody has to whom events put them with, or to new customers.

        An event joins what it puts together, unless two customers would meet: these are merged
        later.
        """
        groups: list[set[str | Customer]] = []
        dates: dict[str, list[datetime]] = {}
        for event in batch:
            naming = [each for each in self._naming(event) if self.known.get(each, event)]
            if not any(map(_is_ours, naming)):
                _join(groups, [self.known.get(each) or each for each in naming])
            for each in naming:
                dates.setdefault(each, []).append(event.created)
        given: dict[str, Customer] = {}
        for group in groups:
            new = sorted(each for each in group if isinstance(each, str))
            owner = next((each for each in group if isinstance(each, Customer)), None)
            if new and owner is None:
                owner = Customer(None, min(at for each in new for at in dates[each]))
                self.customers.append(owner)
            given |= {each: owner for each in new if owner}
        self.known |= {each: given[each] for each in sorted(given)}
        for customer in dict.fromkeys(given.values()):
            if customer.ref is None:
                self._keep_own_email(customer)

    def _put_together(self, one: Customer, other: Customer) -> None:
        pair = frozenset((one, other))
        if one is not other and pair not in self.separated:
            self.due.add(pair)

    def merge_due(self, now: datetime) -> None:
        """Merge whom events put together."""
        while self.due:
            low, high = min((sorted(pair, key=_number) for pair in self.due), key=_numbers)
            self.merge(low, high, now)

    def _end_hold(self, customer: Customer, newest: datetime) -> None:
        hold = customer.hold
        if hold and not hold.pinned and hold.until is None and newest > hold.since:
            customer.hold = None

    def _live(self, event: Event) -> tuple[str, ...]:
        """Return the identifiers of an event, without those of erased people."""
        return tuple(
            each
            for each in event.identifiers
            if not (each in self.erased and event.created <= self.erased[each])
        )

    def _naming(self, event: Event) -> tuple[str, ...]:
        """Return what an order keeps of an event's identifiers. One of our ids stands alone."""
        live = self._live(event)
        whole = len(live) == len(event.identifiers)
        if live and _is_ours(live[0]):
            if self.means(live[0]):
                return live[:1]
            live = live[1:]
        names = any(self.known.get(each, event) for each in live)
        return live if names or whole else ()

    def _meant(self, identifier: str) -> Customer:
        customer = self.means(identifier)
        assert customer
        return customer

    def _update_email(self, identifier: str, event: Event) -> None:
        if identifier.startswith("email:"):
            value = identifier.removeprefix("email:")
            self._update(self._meant(identifier), "email", value, event)

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
        self.customers.append(customer)
        self.known[email(body["email"])] = customer
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
            self.known.setdefault(email(body["email"]), customer)
        customer.notes = body.get("notes", customer.notes)
        own = {**customer.own, **body.get("fields", {})}
        customer.own = {key: value for key, value in own.items() if value is not None}
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
            self.known.pop(identifier, None)
            self.merged.pop(identifier, None)
            for order in self.orders.values():
                order.by = tuple(each for each in order.by if each != identifier)
        for order in theirs:
            order.by, order.erased = (), True
        self._remove(customer)

    def _remove(self, customer: Customer) -> None:
        self.customers.remove(customer)
        self.due = {pair for pair in self.due if customer not in pair}
        self.separated = {pair for pair in self.separated if customer not in pair}

    def merge(self, low: Customer, high: Customer, now: datetime) -> None:
        """Merge two customers; ``low`` has the lower number and stays."""
        for table in (self.known, self.merged):
            for identifier, whose in table.items():
                if whose is high:
                    table[identifier] = low
        separated = _of_one(self.separated, high, low)
        due = _of_one(self.due, high, low) - separated
        self._remove(high)
        self.due, self.separated = due, separated
        self.merged[high.ref or ""] = low
        self.kept.pop(high.ref or "", None)
        self.kept[high.ref or ""] = Kept(Profile.of(high), Profile.of(low))
        for name in ("email", "name", "phone"):
            mine, other = getattr(low, name), getattr(high, name)
            if other and other.at and (mine is None or mine.loses_to(other.at, other.event_id)):
                setattr(low, name, other)
        if low.notes != high.notes:
            low.notes = "\n\n".join(filter(None, (low.notes, high.notes)))
        low.own = {**high.own, **low.own}
        if high.hold and (low.hold is None or high.hold.since > low.hold.since):
            low.hold, low.segment = high.hold, high.segment
        low.created = min(low.created, high.created)
        self._keep_own_email(low)
        self._recount(low, now)

    def split(
        self, customer: Customer, taken: Sequence[str], ref: str, created: datetime, now: datetime
    ) -> None:
        """Make another customer of some identifiers, created when its first order was."""
        new = Customer(ref, created)
        self.customers.append(new)
        for identifier in taken:
            table = self.merged if _is_ours(identifier) else self.known
            table[identifier] = new
        self._give_back(customer, new, taken)
        self.separated |= {frozenset((customer, new))} | {
            pair - {customer} | {new} for pair in self.separated if customer in pair
        }
        for each in (customer, new):
            self._keep_own_email(each)
            self._recount(each, now)

    def _give_back(self, old: Customer, new: Customer, taken: Sequence[str]) -> None:
        """Give both what they were before the last merge with one of the ids that are taken."""
        kept = next((self.kept[ref] for ref in reversed(self.kept) if ref in taken), None)
        if kept is None or kept.gone is None:
            return
        stayed = kept.stayed or NOTHING
        new.name, new.phone, new.notes = kept.gone.name, kept.gone.phone, kept.gone.notes
        for name in ("name", "phone"):
            if getattr(old, name) == getattr(kept.gone, name):
                setattr(old, name, getattr(stayed, name))
        new.own = dict(kept.gone.own)
        old.own = {
            key: value
            for key, value in old.own.items()
            if key in stayed.own or kept.gone.own.get(key) != value
        }

    def mark(self, identifier: str, now: datetime) -> None:
        """Mark an identifier as no person. A customer of whom nothing else is known is gone."""
        owner = self.known.pop(identifier, None)
        before = {order.state.order: self.whose(order) for order in self.orders.values()}
        self.known[identifier] = None
        if owner is None:
            return
        self._keep_own_email(owner)
        typed = owner.notes or owner.own or (owner.name and owner.name.at == FOREVER)
        if not (typed or self.identifiers(owner) or self.orders_of(owner)):
            self._remove(owner)
        for customer in self.customers:
            if customer is owner or any(
                before[order.state.order] is not customer for order in self.orders_of(customer)
            ):
                self._recount(customer, now)

    def unmark(self, identifier: str, ref: str | None, now: datetime) -> None:
        """Take a mark away. ``ref`` is the customer's who has the identifier from now on.

        It is a new one's, unless its orders have another identifier that means somebody.
        """
        del self.known[identifier]
        orders = [order for order in self.orders.values() if identifier in order.by]
        if not orders:
            assert ref is None
            return
        owners = dict.fromkeys(filter(None, map(self.whose, orders)))
        customer = min(owners, key=_number, default=None)
        if customer is None:
            customer = Customer(ref, min(order.state.created for order in orders))
            self.customers.append(customer)
        assert customer.ref == ref
        self.known[identifier] = customer
        self._keep_own_email(customer)
        for each in {customer: None, **owners}:
            self._put_together(customer, each)
            self._recount(each, now)

    def _keep_own_email(self, customer: Customer) -> None:
        emails = [
            each.removeprefix("email:")
            for each, whose in self.known.items()
            if whose is customer and each.startswith("email:")
        ]
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
            customer.own,
            customer.created,
            tuple(sorted(order.state.order for order in self.orders_of(customer))),
            *totals,
            customer.segment,
            "manual" if hold else "rules",
            bool(hold and hold.pinned),
            hold.until if hold else None,
        )


def _join(groups: list[set[str | Customer]], together: Sequence[str | Customer]) -> None:
    """Join the groups of what one event puts together, if no two customers meet there."""
    found = [group for group in groups if not group.isdisjoint(together)]
    joined = set(together).union(*found)
    if sum(isinstance(each, Customer) for each in joined) > 1:
        for each in together:
            _join(groups, [each])
        return
    groups[:] = [group for group in groups if group not in found]
    if joined:
        groups.append(joined)


def _of_one(pairs: set[Pair], gone: Customer, stays: Customer) -> set[Pair]:
    """Return the pairs after a merge."""
    moved = {frozenset(stays if each is gone else each for each in pair) for pair in pairs}
    return {pair for pair in moved if len(pair) > 1}


def _number(customer: Customer) -> int:
    return customer.number


def _numbers(pair: Sequence[Customer]) -> list[int]:
    return [customer.number for customer in pair]
