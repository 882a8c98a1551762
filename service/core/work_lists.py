"""The lists of customers whom staff write to today."""

from enum import StrEnum
from math import sqrt
from typing import NamedTuple


class WorkList(StrEnum):
    """A list, and why its customers are on it."""

    LAPSING = "lapsing"
    """By the rules of days they leave their segment within `LAPSING_DAYS`."""
    OVERDUE = "overdue"
    """It is unusual that they have not ordered yet."""
    WIN_BACK = "win_back"
    """At risk or inactive, and still worth much."""
    QUIET_VIPS = "quiet_vips"
    """VIPs who are unlikely to order soon."""
    SECOND_ORDER = "second_order"
    """They ordered once, not long ago, and are worth much if they stay."""


LAPSING_DAYS = 14
OVERDUE_CHANCE = 0.05
"""With a smaller chance of an order, writing is in vain."""
QUIET_CHANCE = 0.35
SECOND_ORDER_DAYS = 90
TOP_SHARE = 0.2
"""Worth much: among the fifth of all customers of whom most is expected."""
LEFT_OUT_SHARE = 0.2
"""The share of a list that is left out by chance, to see what contacting the others did."""
REST_DAYS = 30
"""Who was contacted, or left out, is on no list for so long."""
RESULT_DAYS = (30, 90)
"""When it is looked at who ordered since."""
_SURE = 1.96


class Arm(NamedTuple):
    """The customers of a round who were contacted, or who were left out."""

    customers: int
    ordered: int

    @property
    def share(self) -> float:
        """Return the share of them who ordered."""
        return self.ordered / self.customers if self.customers else 0.0


class Result(NamedTuple):
    """Who ordered within some days after a round."""

    days: int
    contacted: Arm
    left_out: Arm

    @property
    def difference(self) -> float:
        """Return by how much a greater share of the contacted ordered."""
        return self.contacted.share - self.left_out.share

    @property
    def chance_range(self) -> float | None:
        """Return how large a difference chance alone makes, in 95 of 100 cases.

        None if nobody was left out: then nobody knows what contacting did.
        """
        one, other = self.contacted.customers, self.left_out.customers
        if not one or not other:
            return None
        share = (self.contacted.ordered + self.left_out.ordered) / (one + other)
        return _SURE * sqrt(share * (1 - share) * (1 / one + 1 / other))

    @property
    def more_than_chance(self) -> bool:
        """Return whether the difference is greater than chance explains."""
        explained = self.chance_range
        return explained is not None and abs(self.difference) > explained
