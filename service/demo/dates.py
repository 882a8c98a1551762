"""The purchases of 1997-98 as those of a shop that is open today.

All customers of the sample bought for the first time in the same twelve weeks. Shown like that, the
shop would have no new customers for more than a year. So each customer's purchases keep their real
pace, and the first ones are spread over the time that is shown. What would come after today is left
out.
"""

from datetime import UTC, date, datetime, timedelta
from functools import cache

from service.demo.cdnow import Purchase, purchases

SHOWN_DAYS = 545
"""As long as the purchases of the first customers were followed."""
HEADROOM = timedelta(seconds=90)
"""The last day ends this long before now, so that nothing is in the future."""
_GOLDEN = (5**0.5 - 1) / 2
"""The multiples of this number, without their whole parts, lie evenly, however many there are."""

CALENDAR_NOTE = (
    f"Customers arrive over the last {SHOWN_DAYS} days. From then on each buys at their real pace "
    "of 1997-98."
)
"""The demo prints this, so that people know how the calendar was moved."""


def end_of_history(today: datetime) -> datetime:
    """Return the time in UTC at which the last day of the data ends. ``today`` is aware."""
    return today.astimezone(UTC) - HEADROOM


@cache
def days_before_the_last() -> dict[int, int]:
    """Return how many days before the last one each purchase is shown, by line.

    Purchases that would come after it are left out.
    """
    first: dict[int, date] = {}
    for purchase in purchases():
        first[purchase.customer] = min(purchase.day, first.get(purchase.customer, purchase.day))
    before = {
        purchase.line: _arrival(purchase.customer) - (purchase.day - first[purchase.customer]).days
        for purchase in purchases()
    }
    return {line: days for line, days in before.items() if days >= 0}


def shown_purchases() -> list[Purchase]:
    """Return the purchases that are shown, in the order of the file."""
    return [purchase for purchase in purchases() if purchase.line in days_before_the_last()]


def _arrival(customer: int) -> int:
    """Return how many days before the last one a customer's first day is."""
    return int(SHOWN_DAYS * ((customer - 1) * _GOLDEN % 1))
