"""The formats that an import reads: a module for each program that writes files.

The next one is a module with a `Format`, and a line in `FORMATS`. Of several that match a file, the
first one is taken.
"""

from collections.abc import Sequence

from service.transfer.formats import browser_storage, ours, shopify, woocommerce
from service.transfer.formats.format import Format

FORMATS = (
    shopify.ORDERS,
    shopify.CUSTOMERS,
    woocommerce.CUSTOMERS_REPORT,
    woocommerce.ORDERS_REPORT,
    ours.ORDERS,
    ours.CUSTOMERS,
    shopify.ORDERS_JSON,
    shopify.CUSTOMERS_JSON,
    woocommerce.ORDERS,
    woocommerce.CUSTOMERS,
    browser_storage.CUSTOMERS,
    browser_storage.ORDERS,
    ours.ORDERS_JSON,
)


def recognised(columns: Sequence[str], *, json: bool) -> Format | None:
    """Return the format of a file with these columns. None if it is none that we know."""
    for each in FORMATS:
        if each.json == json and each.matches(columns):
            return each
    return None


def named(name: str) -> Format | None:
    """Return the format that is called this."""
    return next((each for each in FORMATS if each.name == name), None)
