"""The segment rules in Python equal the table that states them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.core.segment_rules import Facts, Precedence, Segment, SegmentSettings, segment_of

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DEFAULT = SegmentSettings()
VALUE_FIRST = SegmentSettings(precedence=Precedence.VALUE_FIRST)
TICK = timedelta(microseconds=1)
CENT = Decimal("0.01")


def naive(  # noqa: PLR0911  one return per line of the table
    facts: Facts, settings: SegmentSettings, now: datetime
) -> str:
    """Return the segment, by the table written as plainly as possible."""
    orders, spent, last = facts
    age = None if last is None else now - last
    inactive = age is not None and age >= timedelta(days=settings.inactive_days)
    at_risk = age is not None and age >= timedelta(days=settings.at_risk_days)
    vip = orders >= settings.vip_order_count or spent >= settings.vip_total_spent
    new = orders <= 1
    if settings.precedence == "recency_first":
        if inactive:
            return "inactive"
        if at_risk:
            return "at_risk"
        if vip:
            return "vip"
        return "new" if new else "returning"
    if new:
        return "new"
    if vip:
        return "vip"
    if inactive:
        return "inactive"
    return "at_risk" if at_risk else "returning"


def around_the_edges(settings: SegmentSettings, now: datetime) -> Iterator[Facts]:
    """Return all combinations of facts one step before, at and after each limit."""
    dates = [
        None,
        now,
        *(
            now - timedelta(days=days) + step * TICK
            for days in (settings.at_risk_days, settings.inactive_days)
            for step in (-1, 0, 1)
        ),
    ]
    count = settings.vip_order_count
    for orders in sorted({0, 1, 2, 3, max(0, count - 1), count, count + 1}):
        for spent in (
            Decimal(0),
            max(Decimal(0), settings.vip_total_spent - CENT),
            settings.vip_total_spent,
            settings.vip_total_spent + CENT,
        ):
            for last in dates:
                if (orders == 0) == (last is None):
                    yield Facts(orders, spent, last)


all_settings = st.builds(
    lambda count, cents, at_risk, more, precedence: SegmentSettings(
        vip_order_count=count,
        vip_total_spent=Decimal(cents) / 100,
        at_risk_days=at_risk,
        inactive_days=at_risk + more,
        precedence=precedence,
    ),
    st.integers(1, 6),
    st.integers(0, 100_000),
    st.integers(1, 400),
    st.integers(1, 400),
    st.sampled_from(Precedence),
)


@pytest.mark.parametrize(
    ("orders", "spent", "days", "recency_first", "value_first"),
    [
        (0, 0, None, "new", "new"),
        (1, 20, 0, "new", "new"),
        (1, 499.99, 59, "new", "new"),
        (1, 500, 0, "vip", "new"),
        (1, 20, 60, "at_risk", "new"),
        (1, 20, 90, "inactive", "new"),
        (2, 499.99, 59, "returning", "returning"),
        (2, 500, 59, "vip", "vip"),
        (3, 30, 0, "vip", "vip"),
        (2, 40, 60, "at_risk", "at_risk"),
        (2, 40, 89, "at_risk", "at_risk"),
        (2, 40, 90, "inactive", "inactive"),
        (3, 600, 60, "at_risk", "vip"),
        (3, 600, 90, "inactive", "vip"),
    ],
)
def test_each_row_of_the_table_holds(
    orders: int, spent: float, days: int | None, recency_first: str, value_first: str
) -> None:
    last = None if days is None else NOW - timedelta(days=days)
    facts = Facts(orders, Decimal(str(spent)), last)
    assert segment_of(facts, DEFAULT, NOW) == recency_first
    assert segment_of(facts, VALUE_FIRST, NOW) == value_first


@given(all_settings)
def test_the_rules_equal_the_plain_reading_around_every_limit(settings: SegmentSettings) -> None:
    for facts in around_the_edges(settings, NOW):
        assert segment_of(facts, settings, NOW) == naive(facts, settings, NOW), facts


@given(
    all_settings,
    st.integers(1, 10),
    st.integers(0, 200_000),
    st.timedeltas(timedelta(), timedelta(days=900)),
)
def test_the_rules_equal_the_plain_reading_for_any_facts(
    settings: SegmentSettings, orders: int, cents: int, age: timedelta
) -> None:
    facts = Facts(orders, Decimal(cents) / 100, NOW - age)
    assert segment_of(facts, settings, NOW) == naive(facts, settings, NOW)


def test_a_day_is_24_hours_even_when_the_clocks_change() -> None:
    now = datetime(2026, 11, 2, 12, tzinfo=UTC)  # America/New_York fell back on the 1st
    facts = Facts(2, Decimal(1), now - timedelta(hours=60 * 24))
    assert segment_of(facts, DEFAULT, now) is Segment.AT_RISK
    assert segment_of(facts, DEFAULT, now - TICK) is Segment.RETURNING


def test_the_defaults_are_those_of_the_contract() -> None:
    assert DEFAULT.model_dump() == {
        "vip_order_count": 3,
        "vip_total_spent": Decimal(500),
        "at_risk_days": 60,
        "inactive_days": 90,
        "auto_segmentation": True,
        "precedence": "recency_first",
        "count_from": "placed",
        "count_free_orders": True,
        "time_zone": "UTC",
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"at_risk_days": 90},
        {"inactive_days": 60},
        {"at_risk_days": 0},
        {"vip_order_count": 0},
        {"vip_total_spent": -1},
        {"vip_total_spent": "NaN"},
        {"vip_total_spent": "0.001"},
        {"precedence": "luck_first"},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SegmentSettings.model_validate(wrong)


def test_each_segment_has_the_label_that_staff_read() -> None:
    labels = [segment.label for segment in Segment]
    assert labels == ["New", "Returning", "VIP", "At Risk", "Inactive"]
