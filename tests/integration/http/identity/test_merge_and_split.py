"""Merge and split over HTTP: previews, answers, errors, and the address of whoever was merged."""

from typing import Any

import httpx
import pytest

from service.http.api.identity import MergeOutcome, SplitOutcome
from tests.conftest import Service
from tests.integration.http.identity.conftest import API, everything, order

ONE, TWO = f"{API}/customers/CUST-1001", f"{API}/customers/CUST-1002"
OTHER = {"other": "CUST-1002"}
TRIED = {"dryRun": "true"}


@pytest.fixture
async def two(service: Service, web: httpx.AsyncClient) -> httpx.AsyncClient:
    """Fill the service with two customers; return a client."""
    await service.ingest(
        order(1, id=7, email="a@x.example", name="Old Name", phone="555"),
        order(2, email="b@x.example", name="New Name"),
    )
    one = {"preferences": {"emailOptIn": True, "smsOptIn": True}, "notes": "tea"}
    other = {"preferences": {"emailOptIn": True}, "notes": "milk", "segment": "vip"}
    for path, body in ((ONE, one), (TWO, other)):
        assert (await web.patch(path, json=body)).status_code == 200
    called = {"kind": "call", "text": "called"}
    assert (await web.post(f"{TWO}/interactions", json=called)).status_code == 201
    return web


async def test_a_preview_says_what_becomes_of_everything_and_changes_nothing(
    service: Service, two: httpx.AsyncClient
) -> None:
    before = await everything(service)
    answer = await two.post(f"{TWO}/merge", params=TRIED, json={"other": "CUST-1001"})
    assert answer.status_code == 200, answer.text
    assert "etag" not in answer.headers
    assert await everything(service) == before
    MergeOutcome.model_validate_json(answer.content)
    preview = answer.json()
    assert (preview["dryRun"], preview["stays"], preview["gone"]) == (
        True,
        "CUST-1001",
        "CUST-1002",
    )
    assert {field["field"]: (field["value"], field["from"]) for field in preview["fields"]} == {
        "name": ("New Name", "gone"),
        "email": ("b@x.example", "gone"),
        "phone": ("555", "stays"),
        "address": (None, "both"),
        "emailOptIn": (True, "both"),
        "smsOptIn": (False, "gone"),
        "notes": ("tea\n\nmilk", "both"),
        "hold": ({"segment": "vip", "pinned": False, "until": None}, "gone"),
        "dateCreated": (preview["before"]["stays"]["dateCreated"], "stays"),
    }
    sides = preview["before"]
    assert [sides["stays"]["segment"], sides["gone"]["segment"]] == ["new", "vip"]
    after = preview["after"]
    assert (after["segment"], after["totalOrders"], after["totalSpent"]) == ("vip", 2, 200.0)
    assert {each["identifier"] for each in after["identifiers"]} == {
        "email:a@x.example",
        "external:/order-management#7",
        "email:b@x.example",
        "customer:1002",
    }
    assert preview["interactions"] == 1
    # The merge does what the preview has said.
    done = (await two.post(f"{TWO}/merge", json={"other": "CUST-1001"})).json()
    for said in (preview, done):
        for name in ("dateUpdated", "identifiers"):  # the moment of each
            said["after"].pop(name)
    assert done == preview | {"dryRun": False}


async def test_a_merge_answers_with_an_etag_and_minds_the_one_that_was_read(
    service: Service, two: httpx.AsyncClient
) -> None:
    read = await two.get(ONE)
    await two.patch(ONE, json={"notes": "coffee"})
    stale = {"If-Match": read.headers["etag"]}
    before = await everything(service)
    refused = await two.post(f"{ONE}/merge", json=OTHER, headers=stale)
    assert refused.status_code == 412
    assert refused.json()["current"]["notes"] == "coffee"
    assert await everything(service) == before
    fresh = {"If-Match": (await two.get(ONE)).headers["etag"]}
    merged = await two.post(f"{ONE}/merge", json=OTHER, headers=fresh)
    assert merged.status_code == 200
    now = await two.get(ONE)
    assert now.headers["etag"] == merged.headers["etag"]
    assert now.json() == merged.json()["after"]
    (noted,) = await service.rows("SELECT * FROM audit WHERE action = 'customer.merged'")
    assert (noted["actor"], noted["customer_id"]) == ("local", 1001)


async def test_the_id_of_a_merged_customer_leads_to_the_one_who_stays(
    two: httpx.AsyncClient,
) -> None:
    await two.post(f"{ONE}/merge", json=OTHER)
    for path in ("", "/orders?limit=3", "/timeline", "/segment", "/data", "/identifiers"):
        answer = await two.get(f"{TWO}{path}")
        assert (answer.status_code, answer.headers["location"]) == (301, f"{ONE}{path}"), path
    assert answer.json()["stays"] == "CUST-1001"
    for method, path, body in (
        ("PATCH", "", {"notes": "x"}),
        ("DELETE", "", None),
        ("POST", "/interactions", {"kind": "note", "text": "x"}),
        ("PATCH", "/interactions/1", {"text": "x"}),
        ("POST", "/split", {"identifiers": ["email:b@x.example"]}),
        ("POST", "/identifiers", {"identifier": "email:c@x.example"}),
        ("DELETE", "/identifiers", {"identifier": "email:b@x.example"}),
    ):
        answer = await two.request(method, f"{TWO}{path}", json=body)
        assert (answer.status_code, answer.headers.get("location")) == (308, f"{ONE}{path}"), path
    followed = await two.patch(TWO, json={"notes": "x"}, follow_redirects=True)
    assert (followed.json()["id"], followed.json()["notes"]) == ("CUST-1001", "x")
    # So does that of a customer who was merged before.
    await two.post(f"{API}/customers", json={"name": "Third"})
    assert (await two.get(f"{API}/customers/CUST-1003")).status_code == 200
    await two.post(f"{ONE}/merge", json={"other": "CUST-1003"})
    for number in (1002, 1003):
        answer = await two.get(f"{API}/customers/CUST-{number}")
        assert answer.headers["location"] == ONE


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        (ONE, {"other": "CUST-1001"}, 422, "same customer"),
        (ONE, {"other": "CUST-9999"}, 422, "there is no customer CUST-9999"),
        (ONE, {"other": "jane"}, 422, "such as CUST-1002"),
        (ONE, {}, 422, "body.other"),
        (f"{API}/customers/CUST-9999", {"other": "CUST-1001"}, 404, "no customer"),
        (f"{API}/customers/jane", {"other": "CUST-1001"}, 404, "no customer"),
    ],
)
async def test_a_merge_of_others_than_two_customers_is_refused(
    two: httpx.AsyncClient, path: str, body: dict[str, Any], status: int, words: str
) -> None:
    for query in ({}, TRIED):
        answer = await two.post(f"{path}/merge", json=body, params=query)
        assert answer.status_code == status, answer.text
        assert words in answer.json()["detail"]


async def test_a_merge_of_merged_customers_says_who_stayed(two: httpx.AsyncClient) -> None:
    await two.post(f"{API}/customers", json={"name": "Third"})
    await two.post(f"{ONE}/merge", json=OTHER)
    again = await two.post(f"{ONE}/merge", json=OTHER)
    assert again.status_code == 422
    assert "merged into this customer already" in again.json()["detail"]
    third = f"{API}/customers/CUST-1003"
    elsewhere = await two.post(f"{third}/merge", json=OTHER)
    assert "CUST-1002 was merged into CUST-1001; name that one" in elsewhere.json()["detail"]


async def test_a_split_gives_back_what_a_merge_took(
    service: Service, two: httpx.AsyncClient
) -> None:
    await two.post(f"{ONE}/merge", json=OTHER)
    taken = {"identifiers": ["customer:1002", "email:B@X.example"]}
    before = await everything(service)
    tried = await two.post(f"{ONE}/split", params=TRIED, json=taken)
    assert tried.status_code == 200, tried.text
    assert await everything(service) == before
    answer = await two.post(f"{ONE}/split", json=taken)
    SplitOutcome.model_validate_json(answer.content)
    done = answer.json()
    for said in (tried.json(), done):
        assert said["customer"]["orderIds"] == ["ORD-1"]
        assert said["newCustomer"]["orderIds"] == ["ORD-2"]
        assert [said[who]["name"] for who in ("customer", "newCustomer")] == [
            "Old Name",
            "New Name",
        ]
    new = done["newCustomer"]["id"]
    assert answer.headers["etag"] == (await two.get(ONE)).headers["etag"]
    assert (await two.get(TWO)).headers["location"] == f"{API}/customers/{new}"
    assert [row["action"] for row in await service.rows("SELECT action FROM audit")].count(
        "customer.split"
    ) == 1


@pytest.mark.parametrize(
    ("identifiers", "where", "words"),
    [
        ([], "body.identifiers", "at least 1"),
        (["email:c@x.example"], "body.identifiers", "does not have email:c@x.example"),
        (["nonsense"], "body.identifiers.0", "must begin with one of"),
        (["email:a@x.example", "fax:1"], "body.identifiers.1", "must begin with one of"),
        (["email:nobody"], "body.identifiers.0", "such as jane@example.com"),
        (["external:7"], "body.identifiers.0", "needs the source"),
        (["phone:12"], "body.identifiers.0", "phone number"),
        (["customer:jane"], "body.identifiers.0", "such as CUST-1001"),
        (["email:a@x.example", "external:/order-management#7"], "body.identifiers", "leave"),
    ],
)
async def test_a_split_says_which_identifier_is_wrong(
    service: Service, two: httpx.AsyncClient, identifiers: list[str], where: str, words: str
) -> None:
    before = await everything(service)
    answer = await two.post(f"{ONE}/split", json={"identifiers": identifiers})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["where"] == where
    assert words in answer.json()["detail"]
    assert await everything(service) == before


async def test_a_split_minds_the_etag(two: httpx.AsyncClient) -> None:
    stale = {"If-Match": '"nothing"'}
    answer = await two.post(
        f"{ONE}/split", json={"identifiers": ["email:a@x.example"]}, headers=stale
    )
    assert answer.status_code == 412


async def test_an_email_that_somebody_has_names_the_way_to_merge(two: httpx.AsyncClient) -> None:
    edited = await two.patch(TWO, json={"email": "A@x.example"})
    assert edited.status_code == 409
    assert edited.json()["merge"] == f"{TWO}/merge"
    assert f'{{"other": "CUST-1001"}} to {TWO}/merge' in edited.json()["detail"]
    merged = await two.post(edited.json()["merge"], json={"other": "CUST-1001"})
    assert merged.status_code == 200
    created = await two.post(f"{API}/customers", json={"name": "B", "email": "b@x.example"})
    assert created.status_code == 409
    assert created.json()["merge"] == f"{ONE}/merge"
    assert "edit CUST-1001" in created.json()["detail"]
