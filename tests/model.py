"""The model: the result that a set of order events must have, in any order of arrival.

It is written from the contract alone and shares no code with the service. It reads CloudEvents
documents as publishers write them, and is simple because it has all events at hand.
`Order.counts`, `totals` and `segment` are the tests' only copy of what counts and of the rules.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

Document = dict[str, Any]


@dataclass(frozen=True)
class Rules:
    """The settings, with their defaults."""

    vip_orders: int = 3
    vip_spent: Decimal = Decimal(500)
    at_risk_days: int = 60
    inactive_days: int = 90
    recency_first: bool = True


@dataclass
class Order:
    """An order's newest state, and its owner's e-mail; no owner if no event named a customer."""

    status: str
    payment_status: str | None
    total: Decimal
    refunded: Decimal
    created: datetime
    owner: str | None = None

    @property
    def counts(self) -> bool:
        return self.status not in {"cancelled", "refunded"} and self.payment_status not in {
            "failed",
            "refunded",
        }


class Totals(NamedTuple):
    """The sums over a customer's counted orders."""

    orders: int
    spent: Decimal
    first: datetime | None
    last: datetime | None


def totals(orders: Iterable[Order]) -> Totals:
    """Sum up those of a customer's orders that count."""
    counted = [order for order in orders if order.counts]
    return Totals(
        orders=len(counted),
        spent=sum((order.total - order.refunded for order in counted), Decimal("0.00")),
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
    """Orders by id, customers by e-mail in lower case."""

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
    """Return what valid events end in; ``refs`` has the e-mail of each ``CUST-…`` that exists."""
    rules, refs = rules or Rules(), refs or {}
    events = {document["id"]: document for document in documents}.values()
    result = World()
    by_order, by_email = _grouped(events, refs)
    for order_id, about in by_order.items():
        oldest_first = sorted(about, key=_key)
        data = oldest_first[-1]["data"]
        order = result.orders[order_id] = Order(
            data["status"],
            data.get("paymentStatus"),
            _amount(data["totalAmount"]),
            _amount(data.get("refundedAmount") or 0),
            _time(data["dateCreated"]),
        )
        for event in oldest_first:
            order.owner = _named(event, refs) or order.owner
    owned = defaultdict(list)
    for order in result.orders.values():
        owned[order.owner].append(order)
    for email, naming in by_email.items():
        result.customers[email] = _customer(naming, owned[email], now, rules)
    return result


def _grouped(
    events: Iterable[Document], refs: Mapping[str, str]
) -> tuple[dict[str, list[Document]], dict[str, list[Document]]]:
    """Return the events by order, and by the customer that they name."""
    by_order, by_email = defaultdict(list), defaultdict(list)
    for event in events:
        by_order[event["data"]["id"]].append(event)
        if named := _named(event, refs):
            by_email[named].append(event)
    return by_order, by_email


def _customer(
    naming: Sequence[Document], orders: Sequence[Order], now: datetime, rules: Rules
) -> Customer:
    customer = Customer(min(_time(event["data"]["dateCreated"]) for event in naming))
    for event in sorted(naming, key=lambda event: (_updated(event), event["id"])):
        person = event["data"]["customer"]
        address = {
            part: value.strip()
            for part, value in (event["data"].get("shippingAddress") or {}).items()
            if part in {"street", "city", "state", "zip", "country"} and value and value.strip()
        }
        customer.name = (person.get("name") or "").strip() or customer.name
        customer.phone = (person.get("phone") or "").strip() or customer.phone
        customer.address = address or customer.address
    sums = totals(orders)
    customer.orders, customer.spent, customer.first, customer.last = sums
    customer.segment = segment(sums, now, rules)
    return customer


def _key(event: Document) -> tuple[int, datetime, str]:
    return (event["data"].get("version") or 0, _updated(event), event["id"])


def _updated(event: Document) -> datetime:
    data = event["data"]
    return _time(data.get("dateUpdated") or event.get("time") or data["dateCreated"])


def _named(event: Document, refs: Mapping[str, str]) -> str | None:
    """Return the e-mail of the customer that the event names; None if it names nobody."""
    person = event["data"].get("customer") or {}
    return refs.get(str(person.get("id"))) or (person.get("email") or "").strip().lower() or None


def _amount(written: Any) -> Decimal:
    return Decimal(str(written)).quantize(Decimal("0.01"), ROUND_HALF_UP)


def _time(written: str) -> datetime:
    return datetime.fromisoformat(written)


def settled(outcomes: Iterable[Mapping[Any, int]]) -> Counter[str]:
    """Add up the outcomes that batches counted for their entries."""
    total: Counter[str] = Counter()
    for counted in outcomes:
        total.update({str(outcome): count for outcome, count in counted.items()})
    return total
