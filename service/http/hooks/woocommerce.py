"""Webhooks of WooCommerce.

It does not send a delivery again that was refused, and switches a webhook off after six failures in
a row. Its first request only tries the address: it is not signed.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers

from service.core.hooks import HookPlatform
from service.http.hooks.customers import writes_customer
from service.http.hooks.facts import delete_order
from service.http.hooks.orders import publishes
from service.http.hooks.platform import Heading, Platform, base64_signature, ignore, same
from service.transfer.formats import woocommerce

_ORDER, _CUSTOMER = "order", "customer"
_WRITE_CUSTOMER = writes_customer(woocommerce.CUSTOMERS, changed_at="date_modified_gmt")


def _heading(headers: Headers) -> Heading:
    try:
        domain = urlsplit(headers.get("x-wc-webhook-source", "").strip()).hostname or ""
    except ValueError:
        domain = ""
    return Heading(
        topic=headers.get("x-wc-webhook-topic", ""),
        domain=domain,
        event_id=headers.get("x-wc-webhook-delivery-id", ""),
    )


def _is_signed(headers: Headers, body: bytes, secret: bytes) -> bool:
    return same(headers.get("x-wc-webhook-signature", ""), base64_signature(body, secret))


def _is_test(headers: Headers, body: bytes) -> bool:
    return "x-wc-webhook-signature" not in headers and body.startswith(b"webhook_id=")


PLATFORM = Platform(
    name=HookPlatform.WOOCOMMERCE,
    title="WooCommerce",
    heading=_heading,
    is_signed=_is_signed,
    is_test=_is_test,
    handlers={
        f"{_ORDER}.created": publishes(woocommerce.ORDERS, created=True),
        f"{_ORDER}.updated": publishes(woocommerce.ORDERS),
        f"{_ORDER}.restored": publishes(woocommerce.ORDERS),
        f"{_ORDER}.deleted": delete_order,
        f"{_CUSTOMER}.created": _WRITE_CUSTOMER,
        f"{_CUSTOMER}.updated": _WRITE_CUSTOMER,
        f"{_CUSTOMER}.deleted": ignore,
    },
)
