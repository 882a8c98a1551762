"""A filter as people and programs write it: what is read, what is refused, and how it reads."""

from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from babel import Locale

from service.core.day_or_moment import parse_day_or_moment
from service.core.segment_rules import Segment
from service.db.customers.criteria import Control
from service.db.customers.customer_filter import CRITERIA, EVERYBODY, CustomerFilter
from service.db.customers.filter_reading import read_filter
from service.db.customers.filters import Filter
from service.db.store_clock import StoreClock
from service.http.dashboard.filter_form import CONTROLS, LABELS, USUAL
from service.http.dashboard.formats import Formats
from service.http.dashboard.list_query import ListQuery

BERLIN = ZoneInfo("Europe/Berlin")
NOW = StoreClock(datetime.fromisoformat("2026-11-01T23:30:00+00:00"), BERLIN)
"""In Berlin, it is the second of November."""
FORMATS = Formats(Locale("en", "US"), "USD", NOW)
ALL = {
    "segment": "vip,new",
    "dateFrom": "2026-01-01",
    "dateTo": "2026-01-31T10:00:00Z",
    "createdWithin": "7",
    "lastOrderBefore": "30",
    "lapsesWithin": "14",
    "ordersFrom": "1",
    "spentTo": "99.50",
    "averageFrom": "20",
    "emailOptIn": "yes",
    "hasPhone": "no",
    "city": "Austin",
    "country": "US,DE",
    "currency": "EUR",
}


def test_an_address_and_stored_json_hold_the_same_filter() -> None:
    read, wrong = read_filter({name: [value] for name, value in ALL.items()})
    assert wrong == {}
    assert read.query == ALL
    assert CustomerFilter.model_validate(read.stored) == read
    assert read_filter({})[0] == EVERYBODY


def test_several_values_are_repeated_or_separated_by_commas() -> None:
    for written in (["vip,new"], ["vip", "new"], [" vip , new,", "vip"]):
        assert read_filter({"segment": written})[0].query == {"segment": "vip,new"}
    assert CustomerFilter.model_validate({"currency": ["eur", "EUR,usd"]}).currency == [
        "EUR",
        "USD",
    ]


@pytest.mark.parametrize(
    ("name", "written", "why"),
    [
        ("ordersFrom", "many", "Enter a whole number."),
        ("ordersFrom", "1.5", "Enter a whole number."),
        ("ordersTo", "-1", "Enter 0 or more."),
        ("createdWithin", "0", "Enter 1 or more."),
        ("lapsesWithin", "40000", "Enter 36,500 or less."),
        ("spentFrom", "ten", "Enter an amount, such as 100 or 99.50."),
        ("spentFrom", "NaN", "Enter an amount, such as 100 or 99.50."),
        ("averageTo", "1e400", "Enter 1,000,000,000,000 or less."),
        ("lastOrderTo", "soon", "This is not ISO 8601; write 2026-11-22 or 2026-11-22T10:00:00Z."),
        ("emailOptIn", "maybe", "Choose yes or no."),
        ("segment", "vip,best", "Choose one of the segments."),
        ("currency", "euro", "Enter the three letters of a currency, such as EUR."),
        ("city", "x" * 101, "Enter at most 100 characters."),
        ("city", ",".join(map(str, range(51))), "Enter at most 50 of them."),
    ],
)
def test_a_wrong_value_is_told_and_the_other_filters_stay(
    name: str, written: str, why: str
) -> None:
    read, wrong = read_filter({"hasEmail": ["yes"], name: [written]})
    assert read.query == {"hasEmail": "yes"}
    assert wrong == {name: (written, why)}
    page = ListQuery.read({"hasEmail": "yes", name: written})
    assert page.wrong == wrong
    assert ListQuery.read({"without": name, "hasEmail": "yes", name: written}).wrong == {}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("dateFrom", "2026-01-01", "Created from Jan 1, 2026"),
        ("dateTo", "2026-01-31T10:00:00Z", "Created until Jan 31, 2026, 11:00:00\u202fAM"),
        ("createdWithin", "7", "Created in the last 7 days"),
        ("firstOrderBefore", "1", "First order more than 1 day ago"),
        ("lapsesWithin", "1400", "At risk or inactive within 1,400 days without an order"),
        ("ordersTo", "3", "Orders: 3 or fewer"),
        ("spentFrom", "1000", "Spent $1,000.00 or more"),
        ("emailOptIn", "no", "Has not agreed to e-mail"),
        ("hasEmail", "yes", "Has an e-mail"),
        ("country", "US,DE", "Country: US or DE"),
    ],
)
def test_a_chip_says_what_is_filtered(name: str, value: str, words: str) -> None:
    chosen, _ = read_filter({name: [value]})
    assert ListQuery(chosen).chips(FORMATS) == [(name, words)]


def test_every_filter_has_a_control_and_words_for_each_of_its_values() -> None:
    shown = {field.name for fields in CONTROLS.values() for field in fields}
    assert shown == LABELS.keys() - {"segment", "dateFrom", "dateTo"}
    assert len(USUAL) == 6
    for criterion in CRITERIA.values():
        assert (criterion.negation != "") == (criterion.control is Control.YES_NO)
        assert ("{}" in criterion.words) == (criterion.control is not Control.YES_NO)


def test_days_are_those_of_the_store_and_before_is_the_opposite_of_within() -> None:
    def bound(**written: object) -> object:
        (condition,) = CustomerFilter.model_validate(written).chosen(NOW).conditions
        return next(iter(condition.parameters.values()))

    today = datetime.fromisoformat("2026-11-02T00:00:00+01:00")
    assert bound(lastOrderWithin=1) == bound(lastOrderBefore=1) == today
    assert bound(lastOrderFrom="2026-11-02") == bound(lastOrderTo="2026-11-01") == today
    assert bound(createdWithin=9) == datetime.fromisoformat("2026-10-25T00:00:00+02:00")


def test_days_in_an_address_are_those_of_the_pages_own_control() -> None:
    page = ListQuery.read({"dateFrom": "2026-01-01", "dateTo": "2026-01-31"})
    assert page.address == "/?span=custom&from=2026-01-01&to=2026-01-31"
    moment = ListQuery.read({"dateFrom": "2026-01-01T10:00:00Z"})
    assert moment.address == "/?dateFrom=2026-01-01T10%3A00%3A00Z"
    assert moment.filter(NOW).date_from == datetime.fromisoformat("2026-01-01T10:00:00+00:00")


def test_the_database_gets_the_names_of_filters_for_the_audit_and_no_values_of_others() -> None:
    chosen = CustomerFilter(segment=[Segment.VIP], spent_from=Decimal(5)).chosen(NOW)
    assert chosen.names == ["segment", "spentFrom"]
    assert Filter().names == []
    assert not chosen.only_by_segment
    assert parse_day_or_moment("2026-11-22T10:00:00+02:00").__str__() == "2026-11-22T08:00:00Z"
