"""Create, read and edit customers; hold their segments."""

from datetime import datetime, timedelta

import pytest

from service.http.api.customer_json import Customer
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.customers.conftest import Api


async def test_a_customer_is_created_by_hand(api: Api, service: Service) -> None:
    created = await api.create(
        name=" Jane Smith ",
        email="Jane@Example.com",
        phone="555",
        address={"city": "Austin"},
        preferences={"emailOptIn": True},
        notes="likes tea",
    )
    assert Customer.model_validate(created).id == "CUST-1001"
    assert (created["name"], created["email"], created["segment"]) == (
        "Jane Smith",
        "Jane@Example.com",
        "new",
    )
    assert created["preferences"] == {"emailOptIn": True, "smsOptIn": False}
    assert created["address"]["city"] == "Austin"
    assert created["totalSpent"] == 0
    assert await api.get(f"/{created['id']}") == created
    announced = await service.rows("SELECT previous, segment, cause FROM segment_changes")
    assert announced == [{"previous": None, "segment": "new", "cause": "entry"}]


async def test_an_order_finds_the_customer_by_email_without_case(
    api: Api, service: Service
) -> None:
    created = await api.create(name="Jane", email="Jane@Example.com")
    await service.ingest(entry("ORD-1", email="JANE@example.COM", name="J. Smith", total="5"))
    found = await api.get(f"/{created['id']}")
    assert (found["totalOrders"], found["orderIds"]) == (1, ["ORD-1"])
    assert found["name"] == "Jane", "what a person typed outranks every event"
    assert found["email"] == "Jane@Example.com"


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (" Jane@X.org. ", "jane@x.org"),
        ("Jane <jane@x.org>", "jane@x.org"),
        ("mailto:jane@x.org", "jane@x.org"),
        ("\ufeffjane@x.org\u200b", "jane@x.org"),
        ("jane@bu\u0308cher.example", "jane@xn--bcher-kva.example"),
    ],
)
async def test_a_typed_email_is_unwrapped_and_names_the_same_person(
    api: Api, service: Service, written: str, kept: str
) -> None:
    created = await api.create(name="Jane", email=written)
    assert created["email"] == kept
    await service.ingest(entry("ORD-1", email=written))
    assert (await api.get(f"/{created['id']}"))["orderIds"] == ["ORD-1"]
    await api.create(409, name="Jane", email=kept)


@pytest.mark.parametrize("email", ["jane@x", "a@x.org, b@x.org", "a@x.org <b@x.org>", "a b@x.org"])
async def test_a_typed_text_without_one_whole_address_is_refused(api: Api, email: str) -> None:
    answer = await api.create(422, name="Jane", email=email)
    assert [fault["where"] for fault in answer["errors"]] == ["body.email"]


async def test_mistakes_are_named_field_by_field(api: Api) -> None:
    answer = await api.create(422, name=" ", email="nobody", phone=5, nickname="J")
    assert {fault["where"] for fault in answer["errors"]} == {
        "body.name",
        "body.email",
        "body.phone",
        "body.nickname",
    }
    answer = await api.create(422, name="a\x00b", email="a@example.org")
    assert "U+0000" in answer["detail"]


async def test_an_email_belongs_to_one_customer(api: Api) -> None:
    first = await api.create(name="A", email="a@example.org")
    answer = await api.create(409, name="B", email="A@EXAMPLE.org")
    assert first["id"] in answer["detail"]
    second = await api.create(name="B", email="b@example.org")
    await api.patch(second["id"], 409, email="A@example.org")
    same = await api.patch(first["id"], email="A@example.org")
    assert same["email"] == "A@example.org"


async def test_a_patch_keeps_the_fields_that_it_does_not_name(api: Api) -> None:
    created = await api.create(
        name="A", email="a@example.org", phone="1", address={"street": "1 Main St", "zip": "7"}
    )
    edited = await api.patch(created["id"], address={"zip": "8"}, notes="x")
    assert edited["address"] == created["address"] | {"zip": "8"}
    assert (edited["phone"], edited["notes"]) == ("1", "x")
    cleared = await api.patch(created["id"], phone=None, address=None)
    assert (cleared["phone"], set(cleared["address"].values())) == (None, {None})
    assert (await api.patch(created["id"], name=None))["name"] is None


async def test_a_cleared_phone_is_not_refilled_by_an_event(api: Api, service: Service) -> None:
    created = await api.create(name="A", email="a@example.org", phone="1")
    await api.patch(created["id"], phone=None)
    await service.ingest(entry("ORD-1", email="a@example.org", phone="555"))
    assert (await api.get(f"/{created['id']}"))["phone"] is None


async def test_an_etag_covers_edits_but_not_orders(api: Api, service: Service) -> None:
    created = await api.create(name="A", email="a@example.org")
    path = f"/api/v1/customers/{created['id']}"
    tag = (await api.http.get(path)).headers["etag"]
    await service.ingest(entry("ORD-1", email="a@example.org"))
    assert (await api.http.get(path)).headers["etag"] == tag
    await api.patch(created["id"], if_match=tag, notes="mine")
    await api.patch(created["id"], if_match="*", notes="mine")
    answer = await api.patch(created["id"], 412, if_match=tag, notes="yours")
    assert answer["current"]["notes"] == "mine"


async def test_a_hold_lasts_until_the_next_order(api: Api, service: Service, now: datetime) -> None:
    await service.ingest(entry("ORD-1", email="a@example.org", created=now - timedelta(days=1)))
    held = await api.patch("CUST-1001", segment="vip")
    assert (held["segment"], held["segmentSource"]) == ("vip", "manual")
    late = entry("ORD-0", email="a@example.org", created=now - timedelta(days=2))
    await service.ingest(late)
    assert (await api.get("/CUST-1001"))["segment"] == "vip", "an old order is not the next one"
    await service.ingest(entry("ORD-2", email="a@example.org", created=datetime.now(now.tzinfo)))
    released = await api.get("/CUST-1001")
    assert (released["segment"], released["segmentSource"]) == ("vip", "rules")
    assert released["totalOrders"] == 3


async def test_a_pin_lasts_until_null_returns_the_customer_to_the_rules(
    api: Api, service: Service
) -> None:
    created = await api.create(name="A", email="a@example.org", segment="vip", segmentPinned=True)
    await service.ingest(entry("ORD-1", email="a@example.org"))
    assert (await api.get(f"/{created['id']}"))["segment"] == "vip"
    back = await api.patch(created["id"], segment=None)
    assert (back["segment"], back["segmentSource"], back["segmentPinned"]) == (
        "new",
        "rules",
        False,
    )
    until = (datetime.now().astimezone() + timedelta(days=3)).isoformat()
    pinned = await api.patch(created["id"], segment="at_risk", segmentPinnedUntil=until)
    assert (pinned["segment"], pinned["segmentPinned"]) == ("at_risk", False)
    assert pinned["segmentPinnedUntil"] is not None
    for_good = await api.patch(created["id"], segmentPinned=True)
    assert (for_good["segment"], for_good["segmentPinnedUntil"]) == ("at_risk", None)


async def test_contradictory_holds_are_refused(api: Api) -> None:
    created = await api.create(name="A", email="a@example.org")
    past, future = "2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z"
    await api.patch(created["id"], 422, segment="vip", segmentPinnedUntil=past)
    await api.patch(created["id"], 422, segment=None, segmentPinned=True)
    answer = await api.patch(
        created["id"], 422, segment="vip", segmentPinned=True, segmentPinnedUntil=future
    )
    assert answer["errors"][0]["where"] == "body.segmentPinnedUntil"
    await api.patch(created["id"], 422, segment="platinum")


async def test_an_unknown_customer_is_not_found(api: Api) -> None:
    for strange in ("CUST-1", "1001", "CUST-x", "CUST-999999999999999999"):
        await api.get(f"/{strange}", 404)
        await api.patch(strange, 404, notes="x")
        assert (await api.http.delete(f"/api/v1/customers/{strange}")).status_code == 404
