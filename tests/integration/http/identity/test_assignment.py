"""Unattributed orders that staff give to a customer."""

from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.conftest import Service
from tests.events import entry
from tests.integration.http.identity.conftest import API, everything, order

ONE = f"{API}/customers/CUST-1001"


def of(order_id: str) -> str:
    """Return the address at which an order is assigned."""
    return f"{API}/orders/{quote(order_id, safe='')}/customer"


async def test_an_order_that_was_assigned_stays_where_it_is(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(order(1, email="a@x.example"), entry("ORD-9", total="40"))
    answer = await web.post(of("ORD-9"), json={"customer": "CUST-1001"})
    assert answer.status_code == 200, answer.text
    found = (await web.get(ONE)).json()
    assert answer.json() == found
    assert (found["totalOrders"], found["totalSpent"], found["segment"]) == (2, 140.0, "returning")
    assert (await web.get(f"{API}/statistics")).json()["unattributedOrders"] == 0
    orders = (await web.get(f"{ONE}/orders")).json()["items"]
    assert {each["id"]: each["namedBy"] for each in orders} == {
        "ORD-1": ["email:a@x.example"],
        "ORD-9": ["customer:1001"],
    }
    # Later events do not give it to anybody else, whatever they say.
    await service.ingest(entry("ORD-9", email="b@x.example", total="50", version=7))
    assert (await web.get(ONE)).json()["totalSpent"] == 150.0
    (noted,) = await service.rows("SELECT * FROM audit WHERE action = 'order.assigned'")
    assert (noted["customer_id"], noted["details"]) == (1001, {"order": "ORD-9"})
    assert await service.findings() == []
    again = await web.post(of("ORD-9"), json={"customer": "CUST-1001"})
    assert again.status_code == 200, "they have it already"


async def test_an_order_that_was_given_to_a_wrong_customer_is_given_to_the_right_one(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(order(1, email="a@x.example"), order(2, email="b@x.example"))
    await service.ingest(entry("ORD-9", total="700"))
    await web.post(of("ORD-9"), json={"customer": "CUST-1001"})
    assert (await web.get(ONE)).json()["segment"] == "vip"
    orders = (await web.get(f"{ONE}/orders")).json()["items"]
    assert {each["id"]: each["assignedByHand"] for each in orders} == {
        "ORD-1": False,
        "ORD-9": True,
    }
    answer = await web.post(of("ORD-9"), json={"customer": "CUST-1002"})
    assert answer.json()["orderIds"] == ["ORD-2", "ORD-9"]
    assert answer.json()["segment"] == "vip"
    left = (await web.get(ONE)).json()
    assert (left["orderIds"], left["segment"], left["totalSpent"]) == (["ORD-1"], "new", 100.0)
    noted = await service.rows("SELECT details FROM audit WHERE action = 'order.assigned'")
    assert noted[-1] == {"details": {"order": "ORD-9", "from": "CUST-1001"}}


async def test_an_assignment_is_undone(service: Service, web: httpx.AsyncClient) -> None:
    await service.ingest(order(1, email="a@x.example"), entry("ORD-9", total="700"))
    before = await everything(service)
    await web.post(of("ORD-9"), json={"customer": "CUST-1001"})
    answer = await web.request("DELETE", of("ORD-9"))
    assert answer.status_code == 204, answer.text
    after = await everything(service)
    assert after["orders"] == before["orders"]
    found = (await web.get(ONE)).json()
    assert (found["orderIds"], found["totalSpent"], found["segment"]) == (["ORD-1"], 100.0, "new")
    assert [each["id"] for each in await unattributed(web)] == ["ORD-9"]
    (noted,) = await service.rows("SELECT * FROM audit WHERE action = 'order.unassigned'")
    assert (noted["customer_id"], noted["details"]) == (1001, {"order": "ORD-9"})
    again = await web.request("DELETE", of("ORD-9"))
    assert again.status_code == 204, "it is nobody's already"
    await service.ingest(entry("ORD-9", email="b@x.example", version=2))
    assert await unattributed(web) == []
    assert await service.findings() == []


async def unattributed(web: httpx.AsyncClient) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await web.get(f"{API}/orders/unattributed")).json()["items"]
    return items


async def test_what_named_an_order_before_names_it_again(
    service: Service, web: httpx.AsyncClient
) -> None:
    till = {"identifier": "email:till@x.example"}
    await service.ingest(order(1, email="a@x.example"), order(2, email="c@x.example"))
    await service.ingest(entry("ORD-9", email="till@x.example"))
    await web.put(f"{API}/identifiers/not-a-person", json=till)
    before = await unattributed(web)
    assert before[0]["namedBy"] == ["email:till@x.example"]
    for customer in ("CUST-1001", "CUST-1002"):
        await web.post(of("ORD-9"), json={"customer": customer})
    await web.request("DELETE", of("ORD-9"))
    assert await unattributed(web) == before
    # Once the mark is gone, they are somebody whom the order belongs to without the assignment.
    await web.post(of("ORD-9"), json={"customer": "CUST-1001"})
    await web.request("DELETE", f"{API}/identifiers/not-a-person", json=till)
    await service.ingest(entry("ORD-10", email="till@x.example"))
    answer = await web.request("DELETE", of("ORD-9"))
    assert answer.status_code == 204, answer.text
    theirs = await service.rows(
        "SELECT id FROM orders WHERE customer_id ="
        " (SELECT customer_id FROM identifiers WHERE identifier = 'email:till@x.example')"
    )
    assert {row["id"] for row in theirs} == {"ORD-9", "ORD-10"}
    assert await service.findings() == []


async def test_an_erasure_forgets_what_named_an_assigned_order(
    service: Service, web: httpx.AsyncClient
) -> None:
    jane = {"identifier": "email:jane@x.example"}
    await service.ingest(order(1, email="a@x.example"), entry("ORD-9", email="jane@x.example"))
    await web.put(f"{API}/identifiers/not-a-person", json=jane)
    answer = await web.post(of("ORD-9"), json={"customer": "CUST-1001"})
    assert answer.status_code == 200, answer.text
    await web.request("DELETE", f"{API}/identifiers/not-a-person", json=jane)
    await service.ingest(entry("ORD-10", email="jane@x.example"))
    (row,) = await service.rows("SELECT customer_id FROM orders WHERE id = 'ORD-10'")
    await web.delete(f"{API}/customers/CUST-{row['customer_id']}")
    kept = await service.rows("SELECT details::text AS details FROM audit")
    assert [each for each in kept if "ORD-9" in each["details"]]
    assert not [each for each in kept if "jane" in each["details"]]


async def test_only_what_was_assigned_by_hand_is_taken_back(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(order(1, email="a@x.example"))
    before = await everything(service)
    for order_id, status, words in (
        ("ORD-1", 409, "because an event named them"),
        ("ORD-8", 404, "no order"),
        ("ORD-\x00", 404, "no order"),
    ):
        answer = await web.request("DELETE", of(order_id))
        assert answer.status_code == status, answer.text
        assert words in answer.json()["detail"]
    assert await everything(service) == before


async def test_an_assigned_order_follows_its_customer_into_a_merge(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(order(1, email="a@x.example"), order(2, email="b@x.example"))
    await service.ingest(entry("ORD-9"))
    await web.post(of("ORD-9"), json={"customer": "CUST-1002"})
    await web.post(f"{ONE}/merge", json={"other": "CUST-1002"})
    await service.ingest(entry("ORD-9", version=5))
    assert (await web.get(ONE)).json()["totalOrders"] == 3
    wrong = await web.post(of("ORD-9"), json={"customer": "CUST-1002"})
    assert wrong.status_code == 422
    assert "was merged into CUST-1001" in wrong.json()["detail"]


@pytest.mark.parametrize("order_id", ["#1001", "2026/17", "ORD 1?", "ü%2F"])
async def test_any_order_id_can_be_assigned(
    service: Service, web: httpx.AsyncClient, order_id: str
) -> None:
    await service.ingest(order(1, email="a@x.example"), entry(order_id))
    answer = await web.post(of(order_id), json={"customer": "CUST-1001"})
    assert answer.status_code == 200, answer.text
    assert order_id in answer.json()["orderIds"]


async def test_only_unattributed_orders_are_assigned(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(order(1, email="a@x.example"), order(2, email="b@x.example"))
    await service.ingest(entry("ORD-9"))
    await web.request("DELETE", f"{API}/customers/CUST-1002")
    before = await everything(service)
    for order_id, customer, status, words in (
        ("ORD-1", "CUST-1001", 200, ""),
        ("ORD-2", "CUST-1001", 404, "no order"),
        ("ORD-8", "CUST-1001", 404, "no order"),
        ("ORD-\x00", "CUST-1001", 404, "no order"),
        ("ORD-9", "CUST-1002", 422, "there is no CUST-1002"),
        ("ORD-9", "jane", 422, "such as CUST-1001"),
    ):
        answer = await web.post(of(order_id), json={"customer": customer})
        assert answer.status_code == status, answer.text
        assert words in answer.json().get("detail", "")
    assert await everything(service) == before
    await service.ingest(order(3, email="c@x.example"))
    taken = await web.post(of("ORD-1"), json={"customer": "CUST-1003"})
    assert taken.status_code == 409
    assert "belongs to CUST-1001" in taken.json()["detail"]
