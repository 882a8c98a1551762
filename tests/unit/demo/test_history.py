"""The history, folded by a model of the contract: whole, in the past, and with every oddity."""

import json
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from random import Random

import pytest

from service.demo.bad import MISTAKES, bad_entry
from service.demo.cdnow import purchases
from service.demo.dates import days_before_the_last, shown_purchases
from service.demo.events import DemoEntry
from service.demo.history import history

from .model import Event, Shop, Unreadable, fold, read

TODAY = datetime(2026, 11, 22, 10, tzinfo=UTC)


@pytest.fixture(scope="module")
def entries() -> list[DemoEntry]:
    return history(TODAY)


@pytest.fixture(scope="module")
def shop(entries: list[DemoEntry]) -> Shop:
    return fold(entries, TODAY)


@pytest.fixture(scope="module")
def events(entries: list[DemoEntry]) -> list[Event]:
    """Return the readable events in order of arrival, with repetitions."""
    found = []
    for entry in entries:
        try:
            found.append(read(entry, TODAY))
        except Unreadable:
            continue
    return found


@pytest.fixture(scope="module")
def events_by_order(events: list[Event]) -> dict[str, list[Event]]:
    """Return each order's events, once each, the oldest first."""
    by_order = defaultdict(set)
    for event in events:
        by_order[event.order].add(event)
    return {order: sorted(group) for order, group in by_order.items()}


def test_the_same_start_time_gives_the_same_bytes(entries: list[DemoEntry]) -> None:
    assert history(TODAY) == entries
    assert history(TODAY.astimezone(timezone(timedelta(hours=-6)))) == entries


def test_another_moment_gives_other_event_ids_and_the_same_orders(
    shop: Shop, events: list[Event]
) -> None:
    later = TODAY + timedelta(days=1, seconds=7)
    entries = history(later)
    assert set(fold(entries, later).orders) == set(shop.orders)
    others = [json.loads(e["data"])["id"] for e in entries if b'"CDNOW-0' in e.get("data", b"")]
    assert {event.key[2] for event in events}.isdisjoint(others)


def test_the_order_of_arrival_does_not_matter(entries: list[DemoEntry], shop: Shop) -> None:
    shuffled = list(entries)
    Random(1).shuffle(shuffled)
    assert fold(shuffled, TODAY).world == shop.world


def test_every_purchase_is_an_order_of_its_amount(shop: Shop, events: list[Event]) -> None:
    assert set(shop.orders) == {f"CDNOW-{line:06}" for line in days_before_the_last()}
    for purchase in shown_purchases():
        assert shop.orders[f"CDNOW-{purchase.line:06}"].total == purchase.dollars
    created = {event.order: event.total for event in events if event.type == "order-created"}
    assert sum(created.values()) == sum(purchase.dollars for purchase in shown_purchases())


def test_each_order_belongs_to_the_customer_who_bought_it(shop: Shop) -> None:
    number = {f"CDNOW-{p.line:06}": p.customer for p in purchases()}
    for order, owner in shop.owners.items():
        assert owner.partition("@")[0].endswith(f".{number[order]}")


def test_every_segment_occurs(shop: Shop) -> None:
    segments = [customer.segment for customer in shop.world.customers.values()]
    shares = {name: n / len(segments) for name, n in Counter(segments).items()}
    assert set(shares) == {"new", "returning", "vip", "at_risk", "inactive"}
    assert min(shares.values()) >= 0.04


def test_nothing_lies_in_the_future(entries: list[DemoEntry], events: list[Event]) -> None:
    latest = max(max(event.key[1], event.created) for event in events)
    assert timedelta(seconds=10) < TODAY - latest < timedelta(hours=6)
    times = [json.loads(e["data"])["time"] for e in entries if b'"CDNOW-0' in e.get("data", b"")]
    assert max(datetime.fromisoformat(time) for time in times) <= latest
    assert all(event.created <= event.key[1] for event in events)


def test_orders_of_a_day_are_placed_in_the_order_of_their_lines(shop: Shop) -> None:
    by_day = defaultdict(list)
    for line, days in days_before_the_last().items():
        by_day[-days].append(shop.orders[f"CDNOW-{line:06}"].created)
    in_order = [moment for _, moments in sorted(by_day.items()) for moment in moments]
    assert in_order == sorted(in_order)
    assert len(set(in_order)) == len(in_order)


def test_entries_arrive_mostly_in_order_of_time(events: list[Event]) -> None:
    latest, late = events[0].key[1], 0
    for event in events:
        late += event.key[1] < latest
        latest = max(latest, event.key[1])
    assert 100 < late < 250


def test_bad_entries_are_unreadable_and_one_of_each_kind(
    entries: list[DemoEntry], shop: Shop
) -> None:
    assert len(shop.unreadable) == len(MISTAKES) == 15
    assert sum("data" not in entry for entry in entries) == 1
    why = {}
    for mistake in MISTAKES:
        with pytest.raises(Unreadable) as refusal:
            read(bad_entry(mistake, TODAY), TODAY)
        why[mistake] = str(refusal.value)
    assert why == {
        "not JSON": "JSONDecodeError",
        "invalid UTF-8": "UnicodeDecodeError",
        "not an object": "not an object",
        "no data field": "no data",
        "no event id": "no event id",
        "unknown type": "type",
        "no total": "no total",
        "negative amount": "amount",
        "amount not a number": "amount",
        "amount infinite": "amount",
        "negative refund": "amount",
        "unknown currency": "currency",
        "unknown status": "status",
        "date without an offset": "no offset",
        "date in the far future": "time",
    }


def test_some_entries_arrive_twice_and_no_event_id_has_two_contents(
    entries: list[DemoEntry],
) -> None:
    copies = Counter(entry["data"] for entry in entries if "data" in entry)
    assert sum(n - 1 for n in copies.values()) == 88
    assert max(copies.values()) == 2
    said = Counter(json.loads(data)["id"] for data in copies if b'"CDNOW-0' in data)
    assert max(said.values()) == 1


def test_some_updates_overtake_their_create(events: list[Event]) -> None:
    seen, overtaking = set(), set()
    for event in events:
        if event.type == "order-updated" and event.order not in seen:
            overtaking.add(event.order)
        seen.add(event.order)
    assert 10 < len(overtaking) < 100


def test_versions_rise_from_one_or_are_missing(events_by_order: dict[str, list[Event]]) -> None:
    unversioned = 0
    for group in events_by_order.values():
        versions = [event.key[0] for event in group]
        assert versions in ([0] * len(group), list(range(1, len(group) + 1)))
        assert [event.type for event in group[1:]] == ["order-updated"] * (len(group) - 1)
        assert group[0].type == "order-created"
        assert [event.key[1] for event in group] == sorted({event.key[1] for event in group})
        unversioned += versions[0] == 0
    assert 230 < unversioned < 320


def test_some_orders_are_cancelled_refunded_or_unpaid(
    shop: Shop, events_by_order: dict[str, list[Event]]
) -> None:
    ends = Counter((order.status, order.payment_status) for order in shop.orders.values())
    assert (
        0.15
        < sum(len(group) > 1 for group in events_by_order.values()) / len(events_by_order)
        < 0.25
    )
    assert 0.025 < ends["cancelled", "paid"] / len(events_by_order) < 0.035
    assert 0.015 < ends["refunded", "refunded"] / len(events_by_order) < 0.025
    assert 0.015 < ends["delivered", "partially_refunded"] / len(events_by_order) < 0.025
    assert ends["on_hold", "failed"] >= 15
    refunded = [order for order in shop.orders.values() if order.status == "refunded"]
    assert {order.total - order.refunded for order in refunded} == {Decimal("0.00")}


def test_refunds_are_of_every_kind(
    shop: Shop, entries: list[DemoEntry], events_by_order: dict[str, list[Event]]
) -> None:
    kinds: Counter[str] = Counter()
    for order in shop.orders.values():
        if order.refunded > order.total:
            kinds["beyond the total"] += 1
        elif order.refunded:
            kinds["in full" if order.refunded == order.total else "in part"] += 1
    told = defaultdict(list)
    for entry in entries:
        if b'"CDNOW-0' in entry.get("data", b""):
            data = json.loads(entry["data"])["data"]
            told[data["id"]].append((data["dateUpdated"], Decimal(data["refundedAmount"])))
    for states in told.values():
        refunds = [refunded for _, refunded in sorted(states)]
        kinds["falling"] += refunds != sorted(refunds)
    assert len(told) == len(events_by_order)
    assert set(kinds) == {"beyond the total", "in full", "in part", "falling"}
    assert min(kinds.values()) >= 3


def test_some_orders_are_in_another_currency_with_and_without_a_rate(shop: Shop) -> None:
    abroad = [order for order in shop.orders.values() if order.currency]
    assert 20 <= len(abroad) <= 40
    assert {order.currency for order in abroad} == {"EUR"}
    assert {order.rate for order in abroad} == {None, Decimal("1.09")}


def test_some_orders_get_their_customer_late_and_some_change_it(
    shop: Shop, events_by_order: dict[str, list[Event]]
) -> None:
    assert 14 <= len(set(shop.orders) - set(shop.owners)) <= 20
    emails = [[event.email for event in group] for group in events_by_order.values()]
    assert 10 < sum(not group[0] and bool(group[-1]) for group in emails) <= 18
    assert 6 <= sum(len(set(group) - {""}) == 2 for group in emails) <= 12


def test_mistyped_customers_are_not_the_newest(
    events_by_order: dict[str, list[Event]],
) -> None:
    arrived: dict[str, datetime] = {}
    for group in events_by_order.values():
        for event in group:
            arrived[event.email] = min(event.created, arrived.get(event.email, event.created))
    mistyped = {
        group[0].email for group in events_by_order.values() if group[0].email != group[-1].email
    }
    newest = sorted(arrived, key=arrived.__getitem__, reverse=True)[:50]
    assert len(mistyped - {""}) >= 6
    assert len(mistyped & set(newest)) <= 2


def test_amounts_come_as_strings_and_as_numbers(entries: list[DemoEntry]) -> None:
    good = [json.loads(e["data"]) for e in entries if b'"CDNOW-0' in e.get("data", b"")]
    forms = Counter(type(event["data"]["totalAmount"]).__name__ for event in good)
    assert forms["str"] > forms["float"] > 1_000
