"""What the predictions mean: their horizons, when they are made, and how far they can be trusted.

Each model is tested on the shop's own past: it is fitted to what was known 90 days ago, and what it
says of the days since is compared with what came.
"""

from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise
from math import sqrt
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

NEAR_DAYS = 90
"""The horizon of the chance of an order. It can be tested on half a year of data."""
FAR_DAYS = 365
"""The horizon of expected orders and value."""
HORIZONS = (30, NEAR_DAYS, FAR_DAYS)
"""The horizons of the forecast for the whole shop."""
TEST_DAYS = 90
"""The test begins at the UTC midnight so many days ago."""

CUSTOMERS_NEEDED = 500
REPEATERS_NEEDED = 100
HISTORY_DAYS_NEEDED = 180
RECENT_DAYS = 30
BUYERS_NEEDED = 100
"""So many customers must have ordered since the test began."""

_BANDS = (0.0, 0.05, 0.10, 0.20, 0.35, 0.50, 0.70, 1.0)
"""The bands of the chance in which the test compares."""
_SURE = 1.96
"""Chance alone leads further away, in standard deviations, in 5 of 100 cases."""


class KnownCustomer(NamedTuple):
    """The facts of a customer with counted orders that predictions are made from."""

    order_days: int
    """The UTC days with a counted order."""
    orders: int
    first_order: datetime
    last_order: datetime
    spent: Decimal

    @property
    def gap_days(self) -> float | None:
        """Return the mean number of days between their order days. None if there is only one."""
        if self.order_days == 1:
            return None
        return (self.last_order - self.first_order) / timedelta(days=self.order_days - 1)


class PastCustomer(NamedTuple):
    """The facts of a customer as they were when the test began, and what came since."""

    order_days: int
    first_order: datetime
    last_order: datetime
    spent: Decimal
    came_days: int
    """The further UTC days with a counted order since."""
    came_spent: Decimal


class Outlook(NamedTuple):
    """What is expected of a customer."""

    order_days: int
    chance: float
    """The chance of an order within `NEAR_DAYS`."""
    orders: float
    """Within `FAR_DAYS`."""
    value: float
    """Within `FAR_DAYS`, in the store's currency."""
    expected_on: date | None
    """When the next order is expected; None: not in this century or the next."""
    overdue_on: date | None
    """From when it is unusual that they have not ordered; None after a single day of orders."""
    rfm: int


class ModelState(StrEnum):
    """Whether a fit made a model."""

    FITTED = "fitted"
    TOO_LITTLE = "too_little"


class FitCause(StrEnum):
    """Why a model was fitted."""

    DAILY = "daily"
    HAND = "hand"


class Lacking(StrEnum):
    """What a shop has too little of to be predicted."""

    CUSTOMERS = "customers"
    REPEATERS = "repeaters"
    HISTORY = "history"
    RECENT = "recent"


class Gate(BaseModel):
    """How much there is to learn from."""

    model_config = ConfigDict(frozen=True)

    customers: int
    """With a counted order."""
    repeaters: int
    """With counted orders on two days."""
    history_days: float
    """Since the first order."""
    silent_days: float
    """Since the last order."""

    @property
    def lacking(self) -> list[Lacking]:
        """Return what there is too little of; nothing is predicted if this is not empty."""
        enough = {
            Lacking.CUSTOMERS: self.customers >= CUSTOMERS_NEEDED,
            Lacking.REPEATERS: self.repeaters >= REPEATERS_NEEDED,
            Lacking.HISTORY: self.history_days >= HISTORY_DAYS_NEEDED,
            Lacking.RECENT: self.silent_days <= RECENT_DAYS,
        }
        return [what for what, holds in enough.items() if not holds]


class Verdict(StrEnum):
    """How far the figures can be trusted, by the test on the shop's own past."""

    GOOD = "good"
    FAIR = "fair"
    POOR = "poor"
    UNTESTED = "untested"

    @property
    def shows_money(self) -> bool:
        """Return whether expected money is shown at all."""
        return self in {Verdict.GOOD, Verdict.FAIR}


_TOLERATED = {Verdict.GOOD: (0.10, 0.03), Verdict.FAIR: (0.25, 0.06)}
"""How far orders may be off, as a share, and bands, in chance."""


class Compared(BaseModel):
    """What was said, and what came."""

    model_config = ConfigDict(frozen=True)

    said: float
    came: float

    @property
    def error(self) -> float:
        """Return how much too high it was, as a share of what came. Infinite: nothing came."""
        if self.came == 0:
            return 0.0 if self.said == 0 else float("inf")
        return self.said / self.came - 1


class Band(BaseModel):
    """Customers with about the same chance of an order."""

    model_config = ConfigDict(frozen=True)

    lowest: float
    highest: float
    customers: int
    said: float
    """The mean of their chances."""
    came: float
    """The share of them who ordered."""

    @property
    def range(self) -> tuple[float, float]:
        """Return between which shares chance explains what came, in 95 of 100 cases."""
        return chance_range(self.said, self.customers)

    @property
    def explained(self) -> bool:
        """Return whether chance alone explains the difference."""
        low, high = self.range
        return low <= self.came <= high


def chance_range(share: float, customers: int) -> tuple[float, float]:
    """Return between which shares of so many customers chance leads, in 95 of 100 cases."""
    if not customers:
        return 0.0, 1.0
    # At least one more or less is always chance.
    off = max(_SURE * sqrt(share * (1 - share) / customers), 1 / customers)
    return max(share - off, 0.0), min(share + off, 1.0)


class Stage(BaseModel):
    """Customers with one stage by the rules of days, and how many of them ordered since."""

    model_config = ConfigDict(frozen=True)

    stage: str
    """active, at_risk or inactive."""
    customers: int
    came: int


class HoldOut(BaseModel):
    """The test of a model on the shop's own past. Stored as JSON with the model."""

    model_config = ConfigDict(frozen=True)

    begun_at: datetime
    days: float
    customers: int
    """Who had ordered before. All others are left out."""
    buyers: Compared
    orders: Compared
    revenue: Compared
    ranked_right: float
    """How often the chance ranked a customer who ordered above one who did not."""
    ranked_right_by_rules: float
    ranked_right_by_recency: float
    brier: float
    bands: Annotated[list[Band], Field(min_length=1)]
    stages: list[Stage]

    @property
    def band_error(self) -> float:
        """Return the mean difference between what was said of a customer's band and what came."""
        off = sum(band.customers * abs(band.said - band.came) for band in self.bands)
        return off / sum(band.customers for band in self.bands)

    @property
    def verdict(self) -> Verdict:
        """Return how far the figures can be trusted."""
        orders, bands = abs(self.orders.error), self.band_error
        for verdict, (orders_off, bands_off) in _TOLERATED.items():
            if orders <= orders_off and bands <= bands_off:
                return verdict
        return Verdict.POOR


def bands() -> list[tuple[float, float]]:
    """Return the bands of the chance in which the test compares; a band ends below its highest."""
    return list(pairwise(_BANDS))


def verdict_of(hold_out: HoldOut | None) -> Verdict:
    """Return how far the figures of a model with this test can be trusted."""
    return hold_out.verdict if hold_out else Verdict.UNTESTED
