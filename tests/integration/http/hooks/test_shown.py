"""People see what became of webhooks: on Operations, in the API, and in metrics."""

import re
from datetime import UTC, datetime

import httpx

from service.core.scopes import Scope
from service.db.accounts import api_keys
from tests.conftest import Service
from tests.integration.http.hooks.shop import SHOP, Shop, shopify_order
from tests.integration.http.hooks.test_customers import request, shopify_customer
from tests.wait import until

NOW = datetime.now(UTC).replace(microsecond=0)


async def sent(service: Service, shop: Shop) -> None:
    """Send something of each kind, and wait until it is counted."""
    await shop.send("customers/create", shopify_customer(), at=NOW)
    await shop.send("orders/create", shopify_order(updated=NOW), at=NOW)
    await shop.send("customers/data_request", request(data_request={"id": 1}), at=NOW)
    await shop.send("shop/redact", {"shop_id": 1, "shop_domain": SHOP}, at=NOW)
    await shop.send("orders/create", b"{", headers={"X-Shopify-Hmac-Sha256": "wrong"})

    async def counted() -> bool:
        [row] = await service.rows("SELECT sum(deliveries) AS sum FROM hook_deliveries")
        return bool(row["sum"] == 5)

    await until(counted)


async def test_operations_shows_deliveries_failures_and_requests(
    service: Service, shop: Shop
) -> None:
    empty = (await shop.http.get("/operations")).text
    assert "Webhooks in" in empty
    assert "none yet" in empty
    await sent(service, shop)
    page = (await shop.http.get("/operations")).text
    assert f"<b>{SHOP}</b>" in page
    assert "<code>orders/create</code> 1" in page
    assert "crm hooks rotate" in page
    assert "failing" in page
    assert 'href="/customers/CUST-1001"' in page
    assert "asks to erase everything" in page
    [asked] = (await shop.http.get("/api/v1/customers/CUST-1001/data")).json()["shopRequests"]
    assert (asked["shop"], asked["doneAt"]) == (SHOP, None)
    rows = await service.rows("SELECT id FROM shop_requests ORDER BY id")
    for row in rows:
        answer = await shop.http.post(f"/operations/shop-requests/{row['id']}/close")
        assert answer.status_code == 303
    assert "Asked by shops" not in (await shop.http.get("/operations")).text
    done = await service.rows("SELECT done_by FROM shop_requests")
    assert [row["done_by"] for row in done] == ["local", "local"]
    actions = await service.rows("SELECT action FROM audit WHERE action LIKE 'shop-request%'")
    assert len(actions) == 2


async def test_the_api_lists_the_shops_for_admins(service: Service, shop: Shop) -> None:
    await sent(service, shop)
    keys = []
    for scope in (Scope.ADMIN, Scope.READ):
        made = await service.in_transaction(
            lambda connection, scope=scope: api_keys.create_key(
                connection, scope, [scope], actor="test"
            )
        )
        keys.append({"Authorization": f"Bearer {made.reveal()}"})

    async def asked() -> list[httpx.Response]:
        return [await shop.http.get("/api/v1/hooks", headers=key) for key in keys]

    async def known() -> bool:
        return [answer.status_code for answer in await asked()] == [200, 403]

    await until(known)
    [hook] = (await asked())[0].json()["items"]
    assert (hook["platform"], hook["domain"], hook["secrets"]) == ("shopify", SHOP, 1)
    found = {(each["topic"], each["outcome"]): each["deliveries"] for each in hook["deliveries"]}
    assert found == {
        ("customers/create", "applied"): 1,
        ("orders/create", "published"): 1,
        ("customers/data_request", "applied"): 1,
        ("shop/redact", "applied"): 1,
        ("", "wrong_signature"): 1,
    }
    # Webhooks need no key, and none changes what they may do.
    order = shopify_order(updated=NOW)
    assert (
        await shop.send("orders/create", order, headers={"Authorization": "Bearer x"})
    ).status_code == 200


async def test_metrics_count_deliveries_by_platform_and_outcome(
    service: Service, shop: Shop
) -> None:
    await sent(service, shop)
    text = (await shop.http.get("/metrics")).text
    assert 'crm_hook_deliveries_total{outcome="applied",platform="shopify"} 3.0' in text
    assert 'crm_hook_deliveries_total{outcome="wrong_signature",platform="shopify"} 1.0' in text
    assert f'crm_hook_last_delivery_timestamp_seconds{{domain="{SHOP}",platform="shopify"}}' in text
    waited = re.search(r"^crm_oldest_shop_request_seconds (\S+)$", text, re.MULTILINE)
    assert waited
    assert float(waited[1]) > 0
