"""The model: the result that a set of order events must have, in any order of arrival.

It is written from the contract alone and shares no code with the service. It reads CloudEvents
documents as publishers write them, and is simple because it has all events at hand.
`Order.not_counted`, `totals` and `segment` are the tests' only copy of the rules.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

Document = dict[str, Any]
STORE_CURRENCY = "USD"


@dataclass(frozen=True)
class Rules:
    """The settings, with their defaults."""

    vip_orders: int = 3
    vip_spent: Decimal = Decimal(500)
    at_risk_days: int = 60
    inactive_days: int = 90
    recency_first: bool = True
    paid_only: bool = False
    free_orders: bool = True


USUAL = Rules()


@dataclass
class Order:
    """An order's newest state, and its owner; no owner if no event named a customer."""

    status: str
    payment_status: str | None
    total: Decimal
    refunded: Decimal
    created: datetime
    owner: str | None = None
    currency: str | None = None
    """None: the store's."""
    rate: Decimal | None = None
    """The store's currency per unit of the order's."""
    flags: list[str] = field(default_factory=list)
    contradicted_by: set[str] = field(default_factory=set)
    """Events of the same version and times that say something else; of each other content, one."""

    def counts(self, rules: Rules = USUAL) -> bool:
        return self.not_counted(rules) is None

    def not_counted(self, rules: Rules) -> str | None:
        """Return the first reason why the order does not count; None if it does."""
        says_refunded = "refunded" in {self.status, self.payment_status}
        nothing_left = self.total > 0 and self.refunded >= self.total
        paid = {"paid", "partially_refunded", "refunded"}
        reasons = {
            "cancelled": self.status == "cancelled",
            "payment_failed": self.payment_status == "failed",
            "refunded_in_full": nothing_left
            or (says_refunded and (self.total == 0 or self.refunded == 0)),
            "unpaid": rules.paid_only and self.payment_status not in paid,
            "free": self.total == 0 and not rules.free_orders,
        }
        return next((reason for reason, holds in reasons.items() if holds), None)

    @property
    def net(self) -> Decimal:
        """The money that the order adds if it counts, in the store's currency."""
        kept = self.total - min(self.refunded, self.total)
        if self.currency is None:
            return kept
        return _cents(kept * self.rate) if self.rate is not None else Decimal("0.00")


class Totals(NamedTuple):
    """The sums over a customer's counted orders."""

    orders: int
    spent: Decimal
    first: datetime | None
    last: datetime | None


def totals(orders: Iterable[Order], rules: Rules) -> Totals:
    """Sum up those of a customer's orders that count."""
    counted = [order for order in orders if order.counts(rules)]
    return Totals(
        orders=len(counted),
        spent=sum((order.net for order in counted), Decimal("0.00")),
        first=min((order.created for order in counted), default=None),
        last=max((order.created for order in counted), default=None),
    )


def segment(customer: Totals, now: datetime, rules: Rules) -> str:
    """Return the segment that the rules put a customer with these totals in."""

    def no_order_for(days: int) -> bool:
        return customer.last is not None and now - customer.last >= timedelta(days=days)

    holds = {
        "inactive": no_order_for(rules.inactive_days),
        "at_risk": no_order_for(rules.at_risk_days),
        "vip": customer.orders >= rules.vip_orders or customer.spent >= rules.vip_spent,
        "new": customer.orders <= 1,
        "returning": True,
    }
    precedence = (
        ("inactive", "at_risk", "vip", "new", "returning")
        if rules.recency_first
        else ("new", "vip", "inactive", "at_risk", "returning")
    )
    return next(name for name in precedence if holds[name])


@dataclass
class Customer:
    """A customer; money in dollars and cents."""

    created: datetime
    email: str | None = None
    name: str | None = None
    phone: str | None = None
    address: dict[str, str] | None = None
    orders: int = 0
    spent: Decimal = Decimal("0.00")
    first: datetime | None = None
    last: datetime | None = None
    segment: str = ""


@dataclass
class World:
    """Orders by id, customers by the least of their identifiers."""

    orders: dict[str, Order] = field(default_factory=dict)
    customers: dict[str, Customer] = field(default_factory=dict)

    @property
    def figures(self) -> dict[str, tuple[int, Decimal, int, int]]:
        """Per segment: customers, sum spent, customers with an order, customers with two."""
        by_segment: dict[str, tuple[int, Decimal, int, int]] = {}
        for customer in self.customers.values():
            count, spent, one, two = by_segment.get(customer.segment, (0, Decimal(0), 0, 0))
            by_segment[customer.segment] = (
                count + 1,
                spent + customer.spent,
                one + (customer.orders >= 1),
                two + (customer.orders >= 2),
            )
        return by_segment


def world(
    documents: Iterable[Document],
    now: datetime,
    rules: Rules | None = None,
    refs: Mapping[str, str] | None = None,
) -> World:
    """Return what valid events end in; ``refs`` has an identifier of each ``CUST-…`` that exists.

    Whoever is due to be merged is merged.
    """
    rules, refs = rules or Rules(), refs or {}
    events = list({document["id"]: document for document in documents}.values())
    people = People(_named(event, refs) for event in events)
    result = World()
    by_order, by_customer = defaultdict(list), defaultdict(list)
    for event in events:
        by_order[event["data"]["id"]].append(event)
        if named := _named(event, refs):
            by_customer[people.of(named[0])].append(event)
    for order_id, about in by_order.items():
        oldest_first = sorted(about, key=_key)
        order = result.orders[order_id] = _state(oldest_first[-1])
        _mark(order, oldest_first)
        for event in oldest_first:
            named = _named(event, refs)
            order.owner = people.of(named[0]) if named else order.owner
    owned = defaultdict(list)
    for order in result.orders.values():
        owned[order.owner].append(order)
    for person, naming in by_customer.items():
        result.customers[person] = _customer(naming, owned[person], now, rules)
    for event in sorted(events, key=_profile_key):
        email = f"email:{_email(event)}"
        if email in _named(event, refs) and not _is_ours(event, refs):
            result.customers[people.of(email)].email = _email(event)
    return result


def _state(event: Document) -> Order:
    """Return the order that an event tells of, without its owner."""
    data = event["data"]
    currency = (data.get("currency") or STORE_CURRENCY).strip().upper()
    rate = data.get("exchangeRate")
    others = currency != STORE_CURRENCY
    return Order(
        data["status"],
        data.get("paymentStatus"),
        _cents(Decimal(str(data["totalAmount"]))),
        _cents(Decimal(str(data.get("refundedAmount") or 0))),
        _time(data["dateCreated"]),
        currency=currency if others else None,
        rate=Decimal(str(rate)) if others and rate is not None else None,
    )


def _mark(order: Order, oldest_first: Sequence[Document]) -> None:
    """Write on an order how its events do not fit together."""
    plain, newest = _state(oldest_first[-1]), oldest_first[-1]
    others = {
        repr(_state(event)): event["id"]  # of the same content, the greatest id
        for event in oldest_first
        if _key(event)[:3] == _key(newest)[:3] and _state(event) != plain
    }
    order.contradicted_by = set(others.values())
    flags = {
        "refund_exceeds_total": order.refunded > order.total,
        "refund_fell": any(_state(event).refunded > order.refunded for event in oldest_first),
        "conflict": bool(others),
    }
    order.flags = [flag for flag, holds in flags.items() if holds]


class People:
    """The connected components of identifiers."""

    def __init__(self, put_together: Iterable[Sequence[str]]) -> None:
        """Join what each event puts together."""
        self._parents: dict[str, str] = {}
        for identifiers in put_together:
            for identifier in identifiers:
                low, high = sorted((self.of(identifiers[0]), self.of(identifier)))
                self._parents[high] = low

    def of(self, identifier: str) -> str:
        """Return the least identifier of a person."""
        while (parent := self._parents.get(identifier, identifier)) != identifier:
            identifier = parent
        return identifier


def _customer(
    naming: Sequence[Document], orders: Sequence[Order], now: datetime, rules: Rules
) -> Customer:
    customer = Customer(min(_time(event["data"]["dateCreated"]) for event in naming))
    for event in sorted(naming, key=_profile_key):
        person = event["data"]["customer"]
        address = {
            part: value.strip()
            for part, value in (event["data"].get("shippingAddress") or {}).items()
            if part in {"street", "city", "state", "zip", "country"} and value and value.strip()
        }
        customer.name = (person.get("name") or "").strip() or customer.name
        customer.phone = (person.get("phone") or "").strip() or customer.phone
        customer.address = address or customer.address
    sums = totals(orders, rules)
    customer.orders, customer.spent, customer.first, customer.last = sums
    customer.segment = segment(sums, now, rules)
    return customer


def _key(event: Document) -> tuple[int, datetime, datetime, str]:
    updated = _updated(event)
    sent = _time(event["time"]) if event.get("time") else updated
    return (event["data"].get("version") or 0, updated, sent, event["id"])


def _updated(event: Document) -> datetime:
    data = event["data"]
    return _time(data.get("dateUpdated") or event.get("time") or data["dateCreated"])


def _profile_key(event: Document) -> tuple[datetime, str]:
    return (_updated(event), event["id"])


def _is_ours(event: Document, refs: Mapping[str, str]) -> bool:
    return str((event["data"].get("customer") or {}).get("id")) in refs


def _email(event: Document) -> str:
    person = event["data"].get("customer") or {}
    return (person.get("email") or "").strip().lower()


def _named(event: Document, refs: Mapping[str, str]) -> list[str]:
    """Return the identifiers in an event, in the order in which they name a customer."""
    person = event["data"].get("customer") or {}
    reference = str(person.get("id") or "").strip()
    if reference in refs:
        return [refs[reference]]
    identifiers = []
    if reference not in {"", "0"} and not re.fullmatch(r"CUST-\d+", reference):
        identifiers.append(f"external:{event['source']}#{reference}")
    if email := _email(event):
        identifiers.append(f"email:{email}")
    return identifiers


def _cents(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.01"), ROUND_HALF_UP)


def _time(written: str) -> datetime:
    return datetime.fromisoformat(written)


def settled(outcomes: Iterable[Mapping[Any, int]]) -> Counter[str]:
    """Add up the outcomes that batches counted for their entries."""
    total: Counter[str] = Counter()
    for counted in outcomes:
        total.update({str(outcome): count for outcome, count in counted.items()})
    return total
