"""The model's figures for the CDNOW sample are those that were published, to the digits given."""

from datetime import UTC, datetime

import numpy as np
import pytest

from service.core.outlook import HoldOut, Verdict
from service.insight import buying, spending
from service.insight.arrays import Floats
from service.insight.buying import BuyingFit, fit_buying, fit_one
from service.insight.expectation import (
    alive,
    chance,
    expected_orders,
    of_a_new_customer,
)
from service.insight.hold_out import hold_out, ranked_right
from service.insight.spending import fit_spending, mean_value
from tests.unit.insight.cdnow import WEEKS_SINCE, Cdnow, cdnow


@pytest.fixture(scope="module")
def sample() -> Cdnow:
    return cdnow()


@pytest.fixture(scope="module")
def bg(sample: Cdnow) -> BuyingFit:
    return fit_one(sample.known, 0)


@pytest.fixture(scope="module")
def mbg(sample: Cdnow) -> BuyingFit:
    return fit_one(sample.known, 1)


def test_the_purchases_of_a_day_are_one(sample: Cdnow) -> None:
    known = sample.known
    assert len(known) == 2357
    assert known.repeats.sum() == 2457
    assert np.count_nonzero(known.repeats) == 946
    grouped = known.grouped()
    assert len(grouped) == 1016
    assert grouped.weight.sum() == 2357
    rows = np.column_stack([known.repeats, known.recency, known.age])[:2]
    assert rows == pytest.approx(np.array([(2, 30.43, 38.86), (1, 1.71, 38.86)]), abs=0.005)


def test_bg_nbd(bg: BuyingFit, sample: Cdnow) -> None:
    found = bg.buying
    assert bg.settled
    assert bg.log_likelihood == pytest.approx(-9582.429, abs=0.001)
    assert (found.r, found.a) == pytest.approx((0.2426, 0.7929), abs=0.00005)
    assert (found.alpha, found.b) == pytest.approx((4.4136, 2.4259), abs=0.00005)
    assert of_a_new_customer(found, 52) == pytest.approx(1.44401, abs=0.000005)
    expected = expected_orders(found, sample.known, WEEKS_SINCE)
    assert expected[0] == pytest.approx(1.226, abs=0.0005)


def test_mbg_nbd(mbg: BuyingFit) -> None:
    found = mbg.buying
    assert mbg.settled
    assert mbg.log_likelihood == pytest.approx(-9582.136, abs=0.001)
    assert (found.r, found.alpha) == pytest.approx((0.5248, 6.1831), abs=0.00005)
    assert (found.a, found.b) == pytest.approx((0.8914, 1.6140), abs=0.00005)
    assert of_a_new_customer(found, 52) == pytest.approx(1.41888, abs=0.000005)


def test_the_likelier_model_wins(sample: Cdnow, mbg: BuyingFit) -> None:
    chosen = fit_buying(sample.known)
    assert chosen.buying.late == 1
    again = fit_buying(sample.known, chosen.buying)
    assert again.log_likelihood == pytest.approx(mbg.log_likelihood, abs=1e-6)


def test_the_standard_errors_of_bg_nbd(bg: BuyingFit, sample: Cdnow) -> None:
    groups, step = sample.known.grouped(), 1e-4
    at = np.array(bg.buying.logs)

    def slope(shift: Floats) -> Floats:
        return buying.log_likelihood(groups, 0, at + shift)[1]

    curvature = [(slope(it) - slope(-it)) / (2 * step) for it in np.eye(4) * step]
    errors = np.sqrt(np.diag(np.linalg.inv(-np.array(curvature))))
    assert errors == pytest.approx([0.05, 0.09, 0.23, 0.29], abs=0.006)


def test_other_units_only_rescale(bg: BuyingFit, sample: Cdnow) -> None:
    known = sample.known
    in_days = type(known)(known.repeats, known.recency * 7, known.age * 7, known.weight)
    found = fit_one(in_days, 0)
    assert found.buying.alpha == pytest.approx(7 * bg.buying.alpha, rel=1e-4)
    assert (found.buying.r, found.buying.a) == pytest.approx((bg.buying.r, bg.buying.a), rel=1e-4)
    shift = known.repeats.sum() * np.log(7)
    assert found.log_likelihood == pytest.approx(bg.log_likelihood - shift, abs=0.001)


def test_gamma_gamma_of_repeats(sample: Cdnow) -> None:
    days, spent = sample.known.repeats, sample.repeat_spent
    fit = fit_spending(days, spent)
    found = fit.spending
    assert fit.settled
    assert np.count_nonzero((days > 0) & (spent > 0)) == 946
    assert fit.log_likelihood == pytest.approx(-4055.92, abs=0.005)
    assert (found.p, found.q, found.v) == pytest.approx((6.2496, 3.7442, 15.4435), abs=0.00005)
    assert found.mean == pytest.approx(35.17, abs=0.005)
    means = mean_value(found, days, spent)
    assert means[[0, 1, 5]] == pytest.approx([24.65, 18.91, 71.46], abs=0.005)
    repeaters = days > 0
    own = spent[repeaters] / days[repeaters]
    assert np.corrcoef(days[repeaters], own)[0, 1] == pytest.approx(0.114, abs=0.0005)


def test_gamma_gamma_of_all_days_predicts_better(sample: Cdnow) -> None:
    """The first day is one as any other, and then one-time buyers have a value of their own."""
    days = sample.known.repeats + 1
    found = fit_spending(days, sample.spent).spending
    assert (found.p, found.q, found.v) == pytest.approx((9.88, 3.40, 7.93), abs=0.005)
    past = sample.past
    came = past.came_days > 0
    worth = past.came_spent[came] / past.came_days[came]

    def off(expected: Floats) -> float:
        return float(np.abs(expected[came] - worth).mean())

    repeats = fit_spending(sample.known.repeats, sample.repeat_spent).spending
    by_repeats = mean_value(repeats, sample.known.repeats, sample.repeat_spent)
    assert off(mean_value(found, days, sample.spent)) == pytest.approx(16.62, abs=0.02)
    assert off(by_repeats) == pytest.approx(17.65, abs=0.02)


_HELD_OUT = {
    0: (1653, 0.785, 1.608, 0.626, 0.7569, 0.3158),
    1: (1577, 0.765, 1.607, 0.627, 0.760, 0.687),
}
"""The orders said, mean and root mean square errors, correlation, and how buyers were ranked."""


@pytest.mark.parametrize("late", _HELD_OUT)
def test_39_weeks_held_out(bg: BuyingFit, mbg: BuyingFit, sample: Cdnow, late: int) -> None:
    """The probability of not having left ranks worse than a coin: this is why nobody sees it."""
    found, known, came = (bg, mbg)[late].buying, sample.known, sample.past.came_days
    expected = expected_orders(found, known, WEEKS_SINCE)
    assert came.sum() == 1882
    assert (
        round(expected.sum()),
        np.abs(expected - came).mean(),
        np.sqrt(np.mean((expected - came) ** 2)),
        np.corrcoef(expected, came)[0, 1],
        ranked_right(chance(found, known, WEEKS_SINCE), came > 0),
        ranked_right(alive(found, known), came > 0),
    ) == pytest.approx(_HELD_OUT[late], abs=0.0005)


@pytest.fixture(scope="module")
def tested(sample: Cdnow) -> HoldOut:
    begun_at = datetime(1997, 10, 1, tzinfo=UTC)
    found = hold_out(sample.past, begun_at, WEEKS_SINCE, (60, 90))
    assert found is not None
    return found


def test_the_test_says_what_came_and_how_it_ranked(tested: HoldOut) -> None:
    assert (tested.customers, tested.buyers.came, tested.orders.came) == (2357, 684, 1882)
    assert tested.revenue.came == pytest.approx(70_976.39)
    assert tested.orders.error == pytest.approx(-0.162, abs=0.0005)
    assert tested.ranked_right == pytest.approx(0.760, abs=0.0005)
    assert tested.ranked_right_by_rules == pytest.approx(0.675, abs=0.0005)
    assert tested.ranked_right_by_recency == pytest.approx(0.771, abs=0.0005)
    assert tested.brier == pytest.approx(0.1614, abs=0.00005)
    assert tested.verdict is Verdict.FAIR


def test_the_test_shows_each_band_and_each_stage(tested: HoldOut, sample: Cdnow) -> None:
    assert sum(band.customers for band in tested.bands) == 2357
    assert all(band.lowest <= band.said <= band.highest for band in tested.bands)
    buyers = sum(round(band.came * band.customers) for band in tested.bands)
    assert buyers == 684
    by_stage = {it.stage: it for it in tested.stages}
    assert by_stage["inactive"].customers == np.count_nonzero(sample.past.silent >= 90) == 1948
    assert by_stage["inactive"].came / 1948 == pytest.approx(0.204, abs=0.0005)
    assert sum(it.came for it in tested.stages) == 684


def test_spending_has_the_slopes_that_differences_show(sample: Cdnow) -> None:
    paid = sample.spent > 0
    days, spent = sample.known.repeats[paid] + 1, sample.spent[paid]
    at, step, weight = np.array([1.5, 1.0, 2.0]), 1e-5, np.ones(np.count_nonzero(paid))

    def value(logs: Floats) -> float:
        return spending.log_likelihood(days, spent, weight, logs)[0]

    slopes = [(value(at + it) - value(at - it)) / (2 * step) for it in np.eye(3) * step]
    assert spending.log_likelihood(days, spent, weight, at)[1] == pytest.approx(slopes, rel=1e-5)


@pytest.mark.parametrize("late", [0, 1])
def test_buying_has_the_slopes_that_differences_show(sample: Cdnow, late: int) -> None:
    groups, at, step = sample.known.grouped(), np.array([-0.5, 1.2, 0.3, 0.4]), 1e-5

    def value(logs: Floats) -> float:
        return buying.log_likelihood(groups, late, logs)[0]

    slopes = [(value(at + it) - value(at - it)) / (2 * step) for it in np.eye(4) * step]
    assert buying.log_likelihood(groups, late, at)[1] == pytest.approx(slopes, rel=1e-5)
