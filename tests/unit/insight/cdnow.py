"""The CDNOW sample as the published studies prepare it: in weeks, the purchases of a day as one."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from functools import cache
from typing import NamedTuple

import numpy as np

from service.demo.cdnow import purchases
from service.insight.arrays import Customers, Floats
from service.insight.hold_out import Past

CUT = date(1997, 9, 30)
WEEKS_SINCE = 39


class Cdnow(NamedTuple):
    """What was known at the cut, and the purchases until then by day."""

    known: Customers
    spent: Floats
    repeat_spent: Floats
    """Without the first day."""
    past: Past


def _by_day(*, after: bool) -> dict[int, dict[date, float]]:
    days: dict[int, dict[date, float]] = defaultdict(lambda: defaultdict(float))
    for purchase in purchases():
        if (purchase.day > CUT) == after:
            days[purchase.customer][purchase.day] += float(purchase.dollars)
    return days


@cache
def cdnow() -> Cdnow:
    """Return the customers in the order of the file."""
    before, since = _by_day(after=False), _by_day(after=True)
    days = [sorted(before[it]) for it in sorted(before)]

    def each(of: dict[int, dict[date, float]]) -> Iterator[dict[date, float]]:
        return (of[it] for it in sorted(before))

    known = Customers.of(
        [len(it) - 1 for it in days],
        [(it[-1] - it[0]).days / 7 for it in days],
        [(CUT - it[0]).days / 7 for it in days],
    )
    spent = np.array([sum(it.values()) for it in each(before)])
    first = np.array([it[min(it)] for it in each(before)])
    past = Past(
        known,
        spent,
        np.array([float((CUT - it[-1]).days) for it in days]),
        np.array([float(len(it)) for it in each(since)]),
        np.array([sum(it.values()) for it in each(since)]),
    )
    return Cdnow(known, spent, spent - first, past)
