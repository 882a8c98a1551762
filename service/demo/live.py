"""A trickle of live orders: what the shop's order management sends from now on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from random import Random
from uuid import uuid5

from service.demo.cdnow import purchases
from service.demo.events import DemoEntry
from service.demo.history import NAMESPACE
from service.demo.orders import PlacedOrder
from service.demo.people import Person, person
from service.demo.stories import COMPLETED, STORIES

NEW_CUSTOMER_SHARE = 0.15
"""Of the new orders: placed by somebody never seen before."""
TWICE_SHARE = 0.02
"""Of all entries: sent a second time, unchanged."""
UNDER_WAY = 25
"""With so many orders under way, every second entry tells of one of them."""
FIRST_NEW_CUSTOMER = 10_000


@dataclass(slots=True)
class _UnderWay:
    order: PlacedOrder
    told: int = 0


def live_orders(run_id: str, now: Callable[[], datetime]) -> Iterator[DemoEntry]:
    """Yield entries for ever, each dated ``now()``, an aware time, as it is asked for.

    Mostly new orders, then what becomes of them. Order and event ids, and the e-mails of new
    customers, differ between runs with different ``run_id``; the same one with the same clock
    gives the same entries.
    """
    rng = Random(run_id)
    suffix = f"-{sha256(run_id.encode()).hexdigest()[:8]}"
    customers = _by_last_purchase()
    under_way: list[_UnderWay] = []
    placed = 0
    while True:
        if rng.random() < len(under_way) / (len(under_way) + UNDER_WAY):
            telling = rng.choice(under_way)
        else:
            placed += 1
            if rng.random() < NEW_CUSTOMER_SHARE:
                customers.append(person(FIRST_NEW_CUSTOMER + placed, suffix))
                who = customers[-1]
            else:
                who = _often_recent(rng, customers)
            telling = _UnderWay(_place(rng, f"LIVE-{run_id}-{placed:05}", placed, who, now()))
            under_way.append(telling)
        telling.told += 1
        event_id = str(uuid5(NAMESPACE, f"{telling.order.id}/{telling.told}"))
        if telling.told == len(telling.order.story.steps):
            under_way.remove(telling)
        entry = telling.order.event(telling.told, event_id, now())
        yield entry
        if rng.random() < TWICE_SHARE:
            yield entry


def _place(rng: Random, order_id: str, number: int, who: Person, at: datetime) -> PlacedOrder:
    """Return a new order, of an amount that somebody once spent."""
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
    """Return the customers of the history, who bought last at the end."""
    last = {p.customer: p.day for p in sorted(purchases(), key=lambda p: p.day)}
    return [person(number) for number in sorted(last, key=lambda number: last[number])]


def _often_recent(rng: Random, customers: list[Person]) -> Person:
    """Choose a customer: the later in the list, the likelier."""
    return customers[int(len(customers) * max(rng.random(), rng.random()))]
