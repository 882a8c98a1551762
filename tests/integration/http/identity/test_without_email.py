"""Customers without an e-mail are created, edited, listed, searched and exported like others."""

import csv
import io

import httpx
import pytest

from tests.conftest import Service
from tests.integration.http.identity.conftest import API, order

URL = f"{API}/customers"
ONE = f"{URL}/CUST-1001"


@pytest.mark.parametrize(
    "body", [{"name": "Rahim"}, {"phone": "+880 1711-000001"}, {"email": "a@x.example"}]
)
async def test_a_name_a_phone_or_an_email_is_enough(
    web: httpx.AsyncClient, body: dict[str, str]
) -> None:
    answer = await web.post(URL, json=body)
    assert answer.status_code == 201, answer.text
    found = answer.json()
    assert {name: found[name] for name in ("name", "phone", "email") if found[name]} == body
    (field,) = body
    (cleared,) = [{field: None}]
    refused = await web.patch(ONE, json=cleared)
    assert refused.status_code == 422
    assert "give a name, an e-mail or a phone" in refused.json()["detail"]
    other = {"name": "Else"} if field != "name" else {"phone": "555"}
    replaced = await web.patch(ONE, json=cleared | other)
    assert replaced.status_code == 200, replaced.text
    assert (await web.patch(ONE, json={"notes": "x"})).status_code == 200


async def test_nothing_to_call_somebody_by_is_not_enough(web: httpx.AsyncClient) -> None:
    for body in ({}, {"notes": "x"}, {"name": None, "phone": ""}):
        answer = await web.post(URL, json=body)
        assert answer.status_code == 422, answer.text
    assert (await web.get(URL)).json()["total"] == 0


async def test_orders_find_a_customer_who_was_created_with_a_phone(
    service: Service, web: httpx.AsyncClient
) -> None:
    await web.post(URL, json={"name": "Rahim", "phone": "+880 1711-000001"})
    await service.ingest(order(1, phone="+8801711000001", name="R."))
    found = (await web.get(ONE)).json()
    assert (found["totalOrders"], found["name"]) == (1, "Rahim")
    # Somebody else with the same phone is not refused: it may be shared.
    assert (await web.post(URL, json={"phone": "+8801711000001"})).status_code == 201
    assert (await web.get(f"{URL}/duplicates")).json()["total"] == 1


async def test_a_customer_without_an_email_is_listed_searched_and_exported(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(
        order(1, phone="+8801711000001", name="Rahim"), order(2, email="b@x.example")
    )
    for sort in ("email", "-email", "name", "-dateCreated"):
        page = (await web.get(URL, params={"sort": sort})).json()
        assert {each["email"] for each in page["items"]} == {None, "b@x.example"}, sort
    paged: list[str] = []
    for sort in ("email", "-email"):
        query: dict[str, str | int] = {"sort": sort, "limit": 1}
        while query:
            page = (await web.get(URL, params=query)).json()
            paged += [each["id"] for each in page["items"]]
            more = page["nextCursor"]
            query = {"sort": sort, "limit": 1, "cursor": more} if more else {}
    assert sorted(paged[:2]) == sorted(paged[2:]) == ["CUST-1001", "CUST-1002"]
    assert paged[:2] == paged[:1:-1]
    found = await web.post(f"{URL}/search", json={"search": "rahim"})
    assert found.json()["items"][0]["email"] is None
    exported = (await web.get(f"{URL}/export.csv")).content.decode("utf-8-sig")
    rows = {row["Name"]: row for row in csv.DictReader(io.StringIO(exported))}
    assert (rows["Rahim"]["Email"], rows["Rahim"]["Phone"]) == ("", "'+8801711000001")
