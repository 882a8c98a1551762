"""What counts: the settings, and the reasons why an order does not count.

`service.db.counting` has the rule itself, because the database judges whole sets of orders by it.
"""

from collections.abc import Iterable, Mapping
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


_IN_WORDS = {
    NotCounted.CANCELLED: "cancelled",
    NotCounted.PAYMENT_FAILED: "failed payment",
    NotCounted.REFUNDED_IN_FULL: "refunded in full",
    NotCounted.UNPAID: "not paid yet",
    NotCounted.FREE: "free",
}
_BY_SETTING = {
    NotCounted.UNPAID: "The settings count paid orders only.",
    NotCounted.FREE: "The settings do not count free orders.",
}


def why_not_counted(reason: NotCounted | None) -> str:
    """Return in words why an order does not count. None: it will, when it is counted again."""
    if reason is None:
        return "Does not count yet: orders are being counted again by the new settings."
    return _sentences(f"Does not count: {_IN_WORDS[reason]}.", [reason])


def not_counted_in_words(orders: Mapping[NotCounted, int]) -> str:
    """Return in words how many orders of a customer do not count, and why. "" if all count."""
    total = sum(orders.values())
    if not total:
        return ""
    parts = ", ".join(f"{orders[reason]} {_IN_WORDS[reason]}" for reason in orders)
    verb = "order does" if total == 1 else "orders do"
    return _sentences(f"{total} {verb} not count: {parts}.", orders)


def _sentences(first: str, reasons: Iterable[NotCounted]) -> str:
    return " ".join([first, *(_BY_SETTING[reason] for reason in reasons if reason in _BY_SETTING)])
