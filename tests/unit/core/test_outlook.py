"""When predictions are made, and how far they can be trusted."""

from datetime import UTC, datetime

import pytest

from service.core.outlook import (
    Band,
    Compared,
    Gate,
    HoldOut,
    Lacking,
    Stage,
    Verdict,
    chance_range,
    verdict_of,
)

ENOUGH = Gate(customers=500, repeaters=100, history_days=180, silent_days=30)


@pytest.mark.parametrize(
    ("less", "lacking"),
    [
        ({}, []),
        ({"customers": 499}, [Lacking.CUSTOMERS]),
        ({"repeaters": 99}, [Lacking.REPEATERS]),
        ({"history_days": 179.9}, [Lacking.HISTORY]),
        ({"silent_days": 30.1}, [Lacking.RECENT]),
        ({"customers": 0, "repeaters": 0}, [Lacking.CUSTOMERS, Lacking.REPEATERS]),
    ],
)
def test_what_a_shop_lacks(less: dict[str, float], lacking: list[Lacking]) -> None:
    assert ENOUGH.model_copy(update=less).lacking == lacking


def held_out(orders: tuple[float, float], band: tuple[float, float]) -> HoldOut:
    """Return a test with these orders and one band, each said and come."""
    same = Compared(said=1, came=1)
    return HoldOut(
        begun_at=datetime(2026, 8, 1, tzinfo=UTC),
        days=90.5,
        customers=1000,
        buyers=same,
        orders=Compared(said=orders[0], came=orders[1]),
        revenue=same,
        ranked_right=0.7,
        ranked_right_by_rules=0.6,
        ranked_right_by_recency=0.65,
        brier=0.1,
        bands=[Band(lowest=0, highest=1, customers=1000, said=band[0], came=band[1])],
        stages=[Stage(stage="active", customers=1000, came=1)],
    )


@pytest.mark.parametrize(
    ("orders", "band", "verdict"),
    [
        ((109, 100), (0.329, 0.30), Verdict.GOOD),
        ((91, 100), (0.28, 0.30), Verdict.GOOD),
        ((111, 100), (0.30, 0.30), Verdict.FAIR),
        ((100, 100), (0.335, 0.30), Verdict.FAIR),
        ((126, 100), (0.30, 0.30), Verdict.POOR),
        ((100, 100), (0.37, 0.30), Verdict.POOR),
        ((5, 0), (0.30, 0.30), Verdict.POOR),
    ],
)
def test_the_verdict(
    orders: tuple[float, float], band: tuple[float, float], verdict: Verdict
) -> None:
    found = held_out(orders, band)
    assert verdict_of(found) is verdict
    assert verdict.shows_money is (verdict is not Verdict.POOR)
    assert HoldOut.model_validate_json(found.model_dump_json()) == found


def test_without_a_test_no_money_is_shown() -> None:
    assert verdict_of(None) is Verdict.UNTESTED
    assert not Verdict.UNTESTED.shows_money


def test_chance_explains_a_small_difference_and_not_a_large_one() -> None:
    band = Band(lowest=0.2, highest=0.35, customers=100, said=0.25, came=0.33)
    assert band.range == pytest.approx((0.165, 0.335), abs=0.001)
    assert band.explained
    assert not band.model_copy(update={"came": 0.34}).explained
    assert chance_range(0.0, 50) == (0.0, 0.02)
    assert chance_range(0.5, 0) == (0.0, 1.0)
