"""Only what a registered shop has signed is taken in."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from service.db.accounts import hooks
from service.db.accounts.hooks import HookKey
from tests.conftest import Service
from tests.integration.http.conftest import client
from tests.integration.http.hooks.conftest import events
from tests.integration.http.hooks.shop import (
    SECRET,
    SHOP,
    WOO,
    Shop,
    Woo,
    register,
    shopify_order,
    signature,
    woo_order,
)
from tests.wait import until

NOW = datetime.now(UTC).replace(microsecond=0)
OTHER = "shpss_ffffffffffffffffffffffffffffffff"


def test_a_signature_is_that_of_a_pair_that_is_known() -> None:
    """RFC 4231, test case 2. So it is `openssl` that tells what is right in the other tests."""
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert base64.b64decode(signature(b"what do ya want for nothing?", "Jefe")).hex() == expected


async def test_a_signed_order_is_in_the_stream(service: Service, shop: Shop) -> None:
    at = NOW - timedelta(minutes=3)
    answer = await shop.send("orders/create", shopify_order(updated=NOW), at=at, event="abc-1")
    assert (answer.status_code, answer.json()) == (200, {"outcome": "published"})
    [event] = await events(service)
    assert (event["id"], event["source"], event["type"]) == ("abc-1", SHOP, "order-created")
    assert datetime.fromisoformat(event["time"]) == at
    assert event["data"]["id"] == "#1411"


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Shopify-Hmac-Sha256": signature(b"{}", SECRET)},
        {"X-Shopify-Hmac-Sha256": ""},
        {"X-Shopify-Hmac-Sha256": "ü"},
        {"X-Shopify-Shop-Domain": "other.myshopify.com"},
    ],
    ids=["of another body", "empty", "not ascii", "of another shop"],
)
async def test_what_is_not_signed_as_it_must_be_is_refused(
    service: Service, shop: Shop, headers: dict[str, str]
) -> None:
    answer = await shop.send("orders/create", shopify_order(updated=NOW), headers=headers)
    assert answer.status_code == 401
    assert await events(service) == []

    async def noted() -> bool:
        [row] = await service.rows("SELECT last_failure, last_delivery_at FROM hooks")
        return row["last_failure"] is not None

    await until(noted)


async def test_a_changed_body_is_refused(service: Service, shop: Shop) -> None:
    body = json.dumps(shopify_order(updated=NOW)).encode()
    answer = await shop.send(
        "orders/create",
        body.replace(b"39.00", b"0.01"),
        headers={"X-Shopify-Hmac-Sha256": signature(body)},
    )
    assert answer.status_code == 401
    assert await events(service) == []


async def test_who_sends_wrong_signatures_again_and_again_is_not_answered_any_more(
    shop: Shop,
) -> None:
    wrong = {"X-Shopify-Hmac-Sha256": "wrong"}
    statuses = [
        (await shop.send("orders/create", b"{}", headers=wrong)).status_code for _ in range(25)
    ]
    assert statuses[0] == 401
    assert statuses[-1] == 429
    assert (await shop.send("orders/create", shopify_order(updated=NOW))).status_code == 200


async def test_several_secrets_are_valid_while_one_replaces_the_other(service: Service) -> None:
    await register(service)
    await register(service, domain="rotated.example", secret=OTHER)
    sealed = (await service.rows("SELECT sealed FROM hook_secrets ORDER BY id DESC LIMIT 1"))[0]
    key = HookKey("shopify", SHOP)

    async def statuses() -> list[int]:
        async with client(service) as http:  # with nothing cached
            shops = [Shop(http, secret=secret) for secret in (SECRET, OTHER)]
            order = shopify_order(updated=NOW)
            return [(await shop.send("orders/create", order)).status_code for shop in shops]

    assert await statuses() == [200, 401]
    await service.in_transaction(
        lambda connection: hooks.rotate_hook(
            connection, key, sealed["sealed"], timedelta(days=1), actor="test"
        )
    )
    assert await statuses() == [200, 200]
    await service.in_transaction(
        lambda connection: hooks.rotate_hook(
            connection, key, sealed["sealed"], timedelta(0), actor="test"
        )
    )
    assert await statuses() == [401, 200]


async def test_a_secret_is_stored_sealed_and_only_web_processes_read_it(service: Service) -> None:
    await register(service)
    [row] = await service.rows("SELECT sealed FROM hook_secrets")
    assert SECRET not in row["sealed"]
    with pytest.raises(Exception, match="permission denied"):
        async with service.engine.connect() as connection:  # a worker's
            await connection.exec_driver_sql("SELECT sealed FROM hook_secrets")


async def test_the_first_request_of_woocommerce_only_tries_the_address(
    service: Service, woo: Woo
) -> None:
    answer = await woo.http.post("/hooks/woocommerce", data={"webhook_id": "123"})
    assert answer.status_code == 200
    assert await events(service) == []


async def test_an_order_of_woocommerce_is_in_the_stream(service: Service, woo: Woo) -> None:
    answer = await woo.send("order.updated", woo_order(), event="d-1")
    assert (answer.status_code, answer.json()) == (200, {"outcome": "published"})
    [event] = await events(service)
    assert (event["id"], event["source"], event["data"]["id"]) == ("d-1", WOO, "727")
    assert event["time"] == "2026-03-22T19:28:08Z"


async def test_an_order_event_comes_in_as_standard_webhooks_says(service: Service) -> None:
    key = b"0123456789abcdef0123456789abcdef"
    secret = f"whsec_{base64.b64encode(key).decode()}"
    await register(service, "standard", "warehouse", secret)
    body = b'{"id": "1", "type": "order-created", "data": {"id": "A"}}'

    async def send(http: httpx.AsyncClient, at: datetime) -> int:
        seconds = str(int(at.timestamp()))
        # Written out, as the specification has it.
        digest = hmac.new(key, b"msg_1." + seconds.encode() + b"." + body, hashlib.sha256).digest()
        headers = {
            "webhook-id": "msg_1",
            "webhook-timestamp": seconds,
            "webhook-signature": f"v1,b3RoZXI= v1,{base64.b64encode(digest).decode()}",
        }
        return (await http.post("/hooks/standard", content=body, headers=headers)).status_code

    async with client(service) as http:
        assert await send(http, datetime.now(UTC) - timedelta(minutes=6)) == 401
        assert await send(http, datetime.now(UTC)) == 200
    [event] = await events(service)
    assert event == {**json.loads(body), "source": "warehouse"}


async def test_there_are_no_webhooks_of_a_platform_that_is_not_known(shop: Shop) -> None:
    answer = await shop.http.post("/hooks/magento", content=b"{}")
    assert answer.status_code == 404
    assert "shopify" in answer.json()["detail"]
