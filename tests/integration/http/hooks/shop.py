"""Deliveries as shops send them. `openssl` signs them, and not the code that is tested."""

import base64
import json
import subprocess
from collections.abc import Mapping
from datetime import datetime
from itertools import count
from types import MappingProxyType
from typing import Any

import httpx

from service.db import installation
from service.db.accounts import hooks
from service.db.accounts.hooks import HookKey
from service.http.seal import FOR_HOOKS, installation_seal
from tests.conftest import Service

SHOP = "my-shop.myshopify.com"
WOO = "shop.example"
SECRET = f"shpss_{0:032x}"

_numbers = count(1)


async def register(
    service: Service, platform: str = "shopify", domain: str = SHOP, secret: str = SECRET
) -> None:
    """Register a shop, as `crm hooks add` does."""

    async def add(connection: Any) -> None:
        seal = installation_seal(await installation.secret(connection))
        sealed = seal.close(secret.encode(), FOR_HOOKS)
        await hooks.add_hook(connection, HookKey(platform, domain), sealed, actor="test")

    await service.in_transaction(add)


def signature(body: bytes, secret: str = SECRET) -> str:
    digest = subprocess.run(  # noqa: S603
        ["openssl", "dgst", "-sha256", "-hmac", secret, "-binary"],  # noqa: S607
        input=body,
        capture_output=True,
        check=True,
    )
    return base64.b64encode(digest.stdout).decode()


def _headers(values: Mapping[str, str]) -> httpx.Headers:
    return httpx.Headers(values, encoding="latin-1")


class Shop:
    """Sends webhooks of one Shopify shop to a web application."""

    def __init__(self, http: httpx.AsyncClient, domain: str = SHOP, secret: str = SECRET) -> None:
        self.http = http
        self.domain = domain
        self.secret = secret

    async def send(
        self,
        topic: str,
        payload: object,
        *,
        at: datetime | None = None,
        event: str | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> httpx.Response:
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return await self.http.post(
            "/hooks/shopify",
            content=body,
            headers=_headers(
                {
                    "Content-Type": "application/json",
                    "X-Shopify-Topic": topic,
                    "X-Shopify-Shop-Domain": self.domain,
                    "X-Shopify-Event-Id": event or f"event-{next(_numbers)}",
                    "X-Shopify-Hmac-Sha256": signature(body, self.secret),
                    **({"X-Shopify-Triggered-At": at.isoformat()} if at else {}),
                    **headers,
                }
            ),
        )


class Woo(Shop):
    """Sends webhooks of one WooCommerce shop."""

    def __init__(self, http: httpx.AsyncClient, domain: str = WOO, secret: str = SECRET) -> None:
        super().__init__(http, domain, secret)

    async def send(
        self,
        topic: str,
        payload: object,
        *,
        at: datetime | None = None,
        event: str | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> httpx.Response:
        assert at is None, "WooCommerce does not say when"
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return await self.http.post(
            "/hooks/woocommerce",
            content=body,
            headers=_headers(
                {
                    "Content-Type": "application/json",
                    "X-WC-Webhook-Topic": topic,
                    "X-WC-Webhook-Source": f"https://{self.domain}/",
                    "X-WC-Webhook-Delivery-ID": event or f"delivery-{next(_numbers)}",
                    "X-WC-Webhook-Signature": signature(body, self.secret),
                    **headers,
                }
            ),
        )


def shopify_order(
    number: int = 1411,
    *,
    total: str = "39.00",
    updated: datetime,
    created: datetime | None = None,
    refunds: Mapping[int, str] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Return an order with the parts that Shopify's own example has. ``refunds``: id → amount."""
    return {
        "id": 820_982_911_946_154_000 + number,
        "admin_graphql_api_id": f"gid://shopify/Order/{820_982_911_946_154_000 + number}",
        "name": f"#{number}",
        "order_number": number,
        "email": "orders-of-jane@example.com",
        "contact_email": "orders-of-jane@example.com",
        "created_at": (created or updated).isoformat(),
        "updated_at": updated.isoformat(),
        "cancelled_at": None,
        "currency": "USD",
        "financial_status": "paid",
        "fulfillment_status": None,
        "total_price": total,
        "phone": None,
        "billing_address": {"first_name": "Jane", "last_name": "Smith", "country_code": "US"},
        "shipping_address": {
            "address1": "1 Main St",
            "address2": "Floor 2",
            "city": "Austin",
            "province": "Texas",
            "zip": "78701",
            "country_code": "US",
        },
        "customer": {
            "id": 115_310_627_314_723_950,
            "email": "jane@example.com",
            "first_name": "Jane",
            "last_name": "Smith",
            "phone": None,
        },
        "line_items": [
            {"id": 866550311766439020 + each, "title": "Tea", "properties": [{"a": [{"b": 1}]}]}
            for each in range(300)
        ],
        "refunds": [
            {
                "id": id_,
                "transactions": [{"kind": "refund", "status": "success", "amount": amount}],
            }
            for id_, amount in (refunds or {}).items()
        ],
        **fields,
    }


def woo_order(number: int = 727, **fields: Any) -> dict[str, Any]:
    """Return an order with the parts that the documentation of WooCommerce has."""
    return {
        "id": number,
        "number": str(number),
        "status": "processing",
        "currency": "USD",
        "date_created_gmt": "2026-03-22T19:28:02",
        "date_modified_gmt": "2026-03-22T19:28:08",
        "total": "29.35",
        "customer_id": 0,
        "billing": {
            "first_name": "John",
            "last_name": "Doe",
            "address_1": "969 Market",
            "city": "San Francisco",
            "postcode": "94103",
            "country": "US",
            "email": "john@example.com",
            "phone": "+14155550132",
        },
        "shipping": {},
        "payment_method": "bacs",
        "date_paid_gmt": "2026-03-22T19:28:08",
        "refunds": [],
        "_links": {"self": [{"href": f"https://{WOO}/wp-json/wc/v3/orders/{number}"}]},
        **fields,
    }
