"""Payloads that the platforms have published, sent as they are.

The files are not part of the project. Where they are absent, these tests are skipped.
"""

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Service
from tests.integration.http.hooks.conftest import apply_all
from tests.integration.http.hooks.shop import Shop, Woo

FILES = Path(os.environ.get("CRM_TEST_SHOP_FILES", "no files of real shops"))

pytestmark = pytest.mark.skipif(not FILES.is_dir(), reason="no files of real shops here")


def payload(name: str) -> Any:
    return json.loads((FILES / name).read_text())


@pytest.mark.parametrize("refund_first", [False, True])
async def test_an_order_of_shopify_and_its_refund(
    service: Service, shop: Shop, *, refund_first: bool
) -> None:
    [order] = payload("shopify-rest-orders-partially-refunded.json")["orders"]
    sent = [
        ("orders/updated", order),
        ("refunds/create", payload("shopify-rest-refund.json")["refund"]),
    ]
    for topic, body in reversed(sent) if refund_first else sent:
        assert (await shop.send(topic, body)).json()["outcome"] in {"published", "applied"}
        await apply_all(service)
    [stored] = await service.rows("SELECT id, total, refunded FROM orders")
    assert stored == {"id": "#1001", "total": Decimal("598.94"), "refunded": Decimal("209.00")}
    [customer] = await service.rows("SELECT email FROM customers")
    assert customer["email"] == "bob.norman@hostmail.com"


async def test_orders_and_customers_of_woocommerce(service: Service, woo: Woo) -> None:
    for order in payload("woocommerce-rest-orders.json"):
        assert (await woo.send("order.updated", order)).json() == {"outcome": "published"}
    for customer in payload("woocommerce-rest-customers.json"):
        assert (await woo.send("customer.updated", customer)).json() == {"outcome": "applied"}
    await apply_all(service)
    orders = await service.rows("SELECT id, total, refunded FROM orders ORDER BY id")
    assert [(row["id"], str(row["total"]), str(row["refunded"])) for row in orders] == [
        ("723", "39.00", "19.00"),
        ("727", "29.35", "0.00"),
    ]
    names = await service.rows("SELECT name FROM customers ORDER BY name")
    assert [row["name"] for row in names] == ["John Doe", "João Silva"]
