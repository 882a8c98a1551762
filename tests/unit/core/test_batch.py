"""A folded batch does not depend on the order of arrival; only the counts of outcomes do."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from service.core.batch import (
    OrderChange,
    Outcome,
    Profile,
    StoredOrder,
    fold,
    outcomes_of,
)
from service.core.identity import NOBODY, Naming
from service.core.order_event import EventCustomer, EventKey, OrderEvent

START = datetime(2026, 11, 1, tzinfo=UTC)

moments = st.integers(0, 3).map(lambda hours: START + timedelta(hours=hours))
people = st.builds(
    EventCustomer,
    identifiers=st.sampled_from(
        [("email:a@x.org",), ("external:/shop#7", "email:b@x.org"), ("email:marked@x.org",)]
    ),
    email=st.sampled_from([None, "a@x.org", "b@x.org"]),
    name=st.sampled_from([None, "Ann", "Bob"]),
    phone=st.sampled_from([None, "1", "2"]),
    address=st.sampled_from([None, {"city": "Austin"}, {"zip": "1"}]),
)
event_fields = st.tuples(
    st.sampled_from(["O-1", "O-2", "O-3"]),
    st.integers(0, 2),
    moments,
    moments,
    st.sampled_from(["pending", "completed"]),
    st.sampled_from([None, "paid"]),
    st.integers(0, 2),
    st.integers(0, 2),
    moments,
    st.none() | people,
)
IDS = ["e-1", "e-10", "e-2", "E-3", "é", "\uffff", "😀", "z", "~", "a", "b"]


def naming(event: OrderEvent) -> Naming:
    if event.customer is None:
        return NOBODY
    owners = {"email:a@x.org": 1001, "external:/shop#7": 1002}
    email_owners = {"a@x.org": 1001, "b@x.org": 1003}
    first = event.customer.identifiers[0]
    email_owner = email_owners.get(event.customer.email or "") if first in owners else None
    return Naming(owners.get(first), event.customer.identifiers, email_owner)


def by_order(events: list[OrderEvent]) -> list[OrderChange]:
    return fold(events, [naming(event) for event in events])[0]


def profiles(events: list[OrderEvent]) -> list[Profile]:
    return fold(events, [naming(event) for event in events])[1]


def outcomes(change: OrderChange, known: StoredOrder | None) -> Counter[Outcome]:
    return outcomes_of([change], {change.order_id: known} if known else {})[0]


@st.composite
def event_sets(draw: st.DrawFn) -> list[OrderEvent]:
    """Return events that each have an id of their own."""
    told = draw(st.lists(event_fields, max_size=len(IDS)))
    ids = draw(st.permutations(IDS))
    return [
        OrderEvent(
            order_id=order_id,
            key=EventKey(version, at, sent, event_id),
            profile_at=at,
            status=status,
            payment_status=payment,
            total_cents=cents,
            refunded_cents=refunded,
            date_created=created,
            customer=person,
        )
        for event_id, (
            order_id,
            version,
            at,
            sent,
            status,
            payment,
            cents,
            refunded,
            created,
            person,
        ) in zip(ids, told, strict=False)
    ]


def shuffled(events: list[OrderEvent], rng: random.Random) -> list[OrderEvent]:
    """Return every event at least once, some twice, in any order."""
    again = events + rng.sample(events, rng.randint(0, len(events)))
    rng.shuffle(again)
    return again


@given(event_sets(), st.randoms(use_true_random=False))
def test_states_and_owners_do_not_depend_on_the_order(
    events: list[OrderEvent], rng: random.Random
) -> None:
    def facts(events: list[OrderEvent]) -> list[tuple[object, ...]]:
        return [
            (change.order_id, change.state, change.named, change.most_refunded)
            for change in by_order(events)
        ]

    assert facts(events) == facts(shuffled(events, rng))


@given(event_sets(), st.randoms(use_true_random=False))
def test_profiles_do_not_depend_on_the_order(events: list[OrderEvent], rng: random.Random) -> None:
    assert profiles(events) == profiles(shuffled(events, rng))


@given(event_sets())
def test_state_and_owner_come_from_the_events_with_the_greatest_keys(
    events: list[OrderEvent],
) -> None:
    changes = {change.order_id: change for change in by_order(events)}
    assert list(changes) == sorted({event.order_id for event in events})
    for order_id, change in changes.items():
        ours = sorted(
            (event for event in events if event.order_id == order_id), key=lambda event: event.key
        )
        assert change.state == ours[-1]
        namings = [(event.key, naming(event)) for event in ours if event.customer]
        assert change.named == (namings[-1] if namings else None)


@given(event_sets())
def test_a_profile_keeps_the_latest_value_of_each_field(events: list[OrderEvent]) -> None:
    for profile in profiles(events):
        told = [
            ((event.profile_at, event.key.event_id), event, event.customer)
            for event in events
            if event.customer and naming(event).owner == profile.customer_id
        ]
        dates = [event.date_created for _, event, _ in told]
        assert profile.earliest_order == min(dates, default=None)
        assert profile.latest_order == max(dates, default=None)
        with_email = [
            ((event.profile_at, event.key.event_id), event, event.customer)
            for event in events
            if event.customer and naming(event).email_owner == profile.customer_id
        ]
        for field in ("name", "phone", "address", "email"):
            values = [
                (at, getattr(person, field))
                for at, _, person in (with_email if field == "email" else told)
                if getattr(person, field)
            ]
            key, value = max(values, key=lambda pair: pair[0], default=(None, None))
            assert profile.values.get(field) == value
            if value:
                assert profile.other_keys.get(field, profile.key) == key


@given(event_sets(), st.randoms(use_true_random=False))
def test_only_customers_that_an_event_concerns_get_a_profile(
    events: list[OrderEvent], rng: random.Random
) -> None:
    namings = [naming(event) for event in events]
    concerned = {each.owner for each in namings} | {each.email_owner for each in namings}
    told = [profile.customer_id for profile in profiles(shuffled(events, rng))]
    assert told == sorted(number for number in concerned if number)


def change_of(event: OrderEvent) -> OrderChange:
    told = event.refunded_cents
    return OrderChange(event.order_id, [event], event, None, erased=False, most_refunded=told)


def one_by_one(
    events: list[OrderEvent], known: StoredOrder | None
) -> tuple[Counter[Outcome], object]:
    """Fold each event alone, and keep what a database would keep."""
    counted: Counter[Outcome] = Counter()
    for event in events:
        counted += outcomes(change_of(event), known)
        if known is None or event.key > known.key:
            known = StoredOrder(event.key, event.content)
    return counted, known


@given(event_sets(), st.randoms(use_true_random=False), st.booleans())
def test_outcomes_of_a_batch_are_those_of_its_events_one_by_one(
    events: list[OrderEvent],
    rng: random.Random,
    begin_known: bool,  # noqa: FBT001
) -> None:
    for change in by_order(shuffled(events, rng)):
        first = change.events[0]
        known = StoredOrder(first.key, first.content) if begin_known else None
        expected, _ = one_by_one(list(change.events), known)
        counted = outcomes(change, known)
        assert counted == expected
        assert counted.total() - counted[Outcome.CONFLICT] == len(change.events)


def event(event_id: str, version: int = 1, cents: int = 100, hours: int = 0) -> OrderEvent:
    at = START + timedelta(hours=hours)
    return OrderEvent(
        "O-1", EventKey(version, at, at, event_id), at, "completed", "paid", cents, 0, START, None
    )


def counted(*events: OrderEvent) -> Counter[Outcome]:
    (change,) = by_order(list(events))
    return outcomes(change, None)


def test_the_same_event_again_is_a_duplicate() -> None:
    assert counted(event("a"), event("a")) == {Outcome.APPLIED: 1, Outcome.DUPLICATE: 1}


def test_an_older_event_is_stale() -> None:
    assert counted(event("a", 2), event("b", 1)) == {Outcome.APPLIED: 1, Outcome.STALE: 1}
    assert counted(event("a", 1, hours=1), event("b", 1)) == {
        Outcome.APPLIED: 1,
        Outcome.STALE: 1,
    }


def test_two_events_of_one_version_and_time_conflict_if_their_content_differs() -> None:
    assert counted(event("a"), event("b", cents=200)) == {
        Outcome.APPLIED: 2,
        Outcome.CONFLICT: 1,
    }
    assert counted(event("b"), event("a", cents=200)) == {
        Outcome.APPLIED: 1,
        Outcome.STALE: 1,
        Outcome.CONFLICT: 1,
    }
    assert counted(event("b"), event("a")) == {Outcome.APPLIED: 1, Outcome.STALE: 1}
