"""What holds for every event that is read back from an out-stream, whoever wrote it.

Redis cannot say who added an entry. So an entry is taken for one of ours only if it has our form
and every value is one that this service could have written. The bounds leave room: whatever passes
can be stored, and the numbers that follow it can be, too.
"""

from datetime import UTC, datetime, timedelta

from service.core.customer_ids import customer_number, customer_ref

MOST_BYTES = 4096
"""No event of ours is longer."""
MOST_NUMBER = 2**53
"""The greatest publish number that is believed. There is room for as many again."""
MOST_CUSTOMER = 10**12
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
_AHEAD = timedelta(days=1)


class NotOursError(ValueError):
    """The bytes are not an event that this service could have published; the message says why."""


def possible_customer(ref: str) -> int | None:
    """Return the number of a customer's id as this service writes it. None for any other text."""
    number = customer_number(ref)
    if number is None or not 1 <= number <= MOST_CUSTOMER or ref != customer_ref(number):
        return None
    return number


def is_possible_moment(moment: datetime, now: datetime) -> bool:
    """Return whether this service could have written the moment by ``now``."""
    return moment.tzinfo is not None and _EARLIEST <= moment <= now + _AHEAD
