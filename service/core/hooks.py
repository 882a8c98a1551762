"""Who sends webhooks, what may become of a delivery, and what a shop asks about people's data."""

from enum import StrEnum


class HookPlatform(StrEnum):
    """A system whose webhooks can be read. Each has a module in `service.http.hooks`."""

    SHOPIFY = "shopify"
    WOOCOMMERCE = "woocommerce"
    STANDARD = "standard"
    """Any other: order events, signed as Standard Webhooks says."""


class DeliveryOutcome(StrEnum):
    """What became of a delivery. Each has exactly one."""

    PUBLISHED = "published"
    """It is an event in the stream of orders."""
    APPLIED = "applied"
    """What it says is in the database."""
    IGNORED = "ignored"
    """It says nothing that is kept here."""
    DEAD_LETTERED = "dead_lettered"
    """It cannot be read. A dead letter keeps it."""
    WRONG_SIGNATURE = "wrong_signature"
    OTHER_SHOP = "other_shop"
    """This shop's secret signed it, but it says that it is from another shop."""
    TOO_OLD = "too_old"
    """It asks for something that cannot be undone, and was sent too long ago."""
    UNAVAILABLE = "unavailable"
    """Redis or the database was away. The shop was asked to send it again."""

    @property
    def failed(self) -> bool:
        """Return True if somebody has to do something about it."""
        return self not in {
            DeliveryOutcome.PUBLISHED,
            DeliveryOutcome.APPLIED,
            DeliveryOutcome.IGNORED,
        }


class ShopRequest(StrEnum):
    """What a shop asks about personal data."""

    DATA = "data"
    """A customer wants to see their data. A person gives it to them."""
    ERASE_CUSTOMER = "erase_customer"
    """Erase a customer. This is done at once."""
    ERASE_SHOP = "erase_shop"
    """Erase everything about a shop's customers. A person decides."""
