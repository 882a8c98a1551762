"""Webhooks of Shopify."""

from starlette.datastructures import Headers

from service.core.hooks import HookPlatform
from service.http.hooks.orders import publishes
from service.http.hooks.platform import Heading, Platform, base64_signature, moment, same
from service.transfer.formats import shopify

_ORDERS = (
    "updated",
    "cancelled",
    "paid",
    "fulfilled",
    "partially_fulfilled",
)


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
    },
)
