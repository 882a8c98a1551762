"""Live orders never end, keep the contract, and never repeat the ids of another run."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count, islice, pairwise

from service.demo.events import DemoEntry
from service.demo.history import history
from service.demo.live import live_orders, seconds_between_entries
from service.demo.people import person

from .model import fold, read

START = datetime(2026, 11, 22, 10, tzinfo=UTC)
LENGTH = 3_000
END = START + timedelta(seconds=2 * LENGTH)


def _clock() -> Callable[[], datetime]:
    seconds = count()
    return lambda: START + timedelta(seconds=next(seconds))


def _run(run_id: str) -> list[DemoEntry]:
    return list(islice(live_orders(run_id, _clock()), LENGTH))


def test_the_same_run_gives_the_same_entries() -> None:
    assert _run("a") == _run("a")


def test_runs_share_no_ids_and_no_new_customers() -> None:
    one, other = fold(_run("a"), END), fold(_run("b"), END)
    assert one.orders.keys().isdisjoint(other.orders)
    ids = [{json.loads(entry["data"])["id"] for entry in _run(run)} for run in ("a", "b")]
    assert ids[0].isdisjoint(ids[1])
    known = {person(number).email for number in range(1, 2_358)}
    mistyped = {email[1:] for email in known}
    strangers = one.customers - known - mistyped
    assert len(strangers) > 100
    assert strangers.isdisjoint(other.customers)


def test_every_entry_is_readable_and_most_orders_are_of_known_customers() -> None:
    shop = fold(_run("a"), END)
    assert shop.unreadable == []
    known = {person(number).email for number in range(1, 2_358)}
    share = sum(owner in known for owner in shop.owners.values()) / len(shop.owners)
    assert 0.7 < share < 0.95


def test_an_order_is_created_once_and_then_updated_until_it_ends() -> None:
    events = [read(entry, END) for entry in _run("a")]
    keys: dict[str, tuple[int, datetime, str]] = {}
    for event in events:
        assert (event.order in keys) or event.type == "order-created"
        assert event.key >= keys.get(event.order, event.key)
        keys[event.order] = event.key
    kinds = Counter(event.type for event in set(events))
    assert kinds["order-created"] > 0.45 * len(events)
    ends = Counter(order.status for order in fold(_run("a"), END).orders.values())
    assert {"delivered", "cancelled", "refunded", "completed"} <= set(ends)
    unfinished = sum(ends[status] for status in ("pending", "processing", "shipped"))
    assert unfinished < 100


def test_entries_have_the_requested_times_and_some_come_twice() -> None:
    entries = _run("a")
    times = [json.loads(entry["data"])["time"] for entry in entries]
    assert times == sorted(times)
    twice = sum(a == b for a, b in pairwise(entries))
    assert 0.01 < twice / len(entries) < 0.03


def test_new_orders_come_as_often_as_on_the_last_days_of_the_history() -> None:
    pause = timedelta(seconds=seconds_between_entries())
    end = START + LENGTH * pause
    moments = count()
    entries = islice(live_orders("a", lambda: START + next(moments) * pause), LENGTH)
    live = {
        event["data"]["id"]: event["data"]["dateCreated"]
        for event in (json.loads(entry["data"]) for entry in entries)
    }
    a_day = len(live) / ((end - START) / timedelta(days=1))
    last = fold(history(START), START).orders.values()
    days = 14
    before = sum(order.created > START - days * timedelta(days=1) for order in last) / days
    assert 0.85 < a_day / before < 1.15
