"""What customers spend on a day on which they order: the Gamma-Gamma model.

Each customer has a mean of their own, from which single days differ at random. The fewer days are
known of a customer, the more the prediction leans on what all customers spend.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import digamma, gammaln

from service.insight.arrays import Floats
from service.insight.maximum import HIGHEST, LOWEST, greatest

_LEAST_Q = float(np.log(1.1))
"""With q of 1 or less the mean of all customers has no bound."""
_BOUNDS = [(LOWEST, HIGHEST), (_LEAST_Q, HIGHEST), (LOWEST, HIGHEST)]
_START = (1.8, 1.3, -0.8)


@dataclass(frozen=True, slots=True)
class Spending:
    """How spending differs: between a customer's days (p), and between customers (q, v)."""

    p: float
    q: float
    v: float

    @property
    def mean(self) -> float:
        """Return what a customer of whom nothing is known spends on a day."""
        return self.p * self.v / (self.q - 1)


class SpendingFit(NamedTuple):
    """The likeliest parameters."""

    spending: Spending
    log_likelihood: float
    settled: bool
    """Whether the search converged, and no parameter lies at a bound."""


def fit_spending(days: Floats, spent: Floats) -> SpendingFit:
    """Fit what customers spent in all on ``days`` days. Who spent nothing is left out.

    Raises ValueError if nobody spent anything.
    """
    paid = (days >= 1) & (spent > 0)
    if not paid.any():
        raise ValueError("nobody spent anything")
    unit = float(np.mean(spent[paid] / days[paid]))
    rows, weight = _grouped(days[paid], spent[paid] / unit)
    found = greatest(
        lambda logs: log_likelihood(rows[:, 0], rows[:, 1], weight, logs),
        [_START],
        float(weight.sum()),
        _BOUNDS,
    )
    p, q, v = (float(it) for it in np.exp(found.logs))
    # The density of a mean spent is per unit of money.
    in_money = found.log_likelihood - float(weight.sum()) * float(np.log(unit))
    return SpendingFit(Spending(p, q, v * unit), in_money, found.settled)


def _grouped(days: Floats, spent: Floats) -> tuple[Floats, Floats]:
    rows, weight = np.unique(np.column_stack([days, spent]), axis=0, return_counts=True)
    return rows, weight.astype(np.float64)


def log_likelihood(
    days: Floats, spent: Floats, weight: Floats, logs: Floats
) -> tuple[float, Floats]:
    """Return the log-likelihood at the logarithms of (p, q, v), and its gradient there."""
    p, q, v = np.exp(logs)
    shape = p * days
    all_known = np.log(v + spent)
    total = (
        gammaln(shape + q)
        - gammaln(shape)
        - gammaln(q)
        + q * np.log(v)
        + (shape - 1) * np.log(spent / days)
        + shape * np.log(days)
        - (shape + q) * all_known
    )
    both = digamma(shape + q)
    slope_p = days * (both - digamma(shape) + np.log(spent) - all_known)
    slope_q = both - digamma(q) + np.log(v) - all_known
    slope_v = q / v - (shape + q) / (v + spent)
    slopes = np.array([weight @ it for it in (slope_p, slope_q, slope_v)])
    return float(weight @ total), slopes * np.exp(logs)


def mean_value(spending: Spending, days: Floats, spent: Floats) -> Floats:
    """Return what each customer is expected to spend on a day on which they order."""
    p, q, v = spending.p, spending.q, spending.v
    known = np.where(spent > 0, days, 0.0)
    return np.asarray(p * (v + spent) / (p * known + q - 1), np.float64)
