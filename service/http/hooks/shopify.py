"""Webhooks of Shopify."""

from starlette.datastructures import Headers

from service.core.hooks import HookPlatform
from service.http.hooks.customers import merge_customers, writes_customer
from service.http.hooks.facts import delete_order, refunds
from service.http.hooks.orders import publishes
from service.http.hooks.platform import Heading, Platform, base64_signature, ignore, moment, same
from service.http.hooks.privacy import erase_customer, erase_shop, show_data
from service.transfer.formats import shopify

_ORDERS = (
    "updated",
    "cancelled",
    "paid",
    "fulfilled",
    "partially_fulfilled",
)


_CUSTOMERS = ("create", "update", "enable", "disable")
_WRITE_CUSTOMER = writes_customer(shopify.CUSTOMERS_JSON, consent_times=shopify.consent_times)


def _heading(headers: Headers) -> Heading:
    return Heading(
        topic=headers.get("x-shopify-topic", ""),
        domain=headers.get("x-shopify-shop-domain", "").strip().lower(),
        event_id=headers.get("x-shopify-event-id") or headers.get("x-shopify-webhook-id", ""),
        triggered_at=moment(headers.get("x-shopify-triggered-at")),
    )


def _is_signed(headers: Headers, body: bytes, secret: bytes) -> bool:
    return same(headers.get("x-shopify-hmac-sha256", ""), base64_signature(body, secret))


PLATFORM = Platform(
    name=HookPlatform.SHOPIFY,
    title="Shopify",
    heading=_heading,
    is_signed=_is_signed,
    handlers={
        "orders/create": publishes(shopify.ORDERS_JSON, created=True),
        **{f"orders/{what}": publishes(shopify.ORDERS_JSON) for what in _ORDERS},
        "orders/delete": delete_order,
        "refunds/create": refunds(shopify.refund),
        **{f"customers/{what}": _WRITE_CUSTOMER for what in _CUSTOMERS},
        "customers/merge": merge_customers,
        # Not an erasure: the shop asks for that by customers/redact.
        "customers/delete": ignore,
        "customers/redact": erase_customer,
        "customers/data_request": show_data,
        "shop/redact": erase_shop,
    },
)
