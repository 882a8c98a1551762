"""What webhooks say about customers: facts of a profile, merges, and requests about their data."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.db.customers import editing
from service.db.customers.editing import HoldEdit
from service.db.customers.identity import merge
from tests.conftest import Service
from tests.integration.http.hooks.conftest import apply_all, events
from tests.integration.http.hooks.shop import SHOP, WOO, Shop, Woo, shopify_order

NOW = datetime.now(UTC).replace(microsecond=0)
JANE = 115_310_627_314_723_950
NO_HOLD = HoldEdit(frozenset())


def shopify_customer(id_: int = JANE, **fields: Any) -> dict[str, Any]:
    """Return a customer with the parts that Shopify's own example has."""
    return {
        "id": id_,
        "email": "jane@example.com",
        "first_name": "Jane",
        "last_name": "Doe",
        "phone": "+1 512 555 0199",
        "verified_email": True,
        "state": "enabled",
        "note": None,
        "created_at": (NOW - timedelta(days=9)).isoformat(),
        "updated_at": NOW.isoformat(),
        "default_address": {
            "address1": "2 New St",
            "city": "Austin",
            "province": "Texas",
            "zip": "78702",
            "country_code": "US",
        },
        **fields,
    }


def consent(state: str, at: datetime) -> dict[str, Any]:
    return {
        "email_marketing_consent": {"state": state, "consent_updated_at": at.isoformat()},
    }


async def customers(service: Service) -> list[dict[str, Any]]:
    return await service.rows(
        "SELECT id, name, email, phone, address, email_opt_in, notes, segment FROM customers"
        " ORDER BY id"
    )


async def test_a_customer_is_created_and_changed_as_by_a_file(service: Service, shop: Shop) -> None:
    answer = await shop.send("customers/create", shopify_customer(), at=NOW)
    assert answer.json() == {"outcome": "applied"}
    [jane] = await customers(service)
    assert (jane["name"], jane["address"]["street"], jane["email_opt_in"]) == (
        "Jane Doe",
        "2 New St",
        False,
    )
    older = shopify_customer(last_name="Older", **consent("subscribed", NOW))
    await shop.send("customers/update", older, at=NOW - timedelta(hours=1))
    [jane] = await customers(service)
    assert jane["name"] == "Jane Doe"
    changes = await service.rows("SELECT cause FROM segment_changes")
    assert [change["cause"] for change in changes] == ["import"]
    await shop.send("orders/create", shopify_order(updated=NOW), at=NOW)
    await apply_all(service)
    assert len(await customers(service)) == 1


async def test_what_a_person_typed_outranks_a_webhook(service: Service, shop: Shop) -> None:
    await shop.send("customers/create", shopify_customer(), at=NOW)
    [jane] = await customers(service)
    await service.in_transaction(
        editing.edit, "test", jane["id"], {"name": "Jane D."}, NO_HOLD, None
    )
    await shop.send("customers/update", shopify_customer(last_name="Else"), at=datetime.now(UTC))
    [jane] = await customers(service)
    assert jane["name"] == "Jane D."


@pytest.mark.parametrize(
    ("state", "hours", "kept"),
    [("subscribed", -1, False), ("subscribed", 1, True), ("unsubscribed", -1, False)],
    ids=["older consent", "newer consent", "withdrawn"],
)
async def test_a_consent_that_is_older_than_what_staff_noted_does_not_count(
    service: Service, shop: Shop, state: str, hours: int, *, kept: bool
) -> None:
    await shop.send("customers/create", shopify_customer(), at=NOW)
    [jane] = await customers(service)
    for given in (True, False):
        await service.in_transaction(
            editing.edit, "test", jane["id"], {"email_opt_in": given}, NO_HOLD, None
        )
    told = shopify_customer(**consent(state, datetime.now(UTC) + timedelta(hours=hours)))
    await shop.send("customers/update", told, at=datetime.now(UTC))
    [jane] = await customers(service)
    assert jane["email_opt_in"] is kept


async def test_a_consent_that_was_withdrawn_counts_however_late_it_comes(
    service: Service, shop: Shop
) -> None:
    await shop.send("customers/create", shopify_customer(**consent("subscribed", NOW)), at=NOW)
    assert (await customers(service))[0]["email_opt_in"]
    late = NOW - timedelta(days=1)
    await shop.send("customers/update", shopify_customer(**consent("unsubscribed", late)), at=late)
    assert not (await customers(service))[0]["email_opt_in"]


async def test_a_customer_of_woocommerce_is_known_by_their_number(
    service: Service, woo: Woo
) -> None:
    told = {
        "id": 26,
        "email": "joao@example.com",
        "first_name": "João",
        "last_name": "Silva",
        "username": "joao",
        "date_created": "2026-03-21T16:11:14",
        "date_created_gmt": "2026-03-21T19:11:14",
        "date_modified_gmt": "2026-03-21T19:11:16",
        "billing": {"address_1": "Av. Brasil", "country": "BR", "phone": "(11) 91111-2222"},
        "shipping": {},
    }
    assert (await woo.send("customer.created", told)).json() == {"outcome": "applied"}
    assert (await woo.send("customer.deleted", {"id": 26})).json() == {"outcome": "ignored"}
    [joao] = await customers(service)
    assert joao["name"] == "João Silva"
    rows = await service.rows("SELECT identifier FROM identifiers ORDER BY identifier")
    assert [row["identifier"] for row in rows] == ["email:joao@example.com", f"external:{WOO}#26"]


@pytest.mark.parametrize("known", ["both", "kept", "deleted", "neither"])
async def test_customers_whom_the_shop_merged_are_one(
    service: Service, shop: Shop, known: str
) -> None:
    ids = {"both": (1, 2), "kept": (1,), "deleted": (2,), "neither": ()}[known]
    for id_ in ids:
        told = shopify_customer(id_, email=f"jane{id_}@example.com")
        assert (await shop.send("customers/create", told, at=NOW)).status_code == 200
    merged: dict[str, Any] = {
        "admin_graphql_api_customer_kept_id": "gid://shopify/Customer/1",
        "admin_graphql_api_customer_deleted_id": "gid://shopify/Customer/2",
        "admin_graphql_api_job_id": None,
        "status": "completed",
        "errors": [],
    }
    failed = {**merged, "status": "failed"}
    assert (await shop.send("customers/merge", failed)).json() == {"outcome": "ignored"}
    for _ in range(2):
        outcome = "ignored" if known == "neither" else "applied"
        assert (await shop.send("customers/merge", merged)).json() == {"outcome": outcome}
    while await service.in_transaction(merge.merge_next):
        pass
    rows = await service.rows(
        "SELECT identifier, customer_id FROM identifiers WHERE identifier LIKE 'external:%'"
    )
    assert len(rows) == (0 if known == "neither" else 2)
    assert len({row["customer_id"] for row in rows}) == (0 if known == "neither" else 1)


def request(**fields: Any) -> dict[str, Any]:
    customer = {"id": JANE, "email": "jane@example.com", "phone": "+15125550199"}
    return {"shop_id": 954889, "shop_domain": SHOP, "customer": customer, **fields}


async def test_a_customer_whom_the_shop_redacts_is_erased(service: Service, shop: Shop) -> None:
    """Also what they are by e-mail and by phone alone. Old orders do not bring them back."""
    order = shopify_order(updated=NOW)
    by_email = shopify_order(1412, updated=NOW, customer=None, contact_email="jane@example.com")
    by_phone = shopify_order(
        1413, updated=NOW, customer=None, contact_email=None, email=None, phone="+15125550199"
    )
    other = shopify_order(1414, updated=NOW, customer={"id": 7, "email": "joe@example.com"})
    for each in (order, by_email, by_phone, other):
        await shop.send("orders/create", each, at=NOW)
    await apply_all(service)
    assert len(await customers(service)) == 3
    asked = request(orders_to_redact=[order["id"]])
    assert (await shop.send("customers/redact", asked, at=NOW)).json() == {"outcome": "applied"}
    [joe] = await customers(service)
    assert joe["email"] == "joe@example.com"
    await shop.send(
        "orders/updated", {**order, "updated_at": (NOW + timedelta(hours=1)).isoformat()}
    )
    await apply_all(service)
    assert len(await customers(service)) == 1
    assert (await shop.send("customers/redact", asked, at=NOW)).json() == {"outcome": "applied"}
    done = await service.rows("SELECT kind, done_by, customer_id FROM shop_requests")
    assert done == [
        {"kind": "erase_customer", "done_by": f"hook:shopify {SHOP}", "customer_id": None}
    ]


async def test_a_person_who_is_redacted_before_their_order_is_applied_stays_away(
    service: Service, shop: Shop
) -> None:
    await shop.send("orders/create", shopify_order(updated=NOW), at=NOW)
    await shop.send("customers/redact", request(orders_to_redact=[]), at=NOW)
    await apply_all(service)
    assert await customers(service) == []


async def test_somebody_else_with_the_same_e_mail_is_not_erased(
    service: Service, shop: Shop
) -> None:
    """They have a number of their own in the shop."""
    await shop.send("customers/create", shopify_customer(7), at=NOW)
    asked = request(orders_to_redact=[])
    assert (await shop.send("customers/redact", asked, at=NOW)).status_code == 200
    assert len(await customers(service)) == 1


@pytest.mark.parametrize(
    ("body", "at", "outcome"),
    [
        (request(data_request={"id": 1}, orders_requested=[]), NOW, "dead_lettered"),
        (
            {**request(orders_to_redact=[]), "shop_domain": "other.myshopify.com"},
            NOW,
            "dead_lettered",
        ),
        (request(orders_to_redact=[]), NOW - timedelta(days=8), "too_old"),
    ],
    ids=["another topic's body", "another shop's body", "long ago"],
)
async def test_an_erasure_that_may_not_be_meant_is_not_done(
    service: Service, shop: Shop, body: dict[str, Any], at: datetime, outcome: str
) -> None:
    """The topic and the time are not signed, so they may be forged."""
    await shop.send("customers/create", shopify_customer(), at=NOW)
    assert (await shop.send("customers/redact", body, at=at)).json() == {"outcome": outcome}
    assert len(await customers(service)) == 1
    if outcome == "dead_lettered":
        assert len(await events(service)) == 1


async def test_a_request_that_was_overheard_is_done_once(service: Service, shop: Shop) -> None:
    """The person comes back, and is not erased again by the same body."""
    asked = request(orders_to_redact=[])
    await shop.send("customers/create", shopify_customer(), at=NOW)
    await shop.send("customers/redact", asked, at=NOW)
    assert await customers(service) == []
    later = datetime.now(UTC) + timedelta(seconds=1)
    order = shopify_order(2000, created=later, updated=later)
    await shop.send("orders/create", order)
    await apply_all(service)
    assert len(await customers(service)) == 1
    await shop.send("customers/redact", asked, at=datetime.now(UTC))
    assert len(await customers(service)) == 1


async def test_requests_for_data_and_of_a_shop_wait_for_a_person(
    service: Service, shop: Shop
) -> None:
    await shop.send("customers/create", shopify_customer(), at=NOW)
    [jane] = await customers(service)
    data = request(data_request={"id": 9999}, orders_requested=[1])
    gone = {"shop_id": 954889, "shop_domain": SHOP}
    for _ in range(2):
        for topic, body in (("customers/data_request", data), ("shop/redact", gone)):
            assert (await shop.send(topic, body, at=NOW)).json() == {"outcome": "applied"}
    waiting = await service.rows(
        "SELECT kind, customer_id FROM shop_requests WHERE done_at IS NULL ORDER BY id"
    )
    assert waiting == [
        {"kind": "data", "customer_id": jane["id"]},
        {"kind": "erase_shop", "customer_id": None},
    ]
    assert len(await customers(service)) == 1


async def test_a_deletion_in_the_shop_is_not_an_erasure(service: Service, shop: Shop) -> None:
    await shop.send("customers/create", shopify_customer(), at=NOW)
    assert (await shop.send("customers/delete", {"id": JANE}, at=NOW)).json() == {
        "outcome": "ignored"
    }
    assert len(await customers(service)) == 1
