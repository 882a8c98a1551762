"""What counts: the settings, and the reasons why an order does not count.

`service.db.counting` has the rule itself, because the database judges whole sets of orders by it.
"""

from enum import StrEnum


class CountFrom(StrEnum):
    """From when on an order counts."""

    PLACED = "placed"
    PAID = "paid"
    """Payments that are still open, or only authorized, do not count."""


class NotCounted(StrEnum):
    """Why an order does not count. If there are several reasons, the first of these is told."""

    CANCELLED = "cancelled"
    PAYMENT_FAILED = "payment_failed"
    REFUNDED_IN_FULL = "refunded_in_full"
    UNPAID = "unpaid"
    """The setting `countFrom` is ``paid``, and this order is not."""
    FREE = "free"
    """The setting `countFreeOrders` is off, and the total of this order is 0."""
