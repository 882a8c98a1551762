"""RFM: recency, frequency and monetary value of a customer, each in fifths of the own shop.

Scores go from 1 to 5, and 5 is best. Groups have the names that shops know them by.
"""

from bisect import bisect_left
from collections.abc import Sequence
from enum import StrEnum
from math import ceil
from typing import Any, NamedTuple

FIFTHS = (0.2, 0.4, 0.6, 0.8)


class RfmGroup(StrEnum):
    """A group of customers, told by their scores."""

    CHAMPIONS = "champions"
    LOYAL = "loyal"
    ACTIVE = "active"
    NEW = "new"
    PROMISING = "promising"
    NEEDS_ATTENTION = "needs_attention"
    ALMOST_LOST = "almost_lost"
    AT_RISK = "at_risk"
    PREVIOUSLY_LOYAL = "previously_loyal"
    DORMANT = "dormant"
    PROSPECTS = "prospects"
    """No orders, so no scores."""

    @property
    def label(self) -> str:
        """Return the name that staff read."""
        return self.value.replace("_", " ").capitalize()


_G = RfmGroup
GRID = {
    5: (_G.NEW, _G.ACTIVE, _G.ACTIVE, _G.CHAMPIONS, _G.CHAMPIONS),
    4: (_G.PROMISING, _G.ACTIVE, _G.ACTIVE, _G.LOYAL, _G.LOYAL),
    3: (_G.ALMOST_LOST, _G.ALMOST_LOST, _G.NEEDS_ATTENTION, _G.LOYAL, _G.LOYAL),
    2: (_G.DORMANT, _G.DORMANT, _G.AT_RISK, _G.AT_RISK, _G.PREVIOUSLY_LOYAL),
    1: (_G.DORMANT, _G.DORMANT, _G.AT_RISK, _G.AT_RISK, _G.PREVIOUSLY_LOYAL),
}
"""The groups by recency; the columns are the mean of frequency and monetary value, halves rounded
up. Each group is a rectangle of it."""


class Cuts(NamedTuple):
    """The values that part the shop's customers into fifths; equal cuts make a fifth empty."""

    recency: tuple[Any, ...]
    frequency: tuple[Any, ...]
    monetary: tuple[Any, ...]

    def scores(self, last_order: Any, orders: Any, spent: Any) -> "Scores":
        """Return the scores of a customer. Equal values get equal scores."""
        return Scores(
            1 + bisect_left(self.recency, last_order),
            1 + bisect_left(self.frequency, orders),
            1 + bisect_left(self.monetary, spent),
        )


class Scores(NamedTuple):
    """A customer's scores, 1 to 5 each."""

    recency: int
    frequency: int
    monetary: int

    @property
    def number(self) -> int:
        """Return the scores as one number of three digits, as they are stored."""
        return 100 * self.recency + 10 * self.frequency + self.monetary

    @property
    def group(self) -> RfmGroup:
        """Return the group that these scores mean."""
        return GRID[self.recency][(self.frequency + self.monetary + 1) // 2 - 1]


def scores(number: int) -> Scores:
    """Return the scores that a stored number stands for."""
    return Scores(number // 100, number // 10 % 10, number % 10)


def numbers_of(group: RfmGroup) -> list[int]:
    """Return the stored numbers of all scores that belong to a group; none for prospects."""
    fifths = range(1, 6)
    every = (Scores(r, f, m) for r in fifths for f in fifths for m in fifths)
    return [it.number for it in every if it.group is group]


def cuts(values: Sequence[Any]) -> tuple[Any, ...]:
    """Return the four values below which a fifth, two, three and four fifths of the values lie."""
    in_order = sorted(values)
    return tuple(in_order[ceil(share * len(in_order)) - 1] for share in FIFTHS)
