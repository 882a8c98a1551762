"""Fit a shop's model, and predict customers with it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import NamedTuple

import numpy as np

from service.core.outlook import (
    FAR_DAYS,
    HORIZONS,
    NEAR_DAYS,
    HoldOut,
    KnownCustomer,
    Outlook,
    PastCustomer,
)
from service.core.rfm import Cuts
from service.insight.arrays import Customers, Floats
from service.insight.buying import Buying, fit_buying
from service.insight.expectation import alive, chance, orders_if_alive, waits
from service.insight.hold_out import Past, hold_out
from service.insight.spending import Spending, fit_spending, mean_value

_DAY = 86_400.0
_LAST_DATE = datetime(2200, 1, 1, tzinfo=UTC)
"""Later dates are nonsense, and no date."""


@dataclass(frozen=True, slots=True)
class Model:
    """How the customers of a shop order, and what they spend."""

    buying: Buying
    spending: Spending
    settled: bool = True
    """Whether the searches converged, and no parameter lies at a bound."""


def fit_model(customers: Sequence[KnownCustomer], now: datetime, last: Buying | None) -> Model:
    """Return the likeliest model of these customers. The search also starts at the ``last`` one."""
    today = now.astimezone(UTC).date()
    known = _by_day([(it.order_days, it.first_order, it.last_order) for it in customers], today)
    buying = fit_buying(known, last)
    spent = np.array([float(it.spent) for it in customers])
    if not np.any(spent > 0):
        return Model(buying.buying, Spending(1.0, 2.0, 0.0), buying.settled)
    spending = fit_spending(known.repeats + 1, spent)
    return Model(buying.buying, spending.spending, buying.settled and spending.settled)


def backtest(
    customers: Sequence[PastCustomer],
    begun_at: datetime,
    now: datetime,
    rule_days: tuple[int, int],
    last: Buying | None,
) -> HoldOut | None:
    """Test a model of what was known at ``begun_at``, a UTC midnight, on what came until ``now``.

    None: too few customers to compare. ``rule_days`` are those after which a customer is at risk
    and inactive.
    """
    known = _by_day(
        [(it.order_days, it.first_order, it.last_order) for it in customers],
        begun_at.astimezone(UTC).date(),
    )
    past = Past(
        known,
        np.array([float(it.spent) for it in customers]),
        np.array([(begun_at - it.last_order).total_seconds() / _DAY for it in customers]),
        np.array([float(it.came_days) for it in customers]),
        np.array([float(it.came_spent) for it in customers]),
    )
    days = (now - begun_at).total_seconds() / _DAY
    return hold_out(past, begun_at, days, rule_days, last)


def _by_day(facts: Sequence[tuple[int, datetime, datetime]], today: date) -> Customers:
    """Return customers in whole days, so that many are alike."""
    first = [first.astimezone(UTC).date() for _, first, _ in facts]
    last = [last.astimezone(UTC).date() for _, _, last in facts]
    return Customers.of(
        [days - 1 for days, _, _ in facts],
        [(end - begin).days for begin, end in zip(first, last, strict=True)],
        [(today - begin).days for begin in first],
    )


class Predicted(NamedTuple):
    """The outlook of each customer, and what is expected of all of them."""

    outlooks: list[Outlook]
    orders: list[float]
    """The expected orders of all customers, within each of the `HORIZONS`."""
    revenue: list[float]
    """The expected revenue of all customers, within each of the `HORIZONS`."""


def predict(
    model: Model, cuts: Cuts, customers: Sequence[KnownCustomer], now: datetime, zone: tzinfo
) -> Predicted:
    """Return what is expected of these customers at ``now``; dates are those of ``zone``."""
    if not customers:
        return Predicted([], [0.0] * len(HORIZONS), [0.0] * len(HORIZONS))
    repeats = np.array([it.order_days - 1.0 for it in customers])
    age = [(now - it.first_order).total_seconds() / _DAY for it in customers]
    recency = [(it.last_order - it.first_order).total_seconds() / _DAY for it in customers]
    exact = Customers.of(repeats, recency, age)
    orders = _orders(model.buying, exact)
    spent = np.array([float(it.spent) for it in customers])
    worth = mean_value(model.spending, repeats + 1, spent)
    far = orders[HORIZONS.index(FAR_DAYS)]
    wait = waits(model.buying, exact)
    outlooks = [
        Outlook(
            order_days=it.order_days,
            chance=chance_,
            orders=orders_,
            value=value,
            expected_on=_date(it.last_order, expected, zone),
            overdue_on=_date(it.last_order, overdue, zone) if it.order_days > 1 else None,
            rfm=cuts.scores(it.last_order, it.orders, it.spent).number,
        )
        for it, chance_, orders_, value, expected, overdue in zip(
            customers,
            chance(model.buying, exact, NEAR_DAYS).tolist(),
            far.tolist(),
            (far * worth).tolist(),
            wait.expected.tolist(),
            wait.overdue.tolist(),
            strict=True,
        )
    ]
    return Predicted(
        outlooks,
        [float(it.sum()) for it in orders],
        [float(it @ worth) for it in orders],
    )


def _orders(buying: Buying, exact: Customers) -> list[Floats]:
    """Return the expected orders within each of the `HORIZONS`.

    With ages in the middle of their day, many customers share one quadrature.
    """
    by_day = dataclasses.replace(exact, age=np.floor(exact.age) + 0.5)
    there = alive(buying, exact)
    return [there * orders_if_alive(buying, by_day, days) for days in HORIZONS]


def _date(last_order: datetime, days: float, zone: tzinfo) -> date | None:
    """Return the date so many days after the last order."""
    if days > (_LAST_DATE - last_order).days:
        return None
    return (last_order + timedelta(days=days)).astimezone(zone).date()
