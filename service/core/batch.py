"""Fold a batch of events: one newest state per order, one profile per customer.

Every fact is a register: the value with the greatest key stays, whatever the order of arrival. So
folding a batch is the same operation as merging it into what Postgres has stored. Doing it here
first means that a statement touches each row once.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from service.core.order_event import REGISTERS, EventCustomer, EventKey, OrderEvent


class Outcome(StrEnum):
    """The outcome of an entry. Each entry has exactly one; CONFLICT is counted in addition."""

    APPLIED = "applied"
    STALE = "stale"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    DEAD_LETTERED = "dead_lettered"


Owner = int | None
"""The number of the customer whom an event names, `ERASED`, or None if it names nobody."""
ERASED = 0


@dataclass(frozen=True, slots=True)
class OrderChange:
    """The events of one order in a batch, in their order of arrival."""

    order_id: str
    events: Sequence[OrderEvent]
    state: OrderEvent
    """The greatest event: the order's state as far as this batch knows."""
    named: tuple[EventKey, int] | None
    """The key of the greatest event that names a customer, and that customer. They own the order.

    None if no event names a customer.
    """
    erased: bool
    """An event names a person who was erased."""


class ProfileValue(NamedTuple):
    """The value of a register, and the time and id of the event that it came with."""

    value: str | dict[str, str]
    at: datetime
    event_id: str


@dataclass(frozen=True, slots=True)
class Profile:
    """The profile that a batch has for one customer. Stale events count as well."""

    customer_id: int
    at: datetime
    """The time of the latest event that names the customer."""
    event_id: str
    earliest_order: datetime
    latest_order: datetime
    values: Mapping[str, ProfileValue]
    """The latest value of each of `REGISTERS` that any event has a value for."""


class StoredOrder(NamedTuple):
    """The state of an order before the batch."""

    key: EventKey
    content: tuple[object, ...]


def fold(
    events: Sequence[OrderEvent], owners: Sequence[Owner]
) -> tuple[list[OrderChange], list[Profile]]:
    """Fold events into a change per order and a profile per customer, each sorted by id.

    ``owners`` has the customer whom each event names. Rows are locked in the order of their ids.
    """
    by_order: defaultdict[str, list[tuple[OrderEvent, Owner]]] = defaultdict(list)
    by_customer: defaultdict[int, list[tuple[OrderEvent, EventCustomer]]] = defaultdict(list)
    for event, owner in zip(events, owners, strict=True):
        by_order[event.order_id].append((event, owner))
        if event.customer and owner:
            by_customer[owner].append((event, event.customer))
    return (
        [_order_change(order_id, by_order[order_id]) for order_id in sorted(by_order)],
        [_profile(customer_id, by_customer[customer_id]) for customer_id in sorted(by_customer)],
    )


def _order_change(order_id: str, events: Sequence[tuple[OrderEvent, Owner]]) -> OrderChange:
    if len(events) == 1:  # nearly always
        ((event, owner),) = events
        named = (event.key, owner) if owner else None
        return OrderChange(order_id, (event,), event, named, erased=owner == ERASED)
    namings = [(event.key, owner) for event, owner in events if owner]
    in_arrival = [event for event, _ in events]
    return OrderChange(
        order_id,
        in_arrival,
        state=max(in_arrival, key=lambda event: event.key),
        named=max(namings, default=None),
        erased=any(owner == ERASED for _, owner in events),
    )


def _profile(customer_id: int, events: list[tuple[OrderEvent, EventCustomer]]) -> Profile:
    # Versions of different orders do not compare, so the key of a register is time and event id.
    if len(events) > 1:
        events.sort(key=lambda pair: (pair[0].profile_at, pair[0].key.event_id))
    values: dict[str, ProfileValue] = {}
    for event, customer in events:
        at, event_id = event.profile_at, event.key.event_id
        for register in REGISTERS:
            if value := getattr(customer, register):
                values[register] = ProfileValue(value, at, event_id)
    dates = [event.date_created for event, _ in events]
    return Profile(customer_id, at, event_id, min(dates), max(dates), values)


_ONE_APPLIED: Counter[Outcome] = Counter({Outcome.APPLIED: 1})


def count_outcomes(
    changes: Iterable[OrderChange], stored: Mapping[str, StoredOrder]
) -> Counter[Outcome]:
    """Count the outcomes of the events, as if they had arrived one by one.

    ``stored`` has the state of each order that was known before the batch.
    """
    counted: Counter[Outcome] = Counter()
    for change in changes:
        counted += _outcomes(change, stored.get(change.order_id))
    return counted


def _outcomes(change: OrderChange, known: StoredOrder | None) -> Counter[Outcome]:
    if known is None and len(change.events) == 1:  # nearly always
        return _ONE_APPLIED
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
    """Return True if two events have the same version and time, but another id and content."""
    return (
        event.key[:2] == known.key[:2]
        and event.key.event_id != known.key.event_id
        and event.content != known.content
    )
