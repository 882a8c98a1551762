"""Orders of webhooks arrive, whatever order they come in, and nothing that was signed is lost."""

import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.conftest import Service
from tests.integration.http.auth.conftest import serve
from tests.integration.http.conftest import client
from tests.integration.http.hooks.conftest import apply_all, events
from tests.integration.http.hooks.shop import (
    SHOP,
    WOO,
    Shop,
    Woo,
    register,
    shopify_order,
    woo_order,
)
from tests.wait import until

NOW = datetime.now(UTC).replace(microsecond=0)


async def test_an_order_is_its_customers_by_the_customer_object(
    service: Service, shop: Shop
) -> None:
    await shop.send("orders/create", shopify_order(updated=NOW), at=NOW)
    await apply_all(service)
    [order] = await service.rows("SELECT id, status, total, identifier FROM orders")
    assert order["id"] == "#1411"
    assert order["identifier"] == f"external:{SHOP}#115310627314723950"
    [customer] = await service.rows("SELECT name, email, address FROM customers")
    assert (customer["name"], customer["email"]) == ("Jane Smith", "jane@example.com")
    assert customer["address"]["street"] == "1 Main St, Floor 2"


async def test_the_contact_of_an_order_counts_only_without_a_customer(
    service: Service, shop: Shop
) -> None:
    await shop.send("orders/create", shopify_order(updated=NOW, customer=None), at=NOW)
    await apply_all(service)
    [customer] = await service.rows("SELECT email FROM customers")
    assert customer["email"] == "orders-of-jane@example.com"


async def test_twice_and_in_the_wrong_order_leads_to_the_latest_state(
    service: Service, shop: Shop
) -> None:
    sent = [
        ("orders/fulfilled", shopify_order(updated=NOW, fulfillment_status="fulfilled")),
        ("orders/create", shopify_order(updated=NOW - timedelta(hours=2))),
        ("orders/paid", shopify_order(updated=NOW - timedelta(hours=1))),
    ]
    for number, (topic, order) in enumerate([*sent, *sent]):
        at = datetime.fromisoformat(order["updated_at"])
        answer = await shop.send(topic, order, at=at, event=f"e-{number % 3}")
        assert answer.status_code == 200
        await apply_all(service)
    [order] = await service.rows("SELECT status, total FROM orders")
    assert order["status"] == "delivered"
    [customer] = await service.rows("SELECT total_orders FROM customers")
    assert customer["total_orders"] == 1


async def test_refunds_inside_an_order_of_woocommerce_are_summed(
    service: Service, woo: Woo
) -> None:
    refunds = [{"id": 1, "total": "-10.00"}, {"id": 2, "total": "-9.00"}]
    await woo.send("order.updated", woo_order(total="39.00", refunds=refunds))
    await apply_all(service)
    [order] = await service.rows("SELECT refunded, payment_status FROM orders")
    assert (str(order["refunded"]), order["payment_status"]) == ("19.00", "partially_refunded")


async def test_a_draft_of_woocommerce_is_no_order(service: Service, woo: Woo) -> None:
    answer = await woo.send("order.created", woo_order(status="checkout-draft"))
    assert answer.json() == {"outcome": "ignored"}
    assert await events(service) == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (json.dumps(shopify_order(updated=NOW)).encode()[:-40], "not_json"),
        (b"[]", "not_an_object"),
        (b"{}", "missing_field"),
        (b'{"name": "#1", "total_price": "-3", "created_at": "2026-01-01T00:00:00Z"}', "invalid"),
        (b'{"a":' * 2000, "not_json"),
        (b"\xff\xfe{}", "invalid_utf8"),
    ],
    ids=["truncated", "a list", "empty", "negative", "deep", "not utf-8"],
)
async def test_what_was_signed_and_cannot_be_read_is_kept_as_a_dead_letter(
    service: Service, shop: Shop, body: bytes, reason: str
) -> None:
    answer = await shop.send("orders/create", body)
    assert (answer.status_code, answer.json()) == (200, {"outcome": "dead_lettered"})
    await apply_all(service)
    [letter] = await service.rows("SELECT reason FROM dead_letters")
    assert letter["reason"].startswith(reason)

    async def shown() -> bool:
        [hook] = await service.rows("SELECT last_failure FROM hooks")
        return "dead letters" in (hook["last_failure"] or "")

    await until(shown)


async def test_unknown_topics_are_accepted_and_counted(service: Service, shop: Shop) -> None:
    for topic in ("products/update", "products/update", "orders/create"):
        order = shopify_order(updated=NOW)
        assert (await shop.send(topic, order)).status_code == 200
    counted = {("products/update", "ignored"): 2, ("orders/create", "published"): 1}

    async def are_counted() -> bool:
        rows = await service.rows("SELECT topic, outcome, deliveries FROM hook_deliveries")
        return {(row["topic"], row["outcome"]): row["deliveries"] for row in rows} == counted

    await until(are_counted)


async def test_while_redis_is_away_the_shop_is_asked_to_send_it_again(service: Service) -> None:
    await register(service)
    async with client(service, redis_url="redis://127.0.0.1:1") as http:
        answer = await Shop(http).send("orders/create", shopify_order(updated=NOW), event="again")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
    assert await events(service) == []
    async with client(service) as http:
        answer = await Shop(http).send("orders/create", shopify_order(updated=NOW), event="again")
        assert answer.status_code == 200
    [event] = await events(service)
    assert event["id"] == "again"
    rows = await service.rows("SELECT outcome FROM hook_deliveries ORDER BY outcome")
    assert [row["outcome"] for row in rows] == ["published", "unavailable"]


async def test_a_redis_that_stops_and_comes_back_loses_nothing_that_was_answered(
    service: Service, shop: Shop
) -> None:
    valkey = service.servers.redis
    if valkey is None:
        pytest.skip("only a server of our own can be stopped")
    order = shopify_order(updated=NOW)
    assert (await shop.send("orders/create", order, event="before")).status_code == 200
    valkey.stop()
    try:
        assert (await shop.send("orders/create", order, event="meanwhile")).status_code == 503
    finally:
        valkey.start()

    async def taken() -> bool:
        answer = await shop.send("orders/create", order, event="after")
        return answer.status_code == 200

    await until(taken)
    assert {event["id"] for event in await events(service)} == {"before", "after"}


async def test_a_process_that_could_not_read_the_secrets_yet_asks_to_send_it_again(
    service: Service,
) -> None:
    async with client(service, database_url="postgresql+asyncpg://crm@127.0.0.1:1/crm") as http:
        answer = await Shop(http).send("orders/create", shopify_order(updated=NOW))
        assert answer.status_code == 503


async def test_a_body_that_is_too_large_is_refused(service: Service) -> None:
    await register(service)
    async with client(service, max_body_bytes=100_000) as http:
        order = shopify_order(updated=NOW, note="x" * 100_000)
        assert (await Shop(http).send("orders/create", order)).status_code == 413


async def test_each_shop_has_a_limit_of_its_own(service: Service) -> None:
    """Whatever the addresses that its deliveries come from, of which each has a limit, too."""
    await register(service)
    await register(service, "woocommerce", WOO)
    addresses = (f"192.0.2.{number}" for number in range(1, 9))
    async with serve(service, rate_limit_per_second=0.001, rate_limit_burst=3) as web:

        async def status(kind: type[Shop], topic: str, order: object) -> int:
            transport = httpx.ASGITransport(web.app, client=(next(addresses), 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://crm") as http:
                return (await kind(http).send(topic, order)).status_code

        order = shopify_order(updated=NOW)
        statuses = [await status(Shop, "orders/create", order) for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        assert await status(Woo, "order.created", woo_order()) == 200
