"""Find the parameters that make what happened most likely."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from scipy.optimize import minimize

from service.insight.arrays import Floats

LOWEST, HIGHEST = -7.0, 10.0
"""The bounds of the logarithm of a parameter. What lies beyond cannot be told apart."""
_NEAR_A_BOUND = 1e-3
_TOLERANCE = 1e-13
_STEPS = 500
_FLAT = 1e-4
"""At a maximum, no slope per customer is steeper. The search may end there with a complaint that it
finds no better point, which is no fault."""

LogLikelihood = Callable[[Floats], tuple[float, Floats]]
"""Returns the log-likelihood at the logarithms of the parameters, and its gradient there."""


class Maximum(NamedTuple):
    """Where a likelihood is greatest."""

    logs: Floats
    log_likelihood: float
    settled: bool
    """Whether the search converged, and no parameter lies at a bound."""


def greatest(
    log_likelihood: LogLikelihood,
    starts: Sequence[Sequence[float]],
    scale: float,
    bounds: Sequence[tuple[float, float]],
) -> Maximum:
    """Return the greatest of the maxima that are found from ``starts``.

    ``scale`` is the number of customers: the search works on the mean per customer.
    """

    def per_customer(logs: Floats) -> tuple[float, Floats]:
        value, slope = log_likelihood(logs)
        return -value / scale, -slope / scale

    def search(start: Sequence[float]) -> Maximum:
        found = minimize(
            per_customer,
            [min(max(it, low), high) for it, (low, high) in zip(start, bounds, strict=True)],
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": _STEPS, "maxcor": 20, "ftol": _TOLERANCE, "gtol": 1e-9},
        )
        inside = all(
            low + _NEAR_A_BOUND < value < high - _NEAR_A_BOUND
            for value, (low, high) in zip(found.x, bounds, strict=True)
        )
        flat = max(abs(float(it)) for it in found.jac) < _FLAT
        return Maximum(found.x, -float(found.fun) * scale, flat and inside)

    return max((search(start) for start in starts), key=lambda it: it.log_likelihood)
