"""Fold a batch: one newest state per order, one profile per customer, an outcome per event.

Every fact is a register: the value with the greatest key stays, whatever the order of arrival.
Folding is therefore the same operation here, within a batch, as in Postgres, against what is
already stored; doing it here first means that a statement touches each row once.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from service.core.order_event import EventCustomer, EventKey, OrderEvent


class Outcome(StrEnum):
    """What became of an entry. Each has exactly one of these, but for CONFLICT, which is extra."""

    APPLIED = "applied"
    STALE = "stale"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    DEAD_LETTERED = "dead_lettered"


@dataclass(frozen=True, slots=True)
class OrderChange:
    """The events of one order in a batch, in their order of arrival, and the two that matter."""

    order_id: str
    events: Sequence[OrderEvent]
    state: OrderEvent
    """The greatest event: what the order is now, as far as this batch knows."""
    named: tuple[EventKey, int] | None
    """The key of the greatest event that names a customer, and whom: whose order it is."""
    erased: bool
    """An event names a person who was erased."""


class StoredOrder(NamedTuple):
    """What was stored of an order before the batch."""

    key: EventKey
    content: tuple[object, ...]


class ProfileValue(NamedTuple):
    """A profile value, and when it was told by which event."""

    value: str | dict[str, str]
    at: datetime
    event_id: str


@dataclass(frozen=True, slots=True)
class Profile:
    """What a batch tells of one customer, stale events included."""

    customer_id: int
    at: datetime
    """When the latest event told of them."""
    event_id: str
    earliest_order: datetime
    latest_order: datetime
    name: ProfileValue | None
    phone: ProfileValue | None
    address: ProfileValue | None


Resolve = Callable[[OrderEvent], int | None]
"""Finds the customer whom an event names: their id, `ERASED`, or None for nobody."""
ERASED = 0


def by_order(events: Iterable[OrderEvent], resolve: Resolve) -> list[OrderChange]:
    """Group a batch by order, in order of the ids, which is the order of locking."""
    grouped: defaultdict[str, list[OrderEvent]] = defaultdict(list)
    for event in events:
        grouped[event.order_id].append(event)
    return [_change(order_id, grouped[order_id], resolve) for order_id in sorted(grouped)]


def _change(order_id: str, events: Sequence[OrderEvent], resolve: Resolve) -> OrderChange:
    if len(events) == 1:  # nearly always
        (event,) = events
        owner = resolve(event)
        named = (event.key, owner) if owner else None
        return OrderChange(order_id, events, event, named, erased=owner == ERASED)
    namings = [
        (event.key, customer_id) for event in events if (customer_id := resolve(event)) is not None
    ]
    return OrderChange(
        order_id,
        events,
        state=max(events, key=lambda event: event.key),
        named=max((naming for naming in namings if naming[1] != ERASED), default=None),
        erased=any(customer_id == ERASED for _, customer_id in namings),
    )


def profiles(events: Iterable[OrderEvent], resolve: Resolve) -> list[Profile]:
    """Fold what all events say of customers, in order of their ids.

    Versions of different orders do not compare, so the key here is time and event id.
    """
    told: defaultdict[int, list[tuple[OrderEvent, EventCustomer]]] = defaultdict(list)
    for event in events:
        if event.person and (customer_id := resolve(event)):
            told[customer_id].append((event, event.person))
    return [_profile(customer_id, told[customer_id]) for customer_id in sorted(told)]


def _profile(customer_id: int, told: list[tuple[OrderEvent, EventCustomer]]) -> Profile:
    if len(told) > 1:
        told.sort(key=lambda pair: (pair[0].profile_at, pair[0].key.event_id))
    name = phone = address = None
    for event, person in told:
        at, event_id = event.profile_at, event.key.event_id
        if person.name:
            name = ProfileValue(person.name, at, event_id)
        if person.phone:
            phone = ProfileValue(person.phone, at, event_id)
        if person.address:
            address = ProfileValue(person.address, at, event_id)
    dates = [event.date_created for event, _ in told]
    return Profile(customer_id, at, event_id, min(dates), max(dates), name, phone, address)


_APPLIED: Counter[Outcome] = Counter({Outcome.APPLIED: 1})


def outcomes(change: OrderChange, known: StoredOrder | None) -> Counter[Outcome]:
    """Say of each event of an order what became of it, as if they had come one by one."""
    if known is None and len(change.events) == 1:  # nearly always
        return _APPLIED
    counted: Counter[Outcome] = Counter()
    for event in change.events:
        if known is None or event.key > known.key:
            counted[Outcome.APPLIED] += 1
        elif event.key.event_id == known.key.event_id:
            counted[Outcome.DUPLICATE] += 1
        else:
            counted[Outcome.STALE] += 1
        if known is not None and _conflict(event, known):
            counted[Outcome.CONFLICT] += 1
        if known is None or event.key > known.key:
            known = StoredOrder(event.key, event.content)
    return counted


def _conflict(event: OrderEvent, known: StoredOrder) -> bool:
    """Tell whether two events claim one version and time, and differ in more than their id."""
    return (
        event.key[:2] == known.key[:2]
        and event.key.event_id != known.key.event_id
        and event.content != known.content
    )
