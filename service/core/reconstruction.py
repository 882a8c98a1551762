"""Why the figures of past days are computed from the orders."""

from enum import StrEnum


class ReconstructionCause(StrEnum):
    """Why somebody wants it."""

    UPGRADE = "upgrade"
    """The service was there before it could do so. Days that it knows stay as they were known."""
    IMPORT = "import"
    """A file of customers or orders was imported."""
    LATE_ORDERS = "late_orders"
    """Orders of past days came through the stream."""
    ASKED = "asked"
    """Somebody ran ``crm rebuild --history``."""
