"""Live orders: what the shop's order management sends from now on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from random import Random
from uuid import uuid5

from service.demo.cdnow import purchases
from service.demo.dates import days_before_the_last, shown_purchases
from service.demo.events import DemoEntry
from service.demo.history import NAMESPACE
from service.demo.orders import PlacedOrder
from service.demo.people import Person, person
from service.demo.stories import COMPLETED, STORIES

NEW_CUSTOMER_SHARE = 0.15
"""The share of new orders that a new customer places."""
TWICE_SHARE = 0.02
"""The share of entries that are sent a second time, unchanged."""
LIKE_THE_LAST_DAYS = 14
"""New orders come as often as on these many last days of the history."""
UNDER_WAY = 25
"""When this many orders are under way, every second entry is about one of them."""
FIRST_NEW_CUSTOMER = 10_000


@dataclass(slots=True)
class _UnderWay:
    order: PlacedOrder
    events: int = 0


def seconds_between_entries() -> float:
    """Return how long to wait between entries, on average, to go on at the pace of the history."""
    stories = (*STORIES, COMPLETED)
    steps = sum(story.weight * len(story.steps) for story in stories)
    entries_per_order = steps / sum(story.weight for story in stories) * (1 + TWICE_SHARE)
    orders = sum(days < LIKE_THE_LAST_DAYS for days in days_before_the_last().values())
    return 86_400 * LIKE_THE_LAST_DAYS / (orders * entries_per_order)


def live_orders(run_id: str, now: Callable[[], datetime]) -> Iterator[DemoEntry]:
    """Yield entries for ever. Each is dated ``now()``, an aware time, when the caller asks for it.

    Most are new orders; the others are later events of these orders. Order ids, event ids and the
    e-mails of new customers differ between runs with different ``run_id``. The same ``run_id`` and
    the same clock give the same entries.
    """
    rng = Random(run_id)
    suffix = f"-{sha256(run_id.encode()).hexdigest()[:8]}"
    customers = _by_last_purchase()
    under_way: list[_UnderWay] = []
    placed = 0
    while True:
        if rng.random() < len(under_way) / (len(under_way) + UNDER_WAY):
            current = rng.choice(under_way)
        else:
            placed += 1
            if rng.random() < NEW_CUSTOMER_SHARE:
                customers.append(person(FIRST_NEW_CUSTOMER + placed, suffix))
                who = customers[-1]
            else:
                who = _often_recent(rng, customers)
            current = _UnderWay(_place(rng, f"LIVE-{run_id}-{placed:05}", placed, who, now()))
            under_way.append(current)
        current.events += 1
        event_id = str(uuid5(NAMESPACE, f"{current.order.id}/{current.events}"))
        if current.events == len(current.order.story.steps):
            under_way.remove(current)
        entry = current.order.event(current.events, event_id, now())
        yield entry
        if rng.random() < TWICE_SHARE:
            yield entry


def _place(rng: Random, order_id: str, number: int, who: Person, at: datetime) -> PlacedOrder:
    """Return a new order, with an amount that somebody once spent."""
    stories = (*STORIES, COMPLETED)
    return PlacedOrder(
        id=order_id,
        number=number,
        who=who,
        total=rng.choice(purchases()).dollars,
        created=at,
        story=rng.choices(stories, [story.weight for story in stories])[0],
    )


def _by_last_purchase() -> list[Person]:
    """Return the customers of the history, sorted by their last purchase."""
    days = days_before_the_last()
    last = {it.customer: days[it.line] for it in shown_purchases()}
    return [person(number) for number in sorted(last, key=lambda number: -last[number])]


def _often_recent(rng: Random, customers: list[Person]) -> Person:
    """Choose a customer; those later in the list are more likely."""
    return customers[int(len(customers) * max(rng.random(), rng.random()))]
