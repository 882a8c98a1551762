"""Explain in words why a customer is in a segment and what would change it.

The API and the dashboard show these texts.
"""

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from typing import NamedTuple, Protocol

from service.core.counting import NotCounted, not_counted_in_words
from service.core.segment_rules import (
    OTHERWISE,
    RULES,
    Comparison,
    Facts,
    Segment,
    SegmentSettings,
    segment_of,
)
from service.core.store_days import day_of


class Notation(Protocol):
    """How the reader of a text writes numbers, amounts and dates."""

    def number(self, value: int) -> str:
        """Write a count."""

    def money(self, amount: Decimal) -> str:
        """Write an amount with its cents."""

    def round_money(self, amount: Decimal) -> str:
        """Write an amount, without cents when it has none."""

    def day(self, moment: datetime) -> str:
        """Write the date of a moment."""


@dataclass(frozen=True)
class PlainNotation:
    """The API's notation: English digits, no currency, ISO dates of the store's days."""

    zone: tzinfo

    def number(self, value: int) -> str:
        """Write a count."""
        return str(value)

    def money(self, amount: Decimal) -> str:
        """Write an amount with its cents."""
        return f"{amount:,.2f}"

    def round_money(self, amount: Decimal) -> str:
        """Write an amount, without cents when it has none."""
        return self.money(amount).removesuffix(".00")

    def day(self, moment: datetime) -> str:
        """Write the date of a moment."""
        return day_of(moment, self.zone).isoformat()


class Fit(NamedTuple):
    """A segment whose rule holds, and why."""

    segment: Segment
    because: str
    """A clause that follows "because": "they spent $612.00 (VIP from $500)"."""


class Need(NamedTuple):
    """The orders or the spending that a customer still lacks for a segment."""

    segment: Segment
    orders: int
    amount: Decimal
    text: str
    """The words after the segment's name: "with 1 more order, or $130.50 more spent"."""


class Step(NamedTuple):
    """A change of segment that will come with time alone."""

    segment: Segment
    at: datetime
    text: str
    """The words after the segment's name: "on Jan 21, 2027 unless they order"."""


@dataclass(frozen=True)
class Explanation:
    """The segment that the rules give a customer, and what would change it.

    Segments set by hand are ignored.
    """

    by_rules: Fit
    fits: list[Fit]
    """Every rule that holds, also those that come after the one that wins."""
    needs: list[Need]
    upcoming: list[Step]
    after_next_order: Segment
    """The segment after one more order, placed at this moment."""
    not_counted: str
    """How many of their orders do not count, and why: whole sentences. Empty if all count."""


def explain(
    facts: Facts,
    settings: SegmentSettings,
    now: datetime,
    notation: Notation,
    not_counted: Mapping[NotCounted, int],
) -> Explanation:
    """Return why the rules give a customer their segment, and what would change it.

    ``not_counted`` has the number of their orders that do not count, by the reason.
    """
    segment = segment_of(facts, settings, now)
    limits = settings.limits(now)
    return Explanation(
        by_rules=Fit(segment, because(segment, facts, settings, now, notation)),
        fits=[
            Fit(candidate, because(candidate, facts, settings, now, notation))
            for candidate in Segment
            if candidate != OTHERWISE and RULES[candidate].holds(facts, limits)
        ],
        needs=list(_needs(facts, settings, now, notation)),
        upcoming=list(_upcoming(facts, settings, now, notation)),
        after_next_order=segment_of(
            Facts(facts.total_orders + 1, facts.total_spent, now), settings, now
        ),
        not_counted=not_counted_in_words(not_counted),
    )


def because(
    segment: Segment, facts: Facts, settings: SegmentSettings, now: datetime, notation: Notation
) -> str:
    """Return why a segment's rule holds, naming only those of its conditions that are met."""
    if segment == OTHERWISE:
        return "they have ordered more than once, and no other rule fits"
    limits = settings.limits(now)
    met = [
        _condition(segment, comparison, facts, settings, now, notation)
        for comparison in RULES[segment].any_of
        if comparison.holds(facts, limits)
    ]
    return "they " + " and ".join(met)


def _condition(
    segment: Segment,
    comparison: Comparison,
    facts: Facts,
    settings: SegmentSettings,
    now: datetime,
    notation: Notation,
) -> str:
    """Write the fact that meets a condition, and the limit that it reaches."""
    value = getattr(facts, comparison.fact)
    limit = getattr(settings.limits(now), comparison.limit)
    if comparison.fact == "last_order_date":
        age, days = _counted((now - value).days, "day", notation), (now - limit).days
        return f"placed their last order {age} ago ({segment.label} after {notation.number(days)})"
    if comparison.fact == "total_spent":
        least = notation.round_money(limit)
        return f"spent {notation.money(value)} ({segment.label} from {least})"
    if value == 0:
        return "have not ordered yet"
    orders = _counted(value, "order", notation)
    if comparison.op is operator.le:
        return f"placed only {orders}"
    return f"placed {orders} ({segment.label} from {notation.number(limit)})"


def _needs(
    facts: Facts, settings: SegmentSettings, now: datetime, notation: Notation
) -> Iterator[Need]:
    if segment_of(facts, settings, now) == Segment.VIP:
        return
    orders = max(settings.vip_order_count - facts.total_orders, 1)
    amount = max(settings.vip_total_spent - facts.total_spent, Decimal(0))
    text = f"with {_counted(orders, 'more order', notation)}"
    if amount:
        text += f", or {notation.money(amount)} more spent"
    yield Need(Segment.VIP, orders, amount, text)


def _upcoming(
    facts: Facts, settings: SegmentSettings, now: datetime, notation: Notation
) -> Iterator[Step]:
    if facts.last_order_date is None:
        return
    current = segment_of(facts, settings, now)
    for age in _ages(settings, now):
        moment = facts.last_order_date + age
        then = segment_of(facts, settings, moment)
        if moment > now and then != current:
            yield Step(then, moment, f"on {notation.day(moment)} unless they order")
            current = then


def _ages(settings: SegmentSettings, now: datetime) -> list[timedelta]:
    """Return the ages of a last order at which a rule begins to hold, the youngest first."""
    limits = settings.limits(now)
    return sorted(
        now - getattr(limits, comparison.limit)
        for rule in RULES.values()
        for comparison in rule.any_of
        if comparison.fact == "last_order_date"
    )


def _counted(count: int, noun: str, notation: Notation) -> str:
    return f"{notation.number(count)} {noun if count == 1 else noun + 's'}"
