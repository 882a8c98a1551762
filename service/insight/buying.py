"""When customers order: BG/NBD and MBG/NBD, which differ in one number.

A customer orders at random, at a rate of their own, until they leave. In BG/NBD they may leave
after each order but the first, in MBG/NBD after each order. Rates differ between customers as a
gamma distribution, the chances to leave as a beta distribution.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import betaln, digamma, gammaln

from service.insight.arrays import Customers, Floats
from service.insight.maximum import HIGHEST, LOWEST, greatest

_BOUNDS = [(LOWEST, HIGHEST)] * 4
_STARTS = ((-1.0, 3.5, -0.3, 0.8), (0.0, 4.5, 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class Buying:
    """How customers order. Rates are of the gamma (r, alpha), chances to leave of the beta (a, b).

    ``alpha`` is in days. ``late`` is 0 for BG/NBD and 1 for MBG/NBD.
    """

    r: float
    alpha: float
    a: float
    b: float
    late: int

    @property
    def logs(self) -> list[float]:
        """Return the logarithms of the parameters, to start another fit from."""
        return [float(np.log(it)) for it in (self.r, self.alpha, self.a, self.b)]


class BuyingFit(NamedTuple):
    """The likeliest parameters of one model."""

    buying: Buying
    log_likelihood: float
    settled: bool
    """Whether the search converged, and no parameter lies at a bound."""


def fit_buying(customers: Customers, last: Buying | None = None) -> BuyingFit:
    """Return the likelier of BG/NBD and MBG/NBD. The search also starts at the ``last`` fit."""
    groups = customers.grouped()
    starts: Sequence[Sequence[float]] = (*_STARTS, last.logs) if last else _STARTS
    return max((_fit(groups, late, starts) for late in (0, 1)), key=lambda fit: fit.log_likelihood)


def fit_one(customers: Customers, late: int) -> BuyingFit:
    """Return the likeliest parameters of BG/NBD (0) or MBG/NBD (1)."""
    return _fit(customers.grouped(), late, _STARTS)


def _fit(groups: Customers, late: int, starts: Sequence[Sequence[float]]) -> BuyingFit:
    found = greatest(
        lambda logs: log_likelihood(groups, late, logs),
        starts,
        float(groups.weight.sum()),
        _BOUNDS,
    )
    r, alpha, a, b = (float(it) for it in np.exp(found.logs))
    return BuyingFit(Buying(r, alpha, a, b, late), found.log_likelihood, found.settled)


def log_likelihood(customers: Customers, late: int, logs: Floats) -> tuple[float, Floats]:
    """Return the log-likelihood at the logarithms of (r, alpha, a, b), and its gradient there."""
    r, alpha, a, b = np.exp(logs)
    x, weight = customers.repeats, customers.weight
    y = x + late
    rate = r + x
    stayed = -rate * np.log(alpha + customers.age)
    could_leave = y > 0
    leavers = np.where(could_leave, b + y - 1, 1.0)
    left = np.where(
        could_leave,
        np.log(a)
        - np.log(np.where(could_leave, b + y - 1, 1.0))
        - rate * np.log(alpha + customers.recency),
        -np.inf,
    )
    either = np.logaddexp(stayed, left)
    total = (
        gammaln(rate) - gammaln(r) + r * np.log(alpha) + betaln(a, b + y) - betaln(a, b) + either
    )
    has_left = np.exp(left - either)
    is_there = 1 - has_left
    slope_r = (
        digamma(rate)
        - digamma(r)
        + np.log(alpha)
        - is_there * np.log(alpha + customers.age)
        - has_left * np.log(alpha + customers.recency)
    )
    slope_alpha = r / alpha - rate * (
        is_there / (alpha + customers.age) + has_left / (alpha + customers.recency)
    )
    slope_a = digamma(a + b) - digamma(a + b + y) + has_left / a
    slope_b = digamma(b + y) - digamma(a + b + y) - digamma(b) + digamma(a + b) - has_left / leavers
    slopes = np.array([weight @ it for it in (slope_r, slope_alpha, slope_a, slope_b)])
    return float(weight @ total), slopes * np.exp(logs)
