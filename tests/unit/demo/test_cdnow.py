"""The data equals the published sample, and its calendar is moved to end just before now."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from service.demo.cdnow import purchases
from service.demo.dates import (
    ARRIVAL_DAYS,
    CALENDAR_NOTE,
    FIRST_DAY,
    HEADROOM,
    LAST_DAY,
    SHOWN_DAYS,
    end_of_history,
    shown,
)

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


def test_every_customer_arrives_within_the_arrival_days() -> None:
    first: dict[int, date] = {}
    for purchase in purchases():
        first[purchase.customer] = min(purchase.day, first.get(purchase.customer, LAST_DAY))
    assert max(first.values()) == FIRST_DAY + timedelta(days=ARRIVAL_DAYS - 1)


def test_no_single_pace_shows_both_new_and_inactive_customers() -> None:
    last: dict[int, date] = {}
    for purchase in purchases():
        last[purchase.customer] = max(purchase.day, last.get(purchase.customer, FIRST_DAY))
    orders = Counter(purchase.customer for purchase in purchases())
    single = min((LAST_DAY - day).days for who, day in last.items() if orders[who] == 1)
    longest = max((LAST_DAY - day).days for day in last.values())
    assert single / 60 > longest / 90


def test_days_follow_each_other_without_a_gap_and_end_before_now() -> None:
    end = end_of_history(TODAY)
    assert end == TODAY - HEADROOM <= TODAY - timedelta(seconds=10)
    assert shown(FIRST_DAY, end)[0] == end - timedelta(days=SHOWN_DAYS)
    slots = [shown(day, end) for day in DAYS]
    following = [start for start, _ in slots[1:]] + [end]
    for (start, length), then in zip(slots, following, strict=True):
        assert abs(start + length - then) <= timedelta(microseconds=2)


def test_the_calendar_note_states_the_number_of_days() -> None:
    assert CALENDAR_NOTE.startswith("The 546 days of 1997-98 are shown as the last 117 days")
