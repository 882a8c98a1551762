"""Fold a batch of events: one newest state per order, one profile per customer.

Every fact is a register: the value with the greatest key stays, whatever the order of arrival. So
folding a batch is the same operation as merging it into what Postgres has stored. Doing it here
first means that a statement touches each row once.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

import msgspec

from service.core.identity import ERASED, Naming
from service.core.order_event import (
    EMAIL_REGISTER,
    NAMED_REGISTERS,
    REGISTERS,
    EventKey,
    OrderContent,
    OrderEvent,
)


class Outcome(StrEnum):
    """The outcome of an entry. Each entry has exactly one; CONFLICT is counted in addition."""

    APPLIED = "applied"
    STALE = "stale"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    DEAD_LETTERED = "dead_lettered"


class OrderChange(msgspec.Struct, frozen=True, gc=False):
    """The events of one order in a batch, in their order of arrival."""

    order_id: str
    events: Sequence[OrderEvent]
    state: OrderEvent
    """The greatest event: the order's state as far as this batch knows."""
    named: tuple[EventKey, Naming] | None
    """The key of the greatest event that has an identifier, and whom it names: the order's owner.

    None if no event has one.
    """
    erased: bool
    """An event names a person who was erased."""
    most_refunded: int
    """The greatest refund that an event tells, in hundredths of its currency."""


class ProfileKey(NamedTuple):
    """The time and the id of an event. Versions of different orders do not compare."""

    at: datetime
    event_id: str


class Profile(msgspec.Struct, frozen=True, gc=False):
    """The profile that a batch has for one customer. Stale events count as well."""

    customer_id: int
    key: ProfileKey
    """The key of the latest event that names the customer."""
    earliest_order: datetime | None
    """None if events only have the e-mail of the customer, and name somebody else."""
    latest_order: datetime | None
    values: Mapping[str, str | dict[str, str]]
    """The latest value of each of `REGISTERS` that any event has a value for."""
    other_keys: Mapping[str, ProfileKey]
    """The keys of values that do not come from the latest event, by register."""


class StoredOrder(NamedTuple):
    """The state of an order, and the key of the event that it comes from."""

    key: EventKey
    content: OrderContent


class Conflict(NamedTuple):
    """Two events of an order that have the same version and times, and say different things."""

    order_id: str
    one: StoredOrder
    other: StoredOrder


_EMAIL_ALONE = (EMAIL_REGISTER,)
"""What an event tells of a customer whose e-mail it has, and whom it does not name."""
_Mention = tuple[OrderEvent, Sequence[str]]
"""An event, and the registers of a customer that it may have values for."""


def fold(
    events: Sequence[OrderEvent], namings: Sequence[Naming]
) -> tuple[list[OrderChange], list[Profile]]:
    """Fold events into a change per order and a profile per customer, each sorted by id.

    ``namings`` says whom each event names. Rows are locked in the order of their ids.
    """
    by_order: defaultdict[str, list[tuple[OrderEvent, Naming]]] = defaultdict(list)
    by_customer: defaultdict[int, list[_Mention]] = defaultdict(list)
    for event, naming in zip(events, namings, strict=True):
        by_order[event.order_id].append((event, naming))
        owner, email_owner = naming.owner, naming.email_owner
        if not owner:
            continue
        if owner == email_owner:
            by_customer[owner].append((event, REGISTERS))
            continue
        by_customer[owner].append((event, NAMED_REGISTERS))
        if email_owner:  # until the two are merged; merging keeps the latest e-mail of both
            by_customer[email_owner].append((event, _EMAIL_ALONE))
    return (
        [_order_change(order_id, by_order[order_id]) for order_id in sorted(by_order)],
        [_profile(customer_id, by_customer[customer_id]) for customer_id in sorted(by_customer)],
    )


def _order_change(order_id: str, events: Sequence[tuple[OrderEvent, Naming]]) -> OrderChange:
    if len(events) == 1:  # nearly always
        ((event, naming),) = events
        named = (event.key, naming) if naming.identifiers else None
        return OrderChange(
            order_id, (event,), event, named, naming.owner == ERASED, event.refunded_cents
        )
    namings = [(event.key, naming) for event, naming in events if naming.identifiers]
    in_arrival = [event for event, _ in events]
    return OrderChange(
        order_id,
        in_arrival,
        state=max(in_arrival, key=lambda event: event.key),
        named=max(namings, key=lambda named: (named[0], named[1].identifiers), default=None),
        erased=any(naming.owner == ERASED for _, naming in events),
        most_refunded=max(event.refunded_cents for event in in_arrival),
    )


def _profile(customer_id: int, mentions: list[_Mention]) -> Profile:
    if len(mentions) == 1:  # nearly always
        ((event, registers),) = mentions
        date = None if registers is _EMAIL_ALONE else event.date_created
        return Profile(customer_id, _profile_key(event), date, date, _values(event, registers), {})
    mentions.sort(key=lambda mention: _profile_key(mention[0]))
    values: dict[str, str | dict[str, str]] = {}
    keys: dict[str, ProfileKey] = {}
    dates: list[datetime] = []
    for event, registers in mentions:
        key, told = _profile_key(event), _values(event, registers)
        values |= told
        keys |= dict.fromkeys(told, key)
        if registers is not _EMAIL_ALONE:
            dates.append(event.date_created)
    others = {register: found for register, found in keys.items() if found != key}
    return Profile(
        customer_id, key, min(dates, default=None), max(dates, default=None), values, others
    )


def _profile_key(event: OrderEvent) -> ProfileKey:
    return ProfileKey(event.profile_at, event.key.event_id)


def _values(event: OrderEvent, registers: Sequence[str]) -> dict[str, str | dict[str, str]]:
    """Return what an event says of a customer."""
    customer = event.customer
    return {register: value for register in registers if (value := getattr(customer, register))}


_ONE_APPLIED: Counter[Outcome] = Counter({Outcome.APPLIED: 1})


def outcomes_of(
    changes: Iterable[OrderChange], stored: Mapping[str, StoredOrder]
) -> tuple[Counter[Outcome], list[Conflict]]:
    """Count the outcomes of the events, as if they had arrived one by one; return conflicts too.

    ``stored`` has the state of each order that was known before the batch.
    """
    counted: Counter[Outcome] = Counter()
    conflicts: list[Conflict] = []
    for change in changes:
        counted += _outcomes(change, stored.get(change.order_id), conflicts)
    if conflicts:
        counted[Outcome.CONFLICT] = len(conflicts)
    return counted, conflicts


def _outcomes(
    change: OrderChange, known: StoredOrder | None, conflicts: list[Conflict]
) -> Counter[Outcome]:
    """Return the outcomes of one order's events, and add their conflicts to the list."""
    if known is None and len(change.events) == 1:  # nearly always
        return _ONE_APPLIED
    counted: Counter[Outcome] = Counter()
    for event in change.events:
        told = StoredOrder(event.key, event.content)
        if known is not None and _conflict(told, known):
            conflicts.append(Conflict(change.order_id, told, known))
        if known is None or told.key > known.key:
            counted[Outcome.APPLIED] += 1
            known = told
        elif told.key.event_id == known.key.event_id:
            counted[Outcome.DUPLICATE] += 1
        else:
            counted[Outcome.STALE] += 1
    return counted


def _conflict(one: StoredOrder, other: StoredOrder) -> bool:
    """Return True if two events have the same version and times, but another id and content."""
    return (
        one.key[:3] == other.key[:3]
        and one.key.event_id != other.key.event_id
        and one.content != other.content
    )
