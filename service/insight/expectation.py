"""What customers are expected to do: the chance of an order, the number of orders, the waits."""

from typing import NamedTuple

import numpy as np

from service.insight.arrays import Customers, Floats
from service.insight.buying import Buying

_STEP = 0.13
"""The step of the rule. The median error is 1e-11; with parameters that no shop has, 1e-5."""
_LONGEST = 8.0
"""Further from the mode than this, the step is shortened."""
_NEGLIGIBLE = 40.0
"""Tails end where the density has fallen by this power of e."""
_PEAK = 10.0
"""A normal density has fallen that far after fewer standard deviations than these."""
_WIDEST = 3.0
_TINY = 1e-200


def alive(buying: Buying, customers: Customers) -> Floats:
    """Return the probability that each customer has not left.

    Never show it: it is 1 for everybody with one order, and ranks customers worse than a coin.
    """
    y = customers.repeats + buying.late
    gone_for = np.log(buying.alpha + customers.age) - np.log(buying.alpha + customers.recency)
    odds = np.log(buying.a) - np.log(np.where(y > 0, buying.b + y - 1, 1.0))
    with np.errstate(over="ignore"):
        left = np.exp(odds + (buying.r + customers.repeats) * gone_for)
    return np.where(y > 0, 1 / (1 + left), 1.0)


def chance(buying: Buying, customers: Customers, days: float) -> Floats:
    """Return the probability that each customer orders within so many days."""
    known = buying.alpha + customers.age
    orders_none = np.exp(-(buying.r + customers.repeats) * np.log1p(days / known))
    return np.asarray(alive(buying, customers) * (1 - orders_none), np.float64)


def expected_orders(buying: Buying, customers: Customers, days: float) -> Floats:
    """Return on how many of the coming days each customer is expected to order."""
    return alive(buying, customers) * orders_if_alive(buying, customers, days)


def orders_if_alive(
    buying: Buying, customers: Customers, days: float, step: float = _STEP
) -> Floats:
    """Return the expected orders of customers who have not left.

    If p is the chance to leave, they are the mean of (1 - (A / (A + p t))^R) / p over the beta
    distribution (a, b + y) of p. All terms are positive, so nothing cancels. The mean is a sum over
    the logit of p (the trapezoidal rule), around the mode of the density and as wide as it is;
    steps grow double-exponentially towards both tails.
    """
    ages, which_age = np.unique(
        np.column_stack([customers.repeats, customers.age]), axis=0, return_inverse=True
    )
    repeats, which_repeats = np.unique(ages[:, 0], return_inverse=True)
    rate, known = buying.r + ages[:, :1], buying.alpha + ages[:, 1:]
    b = buying.b + repeats[:, None] + buying.late
    # Far from the mode steps are longer. Where the expected orders bend, they must not be.
    mode = np.log(buying.a / b)[which_repeats]
    bends = np.concatenate([np.log(known / days), np.log(known / days / rate), np.zeros_like(rate)])
    step = min(step, _LONGEST * step / float(np.abs(mode - bends.reshape(3, -1, 1)).max()))
    p, weight = _chances_to_leave(buying.a, b, step)
    p, weight = p[which_repeats], weight[which_repeats]
    mean = -(weight / p * np.expm1(-rate * np.log1p(p * (days / known)))).sum(axis=1)
    return np.asarray(mean[which_age.ravel()], np.float64)


def _chances_to_leave(a: float, b: Floats, step: float) -> tuple[Floats, Floats]:
    """Return chances to leave, a row per ``b``, and weights that add up to 1 in each row."""
    deviation = np.sqrt(1 / a + 1 / b)
    width = np.minimum(deviation, _WIDEST)
    peak = _PEAK * deviation / width
    left = np.arcsinh(peak + _NEGLIGIBLE / (a * width)).max()
    right = np.arcsinh(peak + _NEGLIGIBLE / (b * width)).max()
    u = np.arange(-left, right + step, step)
    logit = np.log(a / b) + width * np.sinh(u)
    log_p, log_rest = -np.logaddexp(0, -logit), -np.logaddexp(0, logit)
    log_weight = a * log_p + b * log_rest + np.log(np.cosh(u))
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    return np.maximum(np.exp(log_p), _TINY), weight / weight.sum(axis=1, keepdims=True)


def of_a_new_customer(buying: Buying, days: float) -> float:
    """Return the expected repeat orders of somebody who has just ordered for the first time."""
    return float(expected_orders(buying, Customers.of([0.0], [0.0], [0.0]), days)[0])


class Waits(NamedTuple):
    """Days from each customer's last order; infinite where the model expects no further one."""

    expected: Floats
    """Half of such customers have ordered by then, if they have not left."""
    overdue: Floats
    """Nine of ten have."""


def waits(buying: Buying, customers: Customers) -> Waits:
    """Return how long the time to the next order is. It only changes with an order."""
    known = buying.alpha + customers.recency
    rate = buying.r + customers.repeats
    with np.errstate(over="ignore"):
        expected, overdue = (known * np.expm1(np.log(parts) / rate) for parts in (2.0, 10.0))
    return Waits(expected, overdue)
