"""Identifiers over HTTP: those of a customer, and those that are marked as not a person."""

from typing import Any

import httpx
import pytest

from service.http.api.identifiers import CustomerIdentifiers, MarkOutcome, Marks
from tests.conftest import Service
from tests.integration.http.identity.conftest import API, everything, order

ONE, TWO = f"{API}/customers/CUST-1001", f"{API}/customers/CUST-1002"
MARKS = f"{API}/identifiers/not-a-person"
SHOP = {"identifier": "email:orders@myshop.example"}
TRIED = {"dryRun": "true"}


async def listed(web: httpx.AsyncClient, customer: str = ONE) -> dict[str, Any]:
    """Return who gave a customer each of their identifiers."""
    answer = await web.get(f"{customer}/identifiers")
    CustomerIdentifiers.model_validate_json(answer.content)
    assert answer.json()["items"] == (await web.get(customer)).json()["identifiers"]
    return {each["identifier"]: each["by"] for each in answer.json()["items"]}


async def test_identifiers_say_what_they_are_and_where_they_came_from(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(order(1, id=7, email="a@x.example"))
    answer = await web.post(
        f"{ONE}/identifiers", json={"kind": "phone", "value": "+880 1711-000001"}
    )
    assert answer.status_code == 201, answer.text
    CustomerIdentifiers.model_validate_json(answer.content)
    shown = [
        {name: each[name] for name in ("kind", "value", "source", "by")}
        for each in answer.json()["items"]
    ]
    assert shown == [
        {"kind": "email", "value": "a@x.example", "source": None, "by": None},
        {"kind": "external", "value": "7", "source": "/order-management", "by": None},
        {"kind": "phone", "value": "+8801711000001", "source": None, "by": "local"},
    ]


async def test_events_find_the_customer_by_an_identifier_that_was_added(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(order(1, email="a@x.example"))
    for body in (
        {"kind": "email", "value": " B@X.example "},
        {"kind": "external", "value": "7", "source": "/order-management"},
        {"identifier": "phone:+880 1711 000001"},
    ):
        assert (await web.post(f"{ONE}/identifiers", json=body)).status_code == 201
    again = await web.post(f"{ONE}/identifiers", json=body)
    assert again.status_code == 201, "what they have already is no mistake"
    await service.ingest(
        order(2, email="b@x.example"), order(3, id=7), order(4, phone="+8801711000001")
    )
    assert (await web.get(ONE)).json()["totalOrders"] == 4
    noted = await service.rows("SELECT details FROM audit WHERE action = 'identifier.added'")
    assert len(noted) == 3


async def test_an_identifier_that_somebody_has_names_the_way_to_merge(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(order(1, email="a@x.example"), order(2, email="b@x.example"))
    body = {"kind": "email", "value": "b@x.example"}
    answer = await web.post(f"{ONE}/identifiers", json=body)
    assert answer.status_code == 409
    assert answer.json()["merge"] == f"{ONE}/merge"
    assert f'{{"other": "CUST-1002"}} to {ONE}/merge' in answer.json()["detail"]
    await web.put(MARKS, json=body)
    answer = await web.post(f"{ONE}/identifiers", json=body)
    assert answer.status_code == 409
    assert "not a person" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "email"},
        {"value": "a@x.example"},
        {"kind": "email", "value": "a@x.example", "identifier": "email:a@x.example"},
        {"kind": "email", "value": "nobody"},
        {"kind": "email", "value": "a@x.example", "source": "/shop"},
        {"kind": "external", "value": "7"},
        {"kind": "phone", "value": "12"},
        {"kind": "customer", "value": "CUST-1002"},
        {"kind": "fax", "value": "1"},
        {"identifier": "a@x.example"},
        {"identifier": "email:a\x00@x.example"},
    ],
)
async def test_what_is_no_identifier_is_refused(
    service: Service, web: httpx.AsyncClient, body: dict[str, str]
) -> None:
    await service.ingest(order(1, email="a@x.example"))
    before = await everything(service)
    for method, path in (("POST", f"{ONE}/identifiers"), ("PUT", MARKS)):
        answer = await web.request(method, path, json=body)
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"]
    assert await everything(service) == before


async def test_an_identifier_is_taken_away_unless_orders_came_with_it(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(order(1, email="a@x.example"))
    await web.patch(ONE, json={"email": "b@x.example"})
    for body, status in (
        ({"identifier": "email:a@x.example"}, 409),
        ({"identifier": "email:c@x.example"}, 404),
        ({"identifier": "email:b@x.example"}, 204),
        ({"identifier": "email:b@x.example"}, 404),
    ):
        answer = await web.request("DELETE", f"{ONE}/identifiers", json=body)
        assert answer.status_code == status, answer.text
        if status == 409:
            assert answer.json()["split"] == f"{ONE}/split"
            assert f"POST {ONE}/split" in answer.json()["detail"]
    assert list(await listed(web)) == ["email:a@x.example"]
    found = (await web.get(ONE)).json()
    assert found["email"] == "a@x.example", "another one of theirs took its place"
    searched = await web.post(f"{API}/customers/search", json={"search": "b@x.example"})
    assert searched.json()["total"] == 0
    await service.ingest(order(2, email="b@x.example"))
    assert (await web.get(ONE)).json()["totalOrders"] == 1
    missing = await web.request(
        "DELETE", f"{API}/customers/CUST-9/identifiers", json={"identifier": "email:a@x.example"}
    )
    assert missing.status_code == 404
    await web.post(f"{ONE}/merge", json={"other": "CUST-1002"})
    merged = await web.request("DELETE", f"{ONE}/identifiers", json={"identifier": "customer:1002"})
    assert merged.status_code == 409, "a merge is undone by a split"


async def test_an_identifier_that_was_taken_away_is_brought_back_as_it_was(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(order(1, email="a@x.example"))
    await web.patch(ONE, json={"email": "b@x.example"})
    body = {"identifier": "email:b@x.example"}
    rows = "SELECT identifier, given_by, since FROM identifiers ORDER BY identifier"
    own = "SELECT email, email_key, email_at, email_event FROM customers"
    before, own_before = await service.rows(rows), await service.rows(own)
    path = f"{ONE}/identifiers"
    never = await web.post(f"{path}/restore", json={"identifier": "email:a@x.example"})
    assert (never.status_code, never.json()["title"]) == (404, "Identifier not found")
    assert (await web.request("DELETE", path, json=body)).status_code == 204
    assert (await web.get(ONE)).json()["email"] == "a@x.example"
    page = (await web.get("/customers/CUST-1001")).text
    assert 'You removed <span class="wrap">b@x.example</span>' in page
    restored = await web.post(f"{path}/restore", json=body)
    assert restored.status_code == 200, restored.text
    CustomerIdentifiers.model_validate_json(restored.content)
    assert (await service.rows(rows), await service.rows(own)) == (before, own_before)
    searched = await web.post(f"{API}/customers/search", json={"search": "b@x.example"})
    assert searched.json()["total"] == 1
    assert "You removed" not in (await web.get("/customers/CUST-1001")).text
    assert (await web.post(f"{path}/restore", json=body)).status_code == 200, "no mistake"
    actions = await service.rows("SELECT action FROM audit WHERE action LIKE 'identifier.%'")
    assert [row["action"] for row in actions] == ["identifier.removed", "identifier.restored"]


@pytest.mark.parametrize("meanwhile", ["another's", "an hour", "another person"])
async def test_what_cannot_be_brought_back_says_why(
    service: Service, web: httpx.AsyncClient, meanwhile: str
) -> None:
    await service.ingest(order(1, email="a@x.example"))
    await web.patch(ONE, json={"email": "b@x.example"})
    form = {"identifier": "email:b@x.example"}
    address = "/customers/CUST-1001/identifiers"
    await web.post(f"{address}/remove", data=form)
    if meanwhile == "another's":
        await service.ingest(order(2, email="b@x.example"))
    elif meanwhile == "an hour":
        await service.execute("UPDATE audit SET at = at - interval '61 minutes'")
    else:
        await service.execute("UPDATE audit SET actor = 'somebody@example.com'")
    answer = await web.post(f"{address}/restore", data=form)
    assert answer.status_code == (409 if meanwhile == "another's" else 404)
    assert ("CUST-1002 has this identifier" in answer.text) is (meanwhile == "another's")
    assert (await web.get(ONE)).json()["email"] == "a@x.example"


async def test_an_e_mail_that_somebody_typed_meanwhile_stays(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(order(1, email="a@x.example"))
    await web.patch(ONE, json={"email": "b@x.example"})
    form = {"identifier": "email:b@x.example"}
    address = "/customers/CUST-1001/identifiers"
    await web.post(f"{address}/remove", data=form)
    await web.patch(ONE, json={"email": "c@x.example"})
    answer = await web.post(f"{address}/restore", data=form, follow_redirects=True)
    assert "The identifier is back" in answer.text
    assert (await web.get(ONE)).json()["email"] == "c@x.example"
    assert "email:b@x.example" in await listed(web)


async def test_the_only_identifier_of_a_customer_made_by_hand_can_be_taken_away(
    web: httpx.AsyncClient,
) -> None:
    await web.post(f"{API}/customers", json={"name": "Jane", "email": "j@x.example"})
    body = {"kind": "email", "value": "J@x.example"}
    assert (await web.request("DELETE", f"{ONE}/identifiers", json=body)).status_code == 204
    assert (await web.get(ONE)).json()["email"] is None
    assert await listed(web) == {}


async def test_twenty_orders_of_the_shop_itself_are_nobodys_until_the_mark_is_taken_away(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(*(order(n, email="orders@myshop.example") for n in range(1, 21)))
    await service.ingest(order(30, email="a@x.example"))
    statistics = (await web.get(f"{API}/statistics")).json()
    assert (statistics["totalCustomers"], statistics["vipCustomers"]) == (2, 1)

    before = await everything(service)
    would = {
        "dryRun": True,
        "identifier": "email:orders@myshop.example",
        "orders": 20,
        "customer": None,
        "removed": "CUST-1001",
    }
    tried = await web.put(MARKS, json=SHOP, params=TRIED)
    assert tried.json() == would
    assert await everything(service) == before

    marked = await web.put(MARKS, json={"kind": "email", "value": "Orders@MyShop.example"})
    MarkOutcome.model_validate_json(marked.content)
    assert marked.json() == would | {"dryRun": False}
    statistics = (await web.get(f"{API}/statistics")).json()
    assert (statistics["totalCustomers"], statistics["vipCustomers"]) == (1, 0)
    assert statistics["unattributedOrders"] == 20
    unattributed = (await web.get(f"{API}/orders/unattributed")).json()
    assert unattributed["total"] == 20
    assert unattributed["items"][0]["namedBy"] == ["email:orders@myshop.example"]
    marks = await web.get(MARKS)
    Marks.model_validate_json(marks.content)
    (mark,) = marks.json()["items"]
    assert (mark["value"], mark["by"]) == ("orders@myshop.example", "local")

    before = await everything(service)
    tried = await web.request("DELETE", MARKS, json=SHOP, params=TRIED)
    assert (tried.json()["orders"], tried.json()["removed"]) == (20, None)
    assert await everything(service) == before
    back = await web.request("DELETE", MARKS, json=SHOP)
    assert (back.status_code, back.json()["orders"]) == (200, 20)
    customer = (await web.get(f"{API}/customers/{back.json()['customer']}")).json()
    assert (customer["totalOrders"], customer["segment"]) == (20, "vip")
    again = await web.request("DELETE", MARKS, json=SHOP)
    assert again.status_code == 404
    assert (await web.get(MARKS)).json()["items"] == []


async def test_a_mark_leaves_a_customer_of_whom_more_is_known(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(order(1, id=7, email="a@x.example"), order(2, email="a@x.example"))
    marked = (await web.put(MARKS, json={"identifier": "email:a@x.example"})).json()
    assert (marked["orders"], marked["customer"], marked["removed"]) == (1, "CUST-1001", None)
    found = (await web.get(ONE)).json()
    assert (found["email"], found["orderIds"]) == (None, ["ORD-1"])


async def test_the_id_of_a_customer_cannot_be_marked(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(order(1, email="a@x.example"))
    answer = await web.put(MARKS, json={"identifier": "customer:CUST-1001"})
    assert answer.status_code == 422
    assert "delete the customer instead" in answer.json()["detail"]
