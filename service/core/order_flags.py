"""Flags of an order: its events do not fit together, or one of them was refused."""

from enum import StrEnum


class OrderFlag(StrEnum):
    """A word of warning on an order. None depends on the order in which events arrive."""

    REFUND_EXCEEDS_TOTAL = "refund_exceeds_total"
    """More was refunded than the order's total."""
    REFUND_FELL = "refund_fell"
    """Another event told of a greater refund than the order's state does."""
    CONFLICT = "conflict"
    """Two events have the same version and times, and say different things."""
    UPDATE_REFUSED = "update_refused"
    """An update that is newer than the order's state was refused."""
