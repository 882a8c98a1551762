"""What is expected agrees with simulated customers, with closed forms, and with common sense."""

from typing import NamedTuple

import numpy as np
import pytest
from scipy.special import hyp2f1

from service.insight.arrays import Customers, Floats
from service.insight.buying import Buying, fit_buying
from service.insight.expectation import (
    alive,
    chance,
    expected_orders,
    orders_if_alive,
    waits,
)
from service.insight.spending import Spending, fit_spending, mean_value

SHOP = Buying(r=0.8, alpha=60.0, a=0.7, b=2.2, late=0)
UNTIL, SINCE = 300.0, 90.0


class Simulated(NamedTuple):
    """Customers of a made-up shop, and on how many days they ordered since."""

    known: Customers
    came: Floats


def simulated(shop: Buying, number: int, seed: int) -> Simulated:
    """Let customers order and leave at random, as the model says they do."""
    rng = np.random.default_rng(seed)
    rate = rng.gamma(shop.r, 1 / shop.alpha, number)
    leaves = rng.beta(shop.a, shop.b, number)
    age = rng.uniform(30, UNTIL, number)
    repeats, recency, came = np.zeros(number), np.zeros(number), np.zeros(number)
    last = np.zeros(number)
    there = np.ones(number, bool)
    if shop.late:
        there &= rng.random(number) > leaves
    while there.any():
        last = last + rng.exponential(1 / np.maximum(rate, 1e-12))
        there &= last <= age + SINCE
        before = there & (last <= age)
        repeats += before
        recency = np.where(before, last, recency)
        came += there & ~before
        there &= rng.random(number) > leaves
    return Simulated(Customers.of(repeats, recency, age), came)


@pytest.mark.parametrize("late", [0, 1])
def test_simulated_customers_do_what_is_expected(late: int) -> None:
    shop = Buying(SHOP.r, SHOP.alpha, SHOP.a, SHOP.b, late)
    known, came = simulated(shop, 60_000, seed=late)
    said = chance(shop, known, SINCE)
    assert said.sum() == pytest.approx(np.count_nonzero(came), rel=0.05)
    assert expected_orders(shop, known, SINCE).sum() == pytest.approx(came.sum(), rel=0.05)
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 1.0)):
        inside = (said >= low) & (said < high)
        assert said[inside].mean() == pytest.approx((came[inside] > 0).mean(), abs=0.02)


def test_a_fit_finds_the_shop_that_was_simulated() -> None:
    known, came = simulated(SHOP, 5_000, seed=5)
    found = fit_buying(known)
    assert found.settled
    assert found.buying.r == pytest.approx(SHOP.r, rel=0.25)
    assert expected_orders(found.buying, known, SINCE).sum() == pytest.approx(came.sum(), rel=0.08)


def test_spending_finds_the_shop_that_was_simulated() -> None:
    rng = np.random.default_rng(3)
    shop = Spending(p=6.0, q=4.0, v=16.0)
    days = rng.integers(1, 8, 4_000).astype(np.float64)
    rate = rng.gamma(shop.q, 1 / shop.v, len(days))
    spent = rng.gamma(shop.p * days) / rate
    found = fit_spending(days, spent)
    assert found.settled
    assert found.spending.mean == pytest.approx(shop.mean, rel=0.05)
    assert mean_value(found.spending, days, spent) == pytest.approx(
        mean_value(shop, days, spent), rel=0.05
    )


def test_who_spent_nothing_is_expected_to_spend_what_everybody_does() -> None:
    shop = Spending(p=6.0, q=4.0, v=16.0)
    assert mean_value(shop, np.array([5.0]), np.array([0.0])) == pytest.approx([shop.mean])


def test_constant_prices_are_predicted() -> None:
    days = np.arange(1.0, 400.0)
    found = fit_spending(days, days * 20.0)
    assert not found.settled
    assert mean_value(found.spending, days, days * 20.0) == pytest.approx(20.0, rel=0.01)


@pytest.mark.parametrize("a", [1.2, 1.5, 3.0, 12.0])
def test_the_quadrature_is_the_closed_form_where_that_is_known(a: float) -> None:
    shop, days = Buying(0.7, 40.0, a, 2.3, 0), 365.0
    known = Customers.of([0.0, 1.0, 6.0, 30.0], [0.0] * 4, [10.0, 200.0, 400.0, 900.0])
    rate, there, b = shop.r + known.repeats, shop.alpha + known.age, shop.b + known.repeats
    series = hyp2f1(rate, b, a + b - 1, days / (there + days))
    closed = (a + b - 1) / (a - 1) * (1 - (there / (there + days)) ** rate * series)
    assert orders_if_alive(shop, known, days) == pytest.approx(closed, rel=1e-8)


def _extreme(rng: np.random.Generator) -> tuple[Buying, Customers]:
    r, alpha, a, b = (float(it) for it in np.exp(rng.uniform(-7, 10, 4)))
    shop = Buying(r, alpha, a, b, int(rng.integers(2)))
    age = rng.choice([0.0, 0.5, 30.0, 3000.0], 10) * rng.random(10)
    repeats = rng.choice([0.0, 1.0, 3.0, 40.0, 900.0], 10)
    return shop, Customers.of(repeats, age * rng.random(10), age)


def test_3000_extremes_are_finite_and_a_finer_rule_agrees() -> None:
    rng = np.random.default_rng(11)
    off = []
    for _ in range(300):
        shop, known = _extreme(rng)
        orders = orders_if_alive(shop, known, 365)
        finer = orders_if_alive(shop, known, 365, step=0.04)
        off.append(np.abs(orders / finer - 1).max())
        there, likely = alive(shop, known), chance(shop, known, 90)
        assert np.isfinite(orders).all()
        assert (orders >= 0).all()
        assert ((there >= 0) & (there <= 1) & (likely >= 0) & (likely <= there)).all()
        assert not np.isnan(waits(shop, known)).any()
    assert np.median(off) < 1e-9
    assert max(off) < 1e-5


def test_silence_lowers_the_chance_and_time_raises_it() -> None:
    silence = np.linspace(0, 900, 60)
    known = Customers.of(np.full(60, 3.0), np.full(60, 200.0), 200.0 + silence)
    for late in (0, 1):
        shop = Buying(SHOP.r, SHOP.alpha, SHOP.a, SHOP.b, late)
        assert (np.diff(chance(shop, known, 90)) < 0).all()
        assert (chance(shop, known, 365) > chance(shop, known, 90)).all()
        assert (expected_orders(shop, known, 365) > expected_orders(shop, known, 90)).all()


def test_waits_only_change_with_an_order() -> None:
    early = Customers.of([2.0], [100.0], [110.0])
    late = Customers.of([2.0], [100.0], [400.0])
    assert waits(SHOP, early) == waits(SHOP, late)
    expected, overdue = waits(SHOP, early)
    rate, known = SHOP.r + 2, SHOP.alpha + 100
    assert (known / (known + expected[0])) ** rate == pytest.approx(0.5)
    assert (known / (known + overdue[0])) ** rate == pytest.approx(0.1)


def test_a_clock_that_is_ahead_and_a_burst_on_the_only_day_do_no_harm() -> None:
    known = Customers.of([0.0, 2.0], [0.4, 9.0], [-0.5, 4.0])
    assert known.age.tolist() == [0.0, 4.0]
    assert known.recency.tolist() == [0.0, 4.0]
    assert np.isfinite(chance(SHOP, known, 90)).all()
