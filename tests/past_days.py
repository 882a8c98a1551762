"""The model of past days: it walks day by day, and looks at all orders placed until the day's end.

Like `tests.model`, it is written from the contract alone and shares no code with the service.
"""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

from tests.model import Order, Rules, World, segment, totals

DAY = timedelta(days=1)


class PastDay(NamedTuple):
    """What the orders say about a day that is over."""

    day: date
    figures: dict[str, tuple[int, Decimal, int, int]]
    """At its end, per segment: customers, sum spent, those with an order, those with two."""
    created: int
    """Customers created on it."""
    orders: int
    """Counted orders placed on it, and what they add."""
    revenue: Decimal


def last_moment(day: date, zone: ZoneInfo) -> datetime:
    """Return the last microsecond of a day."""
    midnight = datetime.combine(day + DAY, time(), zone)
    return midnight.astimezone(UTC) - timedelta(microseconds=1)


def past_days(
    world: World, first: date, last: date, zone: ZoneInfo, rules: Rules | None = None
) -> Iterator[PastDay]:
    """Yield the days from ``first`` to ``last``, by today's orders and rules, without holds."""
    orders_of: defaultdict[str | None, list[Order]] = defaultdict(list)
    for order in world.orders.values():
        orders_of[order.owner].append(order)
    rules = rules or Rules()
    counted = [order for order in world.orders.values() if order.counts(rules)]
    day = first
    while day <= last:
        end = last_moment(day, zone)
        figures: dict[str, tuple[int, Decimal, int, int]] = {}
        for name, customer in world.customers.items():
            if customer.created > end:
                continue
            then = totals((order for order in orders_of[name] if order.created <= end), rules)
            where = segment(then, end, rules)
            count, spent, one, two = figures.get(where, (0, Decimal(0), 0, 0))
            figures[where] = (
                count + 1,
                spent + then.spent,
                one + (then.orders >= 1),
                two + (then.orders >= 2),
            )
        placed = [order for order in counted if order.created.astimezone(zone).date() == day]
        yield PastDay(
            day,
            figures,
            sum(each.created.astimezone(zone).date() == day for each in world.customers.values()),
            len(placed),
            sum((order.net for order in placed), Decimal(0)),
        )
        day += DAY
