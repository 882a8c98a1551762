"""The stories of orders: each is one way through the statuses, with one event per step."""

from datetime import timedelta
from decimal import Decimal
from typing import Literal, NamedTuple

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class Step(NamedTuple):
    """One event: what it says, and about how long it comes after the one before."""

    after: timedelta
    status: str
    payment: str = "paid"
    refunded_share: Decimal = Decimal(0)
    customer: Literal["named", "nobody", "mistyped"] = "named"


class Story(NamedTuple):
    """The events of an order, the first of which creates it."""

    name: str
    orders: int
    """The number of purchases with this story. Not all of them are shown."""
    weight: int
    """How often a live order has this story, compared with the other stories."""
    steps: tuple[Step, ...]


PLACED = Step(0 * HOUR, "pending")
DELIVERED = (
    PLACED,
    Step(2 * HOUR, "processing"),
    Step(20 * HOUR, "shipped"),
    Step(3 * DAY, "delivered"),
)
BACKORDERED = (PLACED, Step(2 * HOUR, "backordered"), Step(4 * DAY, "processing"))
DECLINED = Step(0 * HOUR, "on_hold", "failed")
NOBODY = Step(0 * HOUR, "completed", customer="nobody")
NAMED_LATER = Step(2 * DAY, "completed")

STORIES = (
    Story("delivered", 960, 20, DELIVERED),
    Story("backordered", 50, 5, (*BACKORDERED, *DELIVERED[2:])),
    Story("cancelled", 208, 5, (PLACED, Step(5 * HOUR, "cancelled"))),
    Story(
        "refunded",
        138,
        5,
        (*DELIVERED, Step(2 * DAY, "refunded", "refunded", Decimal(1))),
    ),
    Story(
        "partly refunded",
        138,
        5,
        (*DELIVERED, Step(2 * DAY, "delivered", "partially_refunded", Decimal("0.35"))),
    ),
    Story(
        "refunded beyond the total",
        8,
        1,
        (*DELIVERED, Step(2 * DAY, "delivered", "partially_refunded", Decimal("1.1"))),
    ),
    Story(
        "refund taken back in part",
        8,
        1,
        (
            *DELIVERED,
            Step(1 * DAY, "delivered", "partially_refunded", Decimal("0.5")),
            Step(1 * DAY, "delivered", "partially_refunded", Decimal("0.2")),
        ),
    ),
    Story("payment failed", 20, 2, (DECLINED,)),
    Story("paid in the end", 20, 2, (DECLINED, Step(1 * DAY, "processing"))),
    Story("named by nobody", 18, 1, (NOBODY,)),
    Story("named later", 18, 1, (NOBODY, NAMED_LATER)),
    Story(
        "moved",
        12,
        1,
        (Step(0 * HOUR, "completed", customer="mistyped"), NAMED_LATER),
    ),
)

COMPLETED = Story("completed", 0, 100, (Step(0 * HOUR, "completed"),))
WAITING = Story("waiting", 0, 0, (PLACED,))
"""All other orders of the history have one event: completed, or waiting if they are new."""
