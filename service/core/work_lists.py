"""The lists of customers whom staff write to today."""

from enum import StrEnum


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
