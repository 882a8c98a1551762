"""Days of a time zone: each moment belongs to one. Changes of clocks alter their length."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.store_days import beginning_of, day_of
from service.core.time_zones import time_zone_names, zone_of

_TICK = timedelta(microseconds=1)
_SINCE, _UNTIL = date(2012, 1, 1), date(2037, 12, 31)
"""Clocks in Newfoundland went back over midnight until 2011, so one date came twice in a night."""


@given(st.sampled_from(sorted(time_zone_names())), st.dates(_SINCE, _UNTIL))
def test_a_day_begins_where_its_date_begins(name: str, day: date) -> None:
    zone = zone_of(name)
    begins = beginning_of(day, zone)
    assert begins.tzinfo is UTC
    assert day_of(begins, zone) == day
    assert day_of(begins - _TICK, zone) == day - timedelta(days=1)
    assert day_of(beginning_of(day + timedelta(days=1), zone) - _TICK, zone) == day


def test_a_day_begins_where_its_date_begins_also_when_clocks_change() -> None:
    """Hypothesis seldom meets a day with a change. 2026 has one in every zone that has any."""
    days = [date(2026, 1, 1) + timedelta(days=n) for n in range(366)]
    for name in sorted(time_zone_names()):
        zone = zone_of(name)
        begins = [beginning_of(day, zone) for day in days]
        for day, start, end in zip(days, begins, begins[1:], strict=False):
            if end - start != timedelta(days=1):
                assert day_of(start, zone) == day_of(end - _TICK, zone) == day, name
                assert day_of(end, zone) == day + timedelta(days=1), name


@pytest.mark.parametrize(
    ("name", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
        ("Africa/Cairo", date(2026, 4, 24), 23),
        ("America/Havana", date(2025, 11, 2), 25),
        ("Pacific/Apia", date(2011, 12, 30), 0),
        ("Asia/Kathmandu", date(2026, 3, 29), 24),
    ],
)
def test_a_day_has_as_many_hours_as_its_clocks_show(name: str, day: date, hours: float) -> None:
    zone = zone_of(name)
    length = beginning_of(day + timedelta(days=1), zone) - beginning_of(day, zone)
    assert length == timedelta(hours=hours)


def test_a_day_that_begins_at_one_o_clock_begins_at_the_change() -> None:
    """Cairo puts its clocks forward at midnight, and Havana puts them back to midnight."""
    assert beginning_of(date(2026, 4, 24), ZoneInfo("Africa/Cairo")) == datetime(
        2026, 4, 23, 22, tzinfo=UTC
    )
    assert beginning_of(date(2025, 11, 2), ZoneInfo("America/Havana")) == datetime(
        2025, 11, 2, 4, tzinfo=UTC
    )
