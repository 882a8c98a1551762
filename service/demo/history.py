"""The shop's history as its order management would have sent it, with mistakes of delivery."""

from collections import defaultdict
from datetime import datetime, timedelta
from itertools import islice
from random import Random
from typing import NamedTuple
from uuid import UUID, uuid5

from service.demo.bad import MISTAKES, bad_entry
from service.demo.cdnow import Purchase, purchases
from service.demo.dates import (
    SHOWN_DAYS,
    days_before_the_last,
    end_of_history,
    shown_purchases,
)
from service.demo.events import DemoEntry, stamp
from service.demo.orders import PlacedOrder
from service.demo.people import person
from service.demo.stories import COMPLETED, DAY, STORIES, WAITING, Story

SEED = "CDNOW"
NAMESPACE = UUID("5a3f2a52-6f0c-4c7e-9d5b-2f3f0c1f7a11")
TWICE_SHARE = 0.01
"""The share of entries that are delivered a second time, unchanged."""
LATE_SHARE = 0.01
"""The share of entries that arrive a day or more late, so that some updates overtake a create."""
WAITING_DAYS = 2
"""Orders without a story of their own are completed after this many days."""


class Delivery(NamedTuple):
    """An entry and when it reaches the stream."""

    arrival: datetime
    entry: DemoEntry


def history(today: datetime) -> list[DemoEntry]:
    """Return the stream entries of the purchases, in order of arrival, none later than ``today``.

    ``today`` is aware. The same time gives the same bytes. Another time moves every date, and gives
    every event another id, because the event then says something else.
    """
    end = end_of_history(today)
    rng = Random(SEED)
    placed = _placed(rng, end)
    orderly: list[Delivery] = []
    of_several_events: list[int] = []
    ids = uuid5(NAMESPACE, stamp(end))
    for order in placed:
        at = order.created
        for nth, step in enumerate(order.story.steps, 1):
            at += step.after * rng.uniform(0.5, 1.5)
            if at > end:  # has not happened yet
                break
            if len(order.story.steps) > 1:
                of_several_events.append(len(orderly))
            event_id = str(uuid5(ids, f"{order.id}/{nth}"))
            orderly.append(Delivery(at, order.event(nth, event_id, at)))
    deliveries = [*_with_mishaps(rng, orderly, of_several_events, end), *_bad(end)]
    deliveries.sort(
        key=lambda delivery: delivery.arrival
    )  # stable: events of one time keep their order
    return [delivery.entry for delivery in deliveries]


def _placed(rng: Random, end: datetime) -> list[PlacedOrder]:
    """Return an order for each purchase, with its time and its story."""
    times = _times(rng, end)
    stories = _stories(rng)
    people = {number: person(number) for number in {p.customer for p in purchases()}}
    waiting_since = end - WAITING_DAYS * DAY

    def order(purchase: Purchase) -> PlacedOrder:
        created = times[purchase.line]
        plain = WAITING if created > waiting_since else COMPLETED
        return PlacedOrder(
            id=f"CDNOW-{purchase.line:06}",
            number=purchase.line,
            who=people[purchase.customer],
            total=purchase.dollars,
            created=created,
            story=stories.get(purchase.line, plain),
        )

    return [order(purchase) for purchase in shown_purchases()]


def _stories(rng: Random) -> dict[int, Story]:
    """Choose the orders that have a story of their own; return the story by line."""
    shuffled = list(purchases())
    rng.shuffle(shuffled)
    remaining = iter(shuffled)
    stories: dict[int, Story] = {}
    for story in STORIES:
        stories.update((purchase.line, story) for purchase in islice(remaining, story.orders))
    return stories


def _times(rng: Random, end: datetime) -> dict[int, datetime]:
    """Make up a time of day for each line; lines of one day keep the order of the file."""
    lines = defaultdict[int, list[int]](list)
    for line, days in days_before_the_last().items():
        lines[days].append(line)
    return {
        line: end - (days + 1 - share) * DAY
        for days, of_a_day in lines.items()
        for line, share in zip(of_a_day, sorted(rng.random() for _ in of_a_day), strict=True)
    }


def _with_mishaps(
    rng: Random, orderly: list[Delivery], of_several_events: list[int], end: datetime
) -> list[Delivery]:
    """Return the deliveries with some of them late and some repeated.

    Only events of orders that have several are late, because only there it makes a difference.
    """
    deliveries = list(orderly)
    for index in rng.sample(of_several_events, int(len(orderly) * LATE_SHARE)):
        arrival = orderly[index].arrival + DAY * rng.uniform(1, 4)
        deliveries[index] = orderly[index]._replace(arrival=min(arrival, end))
    for delivery in rng.sample(deliveries, int(len(orderly) * TWICE_SHARE)):
        again = delivery.arrival + timedelta(seconds=rng.uniform(1, 7200))
        deliveries.append(delivery._replace(arrival=min(again, end)))
    return deliveries


def _bad(end: datetime) -> list[Delivery]:
    """Return one bad entry of each kind, spread over the history."""
    apart = timedelta(days=SHOWN_DAYS) / (len(MISTAKES) + 1)
    moments = [end - apart * number for number in range(1, len(MISTAKES) + 1)]
    return [
        Delivery(moment, bad_entry(mistake, moment))
        for mistake, moment in zip(MISTAKES, moments, strict=True)
    ]
