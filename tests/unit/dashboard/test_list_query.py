"""The days that the list's date filter means, and what they are compared with."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from service.core.store_days import beginning_of
from service.db.statistics.counters import Window
from service.db.store_clock import StoreClock
from service.http.dashboard.list_query import ListQuery

BERLIN = ZoneInfo("Europe/Berlin")


def clock(now: str, zone: ZoneInfo = BERLIN) -> StoreClock:
    return StoreClock(datetime.fromisoformat(now), zone)


@pytest.mark.parametrize(
    ("span", "first", "after"),
    [
        ("today", "2026-11-01", "2026-11-02"),
        ("yesterday", "2026-10-31", "2026-11-01"),
        ("last-7", "2026-10-26", "2026-11-02"),
        ("last-30", "2026-10-03", "2026-11-02"),
        ("this-month", "2026-11-01", "2026-11-02"),
        ("last-month", "2026-10-01", "2026-11-01"),
    ],
)
def test_today_and_months_are_those_of_the_store(span: str, first: str, after: str) -> None:
    """In Berlin, November has begun. In UTC it has not."""
    window = ListQuery.read({"span": span}).window(clock("2026-10-31T23:30:00+00:00"))
    assert window
    assert window[:2] == (
        beginning_of(date.fromisoformat(first), BERLIN),
        beginning_of(date.fromisoformat(after), BERLIN),
    )


@pytest.mark.parametrize(
    ("query", "now", "start_before"),
    [
        # The day before had 25 hours, and this one has 24.
        ({"span": "today"}, "2026-10-26T12:00:00Z", "2026-10-25"),
        # The day before had 23 hours.
        ({"span": "yesterday"}, "2026-03-31T12:00:00Z", "2026-03-29"),
        ({"span": "last-7"}, "2026-11-01T12:00:00Z", "2026-10-19"),
        ({"span": "last-month"}, "2026-11-15T12:00:00Z", "2026-09-01"),
        ({"span": "last-month"}, "2026-03-15T12:00:00Z", "2026-01-01"),
        (
            {"span": "custom", "from": "2026-10-26", "to": "2026-10-27"},
            "2026-11-15T12:00:00Z",
            "2026-10-24",
        ),
    ],
)
def test_days_are_compared_with_as_many_days_and_a_month_with_a_month(
    query: dict[str, str], now: str, start_before: str
) -> None:
    window = ListQuery.read(query).window(clock(now))
    assert window
    assert window.before[:2] == (
        beginning_of(date.fromisoformat(start_before), BERLIN),
        window.start,
    )


def test_a_rolling_window_is_compared_with_as_many_hours() -> None:
    now = datetime(2026, 10, 26, 12, tzinfo=UTC)
    day = timedelta(days=1)
    assert Window(now - day, now, "day").before == Window(now - 2 * day, now - day)


@pytest.mark.parametrize(
    ("query", "since", "then"),
    [
        ({}, "in 30 days", "30 days ago"),
        ({"segment": "vip"}, "in 30 days", "30 days ago"),
        ({"span": "today"}, "so far, from the day before", "the day before"),
        ({"span": "yesterday"}, "from the day before", "the day before"),
        ({"span": "last-7"}, "so far, from the 7 days before", "in the 7 days before"),
        ({"span": "last-month"}, "from the month before", "in the month before"),
        ({"span": "this-month"}, "so far, from the 15 days before", "in the 15 days before"),
        (
            {"span": "custom", "from": "2026-10-01", "to": "2026-10-10", "q": "jane"},
            "from the 10 days before",
            "in the 10 days before",
        ),
    ],
)
def test_the_words_of_a_comparison_say_with_what(
    query: dict[str, str], since: str, then: str
) -> None:
    assert ListQuery.read(query).compared(date(2026, 11, 15)) == (since, then)


@pytest.mark.parametrize("query", [{"q": "jane"}, {"span": "custom", "to": "2026-11-01"}])
def test_a_search_and_days_without_a_beginning_are_compared_with_nothing(
    query: dict[str, str],
) -> None:
    assert ListQuery.read(query).compared(date(2026, 11, 15)) is None
