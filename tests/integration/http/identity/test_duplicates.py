"""The list of likely duplicates: who is on it and why, page by page, until staff decide."""

from typing import Any

import httpx
import pytest

from service.core.identity import MOST_IDENTIFIERS
from service.db.customers.identity import duplicates
from service.db.customers.identity.merge import merge_next
from service.db.statistics import answer_cache
from service.http.api.duplicates import DuplicatesPage
from tests.conftest import Service
from tests.integration.http.identity.conftest import API, order

URL = f"{API}/customers/duplicates"
HOME = {"shippingAddress": {"zip": "78701 ", "city": "Austin"}}


async def pairs(web: httpx.AsyncClient, **query: Any) -> list[tuple[str, str, list[str]]]:
    """Return the pairs that are listed, with what says so."""
    answer = await web.get(URL, params=query)
    assert answer.status_code == 200, answer.text
    DuplicatesPage.model_validate_json(answer.content)
    assert answer.json()["complete"]
    return [
        (*(each["id"] for each in item["customers"]), item["why"])
        for item in answer.json()["items"]
    ]


async def test_the_same_phone_with_two_emails_is_listed(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(
        order(1, phone="+880 1711-000001", email="a@x.example"),
        order(2, phone="01711000001", email="b@x.example"),
        order(3, phone="+8801711000001"),
        order(4, phone="+8801711000002", email="d@x.example"),
        order(5, phone="123", email="e@x.example"),
        order(6, phone="123", email="f@x.example"),
        order(7, phone="(901) 555-0182", email="g@x.example"),
        order(8, phone="(801) 555-0182", email="h@x.example"),  # another area
    )
    assert await pairs(web) == [
        ("CUST-1001", "CUST-1008", ["same_phone"]),
        ("CUST-1001", "CUST-1002", ["same_phone"]),
    ]


async def test_the_same_name_and_postal_code_is_listed(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(
        order(1, name="Jane  Smith", email="a@x.example", **HOME),
        order(2, name="jane smith", email="b@x.example", shippingAddress={"zip": "78701"}),
        order(3, name="Jane Smith", email="c@x.example", shippingAddress={"zip": "78702"}),
        order(4, name="Omar", email="d@x.example", **HOME),
        order(5, email="e@x.example", **HOME),
        order(6, email="f@x.example", **HOME),
    )
    assert await pairs(web) == [("CUST-1001", "CUST-1002", ["same_name_and_zip"])]


async def test_who_has_too_many_identifiers_is_listed(
    service: Service, web: httpx.AsyncClient
) -> None:
    for n in range(1, MOST_IDENTIFIERS + 4):
        await service.ingest(order(n, id=n, email="market@x.example"))
    while await service.in_transaction(merge_next) is not None:
        pass
    found = await pairs(web)
    assert found
    assert {tuple(why) for _, _, why in found} == {("too_many_identifiers",)}


async def test_what_very_many_have_in_common_says_nothing(
    service: Service, web: httpx.AsyncClient
) -> None:
    most = [
        order(n, phone="+8801711000001", email=f"{n}@x.example")
        for n in range(1, MOST_IDENTIFIERS + 1)
    ]
    await service.ingest(*most)
    assert len(await pairs(web)) == MOST_IDENTIFIERS - 1
    await service.ingest(order(99, phone="+8801711000001", email="one-more@x.example"))
    assert await pairs(web) == []


async def test_pairs_come_page_by_page(service: Service, web: httpx.AsyncClient) -> None:
    await service.ingest(
        *(order(n, phone=f"+88017110000{n % 5}1", email=f"{n}@x.example") for n in range(15))
    )
    whole = await pairs(web)
    assert len(whole) == 10
    got: list[tuple[str, str, list[str]]] = []
    query: dict[str, Any] = {"limit": 4}
    while query:
        page = (await web.get(URL, params=query)).json()
        assert page["total"] == 10
        got += await pairs(web, **query)
        query = {"limit": 4, "cursor": page["nextCursor"]} if page["nextCursor"] else {}
    assert got == whole
    refused = await web.get(URL, params={"cursor": "nonsense"})
    assert refused.status_code == 422


@pytest.mark.parametrize("kept", [False, True])
async def test_a_decision_shows_at_once(
    service: Service, web: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, *, kept: bool
) -> None:
    await service.ingest(
        *(order(n, phone="+8801711000001", email=f"{n}@x.example") for n in range(1, 5))
    )
    if kept:  # as in a shop so large that a worker computes the answer
        monkeypatch.setattr(answer_cache, "SLOW", 0.0)
        assert await service.in_transaction(
            answer_cache.renew, {duplicates.CACHE_NAME: duplicates.find}, {}
        )
        assert await service.rows("SELECT name FROM kept_answers") == [{"name": "duplicates"}]
    body = {"customers": ["CUST-1002", "CUST-1001"]}
    assert (await web.post(f"{URL}/dismiss", json=body)).status_code == 204
    listed = {pair[:2] for pair in await pairs(web)}
    assert ("CUST-1001", "CUST-1002") not in listed
    assert ("CUST-1001", "CUST-1004") in listed
    (noted,) = await service.rows("SELECT * FROM audit WHERE action = 'customers.separated'")
    assert noted["customer_id"] == 1001
    await web.post(f"{API}/customers/CUST-1001/merge", json={"other": "CUST-1004"})
    assert ("CUST-1001", "CUST-1004") not in {pair[:2] for pair in await pairs(web)}
    # A later merge undoes the decision.
    await web.post(f"{API}/customers/CUST-1001/merge", json={"other": "CUST-1002"})
    assert await service.rows("SELECT 1 FROM separations") == []


async def test_of_three_alike_two_are_left_when_one_is_somebody_else(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(
        *(order(n, phone="+8801711000001", email=f"{n}@x.example") for n in range(1, 4))
    )
    for other in ("CUST-1002", "CUST-1003"):
        await web.post(f"{URL}/dismiss", json={"customers": ["CUST-1001", other]})
    assert [pair[:2] for pair in await pairs(web)] == [("CUST-1002", "CUST-1003")]


@pytest.mark.parametrize(
    ("customers", "status"),
    [
        (["CUST-1001", "CUST-1001"], 422),
        (["CUST-1001", "jane"], 422),
        (["CUST-1001"], 422),
        (["CUST-1001", "CUST-9999"], 404),
    ],
)
async def test_only_two_customers_can_be_dismissed(
    service: Service, web: httpx.AsyncClient, customers: list[str], status: int
) -> None:
    await service.ingest(order(1, email="a@x.example"))
    answer = await web.post(f"{URL}/dismiss", json={"customers": customers})
    assert answer.status_code == status, answer.text
    assert await service.rows("SELECT 1 FROM separations") == []
