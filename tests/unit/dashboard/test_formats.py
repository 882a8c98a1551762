"""Amounts as the reader writes them, dates as the store's calendar has them."""

from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from babel import Locale

from service.db.store_clock import StoreClock
from service.http.dashboard.formats import Formats


@pytest.mark.parametrize(
    ("locale", "amount", "written"),
    [
        ("en_US", "500.00", "$500"),
        ("en_US", "1500", "$1,500"),
        ("en_US", "19.99", "$19.99"),
        ("de_DE", "1500.00", "1.500\xa0$"),
        ("ja_JP", "500", "$500"),
    ],
)
def test_a_round_amount_is_written_without_cents(locale: str, amount: str, written: str) -> None:
    formats = Formats(Locale.parse(locale), "USD", None)
    assert formats.round_money(Decimal(amount)) == written


@pytest.mark.parametrize(
    ("zone", "day", "time"),
    [
        ("Europe/Berlin", "Nov 1, 2026", "12:30:00\u202fAM"),
        ("America/Chicago", "Oct 31, 2026", "6:30:00\u202fPM"),
        ("Asia/Kathmandu", "Nov 1, 2026", "5:15:00\u202fAM"),
    ],
)
def test_a_moment_is_shown_in_the_stores_zone(zone: str, day: str, time: str) -> None:
    moment = datetime(2026, 10, 31, 23, 30, tzinfo=UTC)
    formats = Formats(Locale.parse("en_US"), "USD", StoreClock(moment, ZoneInfo(zone)))
    assert formats.day(moment) == day
    assert formats.moment(moment) == f"{day}, {time}"
    assert formats.day(date(2026, 10, 31)) == "Oct 31, 2026", "a date has no zone"


def test_a_page_that_has_not_read_the_zone_cannot_show_a_moment() -> None:
    formats = Formats(Locale.parse("en_US"), "USD", None)
    with pytest.raises(LookupError, match="store_clock"):
        formats.day(datetime(2026, 10, 31, tzinfo=UTC))
