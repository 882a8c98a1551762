"""People see what became of webhooks: on Operations, in the API, and in metrics."""

import re
from datetime import UTC, datetime

import httpx
import pytest

from service.core.scopes import Scope
from service.db.accounts import api_keys
from service.db.customers import editing
from service.http.dashboard import shop_request_page
from tests.conftest import Service
from tests.events import entry
from tests.integration.http.hooks.conftest import apply_all
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


async def shop_that_left(service: Service, shop: Shop) -> str:
    """Fill a shop that asks to be erased. Return the address of the page that answers it."""
    shared = shopify_order(1413, updated=NOW, customer={"id": 7, "email": "shared@example.com"})
    guest = shopify_order(1412, updated=NOW, customer=None, contact_email="guest@example.com")
    for order in (shared, guest):
        await shop.send("orders/create", order, at=NOW)
        await apply_all(service)
    await shop.send("customers/create", shopify_customer(), at=NOW)
    # One is known to another system, one only to it, and one has another order by e-mail.
    await service.ingest(
        entry("ORD-1", customer={"id": "55", "email": "shared@example.com"}),
        entry("ORD-2", customer={"id": "56", "email": "other@example.com"}),
    )
    await shop.send("shop/redact", {"shop_id": 1, "shop_domain": SHOP}, at=NOW)
    (row,) = await service.rows("SELECT id FROM shop_requests")
    return f"/operations/shop-requests/{row['id']}"


async def emails(service: Service) -> list[str]:
    return [row["email"] for row in await service.rows("SELECT email FROM customers ORDER BY id")]


async def test_staff_erase_the_customers_of_a_shop_that_asks_for_it(
    service: Service, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop_request_page, "_STEP_SECONDS", -1)  # one customer a step
    address = await shop_that_left(service, shop)
    assert f'href="{address}/erase"' in (await shop.http.get("/operations")).text
    form = await shop.http.get(f"{address}/erase")
    assert "<b>2 customers</b> would be erased for good" in form.text
    assert "1 customer of the shop has orders or numbers from elsewhere" in form.text
    before = await emails(service)
    for typed in ({}, {"confirm": "other.example"}, {"begun": "1"}):
        wrong = await shop.http.post(f"{address}/erase", data=typed)
        assert (wrong.status_code, f"Type {SHOP}, exactly" in wrong.text) == (422, True)
    assert await emails(service) == before
    step = await shop.http.post(f"{address}/erase", data={"confirm": SHOP})
    assert "1 customer left" in step.text
    assert "data-continue" in step.text
    last = await shop.http.post(f"{address}/erase", data={"confirm": SHOP, "begun": "1"})
    assert "Nobody is left whom only this shop knows" in last.text
    assert "data-continue" not in last.text
    assert sorted(await emails(service)) == ["other@example.com", "shared@example.com"]
    rows = await service.rows(
        "SELECT action, details ->> 'customers' AS customers FROM audit"
        " WHERE action IN ('customer.erased', 'shop-request.erasure-started') ORDER BY id"
    )
    assert [(row["action"], row["customers"]) for row in rows] == [
        ("shop-request.erasure-started", "2"),
        ("customer.erased", None),
        ("customer.erased", None),
    ]
    # A person still has to decide about the one who stays.
    assert "Asked by shops" in (await shop.http.get("/operations")).text
    (shared,) = await service.rows("SELECT id FROM customers WHERE email = 'shared@example.com'")
    await service.in_transaction(editing.delete, "test", shared["id"])
    done = await shop.http.post(
        f"{address}/erase", data={"confirm": SHOP, "begun": "1"}, follow_redirects=True
    )
    assert "All customers of the shop are erased" in done.text
    assert "Asked by shops" not in done.text
    assert (await shop.http.get(f"{address}/erase")).status_code == 404


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
