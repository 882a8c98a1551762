"""The words that explain a segment name only conditions that hold, with the limits in force."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.counting import NotCounted, why_not_counted
from service.core.segment_explanation import Explanation, PlainNotation, explain
from service.core.segment_rules import (
    OTHERWISE,
    RULES,
    Facts,
    Precedence,
    Segment,
    SegmentSettings,
    segment_of,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DEFAULT = SegmentSettings()


def explained(
    orders: int, spent: str, days: int | None, settings: SegmentSettings = DEFAULT
) -> Explanation:
    last = None if days is None else NOW - timedelta(days=days)
    return explain(Facts(orders, Decimal(spent), last), settings, NOW, PlainNotation(UTC), {})


@pytest.mark.parametrize(
    ("orders", "spent", "days", "because"),
    [
        (0, "0", None, "they have not ordered yet"),
        (1, "20", 3, "they placed only 1 order"),
        (1, "612", 3, "they spent 612.00 (VIP from 500)"),
        (4, "100.50", 3, "they placed 4 orders (VIP from 3)"),
        (3, "500", 3, "they placed 3 orders (VIP from 3) and spent 500.00 (VIP from 500)"),
        (2, "20", 3, "they have ordered more than once, and no other rule fits"),
        (2, "20", 60, "they placed their last order 60 days ago (At Risk after 60)"),
        (9, "900", 91, "they placed their last order 91 days ago (Inactive after 90)"),
    ],
)
def test_a_segment_is_explained_by_the_conditions_that_hold(
    orders: int, spent: str, days: int | None, because: str
) -> None:
    assert explained(orders, spent, days).by_rules.because == because


def test_limits_are_written_with_cents_only_when_they_have_some() -> None:
    settings = SegmentSettings(vip_total_spent=Decimal("19.99"), at_risk_days=1, inactive_days=2)
    assert explained(1, "20", 0, settings).by_rules.because == "they spent 20.00 (VIP from 19.99)"
    assert explained(1, "1", 1, settings).by_rules.because == (
        "they placed their last order 1 day ago (At Risk after 1)"
    )


def test_the_explanation_names_what_is_missing_and_what_time_will_change() -> None:
    why = explained(2, "379.50", 10)
    assert [(need.segment, need.text) for need in why.needs] == [
        (Segment.VIP, "with 1 more order, or 120.50 more spent")
    ]
    assert [(step.segment, step.text) for step in why.upcoming] == [
        (Segment.AT_RISK, "on 2027-01-11 unless they order"),
        (Segment.INACTIVE, "on 2027-02-10 unless they order"),
    ]
    assert why.after_next_order == Segment.VIP
    assert explained(3, "0", 10).needs == []


@given(
    orders=st.integers(0, 5),
    spent=st.decimals(0, 1000, places=2),
    age=st.none() | st.timedeltas(timedelta(0), timedelta(days=120)),
    precedence=st.sampled_from(Precedence),
)
def test_the_explanation_agrees_with_the_rules(
    orders: int, spent: Decimal, age: timedelta | None, precedence: Precedence
) -> None:
    facts = Facts(orders, spent, None if age is None else NOW - age)
    settings = SegmentSettings(precedence=precedence)
    why = explain(facts, settings, NOW, PlainNotation(UTC), {})
    assert why.by_rules.segment == segment_of(facts, settings, NOW)
    limits = settings.limits(NOW)
    assert [fit.segment for fit in why.fits] == [
        segment for segment in Segment if segment in RULES and RULES[segment].holds(facts, limits)
    ]
    if why.by_rules.segment != OTHERWISE:
        assert why.by_rules in why.fits
    for fit in why.fits:
        assert fit.because != "they "
    for step in why.upcoming:
        assert step.segment == segment_of(facts, settings, step.at)
        assert step.at > NOW


@pytest.mark.parametrize(
    ("orders", "words"),
    [
        ({}, ""),
        (
            {NotCounted.CANCELLED: 1},
            "1 order does not count: 1 cancelled.",
        ),
        (
            {NotCounted.CANCELLED: 1, NotCounted.FREE: 2},
            "3 orders do not count: 1 cancelled, 2 free. The settings do not count free orders.",
        ),
    ],
)
def test_orders_that_do_not_count_are_summed_up_with_the_setting_that_leaves_them_out(
    orders: dict[NotCounted, int], words: str
) -> None:
    facts = Facts(0, Decimal(0), None)
    why = explain(facts, SegmentSettings(), NOW, PlainNotation(UTC), orders)
    assert why.not_counted == words


def test_an_order_says_why_it_does_not_count() -> None:
    assert {reason: why_not_counted(reason) for reason in (*NotCounted, None)} == {
        "cancelled": "Does not count: cancelled.",
        "payment_failed": "Does not count: failed payment.",
        "refunded_in_full": "Does not count: refunded in full.",
        "unpaid": "Does not count: not paid yet. The settings count paid orders only.",
        "free": "Does not count: free. The settings do not count free orders.",
        None: "Does not count yet: orders are being counted again by the new settings.",
    }
