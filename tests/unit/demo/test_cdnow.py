"""The data equals the published sample, and its calendar is moved to end just before now."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from service.demo.cdnow import purchases
from service.demo.dates import (
    CALENDAR_NOTE,
    HEADROOM,
    SHOWN_DAYS,
    days_before_the_last,
    end_of_history,
    shown_purchases,
)

FIRST_DAY, LAST_DAY = date(1997, 1, 1), date(1998, 6, 30)
TODAY = datetime(2026, 11, 22, 10, tzinfo=UTC)
DAYS = [FIRST_DAY + timedelta(days=n) for n in range((LAST_DAY - FIRST_DAY).days + 1)]


def test_the_sample_is_complete() -> None:
    assert len(purchases()) == 6_919
    assert {purchase.customer for purchase in purchases()} == set(range(1, 2_358))
    assert sum(purchase.dollars for purchase in purchases()) == Decimal("244091.94")
    assert sum(purchase.dollars == 0 for purchase in purchases()) == 8
    assert {purchase.day for purchase in purchases()} <= set(DAYS)
    first = purchases()[0]
    assert first == (1, 1, date(1997, 1, 1), 2, Decimal("29.33"))


def test_equal_lines_are_different_purchases() -> None:
    assert max(Counter(purchase[1:] for purchase in purchases()).values()) > 1
    assert [purchase.line for purchase in purchases()] == list(range(1, 6_920))


def test_each_customer_keeps_their_pace_and_arrives_on_a_day_of_their_own() -> None:
    shown, first, seen = days_before_the_last(), dict[int, date](), dict[int, int]()
    for purchase in purchases():
        first[purchase.customer] = min(purchase.day, first.get(purchase.customer, LAST_DAY))
    for purchase in shown_purchases():
        since = (purchase.day - first[purchase.customer]).days
        arrived = shown[purchase.line] + since
        assert seen.setdefault(purchase.customer, arrived) == arrived
    assert len(seen) == 2_357
    assert len(shown) == len(shown_purchases()) == 5_308
    assert set(shown.values()) == set(range(SHOWN_DAYS))
    a_month = Counter(arrived // 30 for arrived in seen.values())
    assert all(125 <= a_month[month] <= 135 for month in range(SHOWN_DAYS // 30))


def test_the_shop_looks_like_one_of_today() -> None:
    end = end_of_history(TODAY)
    assert end == TODAY - HEADROOM <= TODAY - timedelta(seconds=10)
    last = dict[int, int]()
    for purchase in shown_purchases():
        days = days_before_the_last()[purchase.line]
        last[purchase.customer] = min(days, last.get(purchase.customer, days))
    silent = Counter((days >= 60) + (days >= 90) for days in last.values())
    assert silent[2] == pytest.approx(1_646, abs=5)
    assert silent[1] == pytest.approx(183, abs=5)


def test_the_calendar_note_states_the_number_of_days() -> None:
    assert CALENDAR_NOTE.startswith("Customers arrive over the last 545 days.")
