"""Test a model on the shop's own past."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from service.core.outlook import (
    BUYERS_NEEDED,
    CUSTOMERS_NEEDED,
    REPEATERS_NEEDED,
    Band,
    Compared,
    HoldOut,
    Stage,
    bands,
)
from service.insight.arrays import Bools, Customers, Floats
from service.insight.buying import Buying, fit_buying
from service.insight.expectation import chance, expected_orders
from service.insight.spending import fit_spending, mean_value


@dataclass(frozen=True, slots=True)
class Past:
    """What was known of customers when the test began, and what came since."""

    known: Customers
    spent: Floats
    """Until then."""
    silent: Floats
    """Days from the last order until then."""
    came_days: Floats
    """On how many days they ordered since."""
    came_spent: Floats


def hold_out(
    past: Past,
    begun_at: datetime,
    days: float,
    rule_days: tuple[int, int],
    last: Buying | None = None,
) -> HoldOut | None:
    """Fit what was known, predict the ``days`` since, and compare. None: too few to compare.

    ``rule_days`` are those after which a customer is at risk and inactive.
    """
    known, buyers = past.known, past.came_days > 0
    if (
        len(known) < CUSTOMERS_NEEDED
        or np.count_nonzero(known.repeats > 0) < REPEATERS_NEEDED
        or np.count_nonzero(buyers) < BUYERS_NEEDED
        or buyers.all()
        or not np.any(past.spent > 0)
    ):
        return None
    buying = fit_buying(known, last).buying
    spending = fit_spending(known.repeats + 1, past.spent).spending
    chances = chance(buying, known, days)
    orders = expected_orders(buying, known, days)
    revenue = float(orders @ mean_value(spending, known.repeats + 1, past.spent))
    stages = np.searchsorted(np.asarray(rule_days, np.float64), past.silent, side="right")
    return HoldOut(
        begun_at=begun_at,
        days=days,
        customers=len(known),
        buyers=_compared(chances.sum(), float(np.count_nonzero(buyers))),
        orders=_compared(orders.sum(), past.came_days.sum()),
        revenue=_compared(revenue, past.came_spent.sum()),
        ranked_right=ranked_right(chances, buyers),
        ranked_right_by_rules=ranked_right(-stages.astype(np.float64), buyers),
        ranked_right_by_recency=ranked_right(-past.silent, buyers),
        brier=float(np.mean((chances - buyers) ** 2)),
        bands=_by_band(chances, buyers),
        stages=[
            Stage(
                stage=stage,
                customers=int(np.count_nonzero(stages == number)),
                came=int(np.count_nonzero(buyers & (stages == number))),
            )
            for number, stage in enumerate(("active", "at_risk", "inactive"))
        ],
    )


def _compared(said: float, came: float) -> Compared:
    return Compared(said=float(said), came=float(came))


def _by_band(chances: Floats, buyers: Bools) -> list[Band]:
    found = []
    for lowest, highest in bands():
        inside = (chances >= lowest) & ((chances < highest) | (highest == 1))
        if number := int(np.count_nonzero(inside)):
            found.append(
                Band(
                    lowest=lowest,
                    highest=highest,
                    customers=number,
                    said=float(chances[inside].mean()),
                    came=float(buyers[inside].mean()),
                )
            )
    return found


def ranked_right(scores: Floats, buyers: Bools) -> float:
    """Return how often a buyer has the higher score of a pair with a non-buyer; ties are half.

    This is the area under the ROC curve (AUC).
    """
    _, which, alike = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(alike) - (alike - 1) / 2)[which.ravel()]
    number = np.count_nonzero(buyers)
    above = ranks[buyers].sum() - number * (number + 1) / 2
    return float(above / (number * (len(scores) - number)))
