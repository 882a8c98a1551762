"""One customer's orders, timeline, segment and interactions."""

from datetime import UTC, datetime, timedelta

from tests.conftest import Service
from tests.events import entry
from tests.integration.db.customers.conftest import Api


async def test_orders_are_listed_in_pages(api: Api, service: Service, now: datetime) -> None:
    await service.ingest(
        *(
            entry(f"ORD-{n}", email="a@x.org", total="10", created=now - timedelta(days=n))
            for n in range(5)
        )
    )
    page = await api.get("/CUST-1001/orders", limit=3)
    assert [order["id"] for order in page["items"]] == ["ORD-0", "ORD-1", "ORD-2"]
    rest = await api.get("/CUST-1001/orders", limit=3, cursor=page["nextCursor"])
    assert [order["id"] for order in rest["items"]] == ["ORD-3", "ORD-4"]
    assert (rest["total"], rest["nextCursor"]) == (5, None)
    await api.get("/CUST-1001/orders", 422, cursor="rubbish")
    await api.get("/CUST-1/orders", 404)


async def test_the_timeline_lists_every_kind_of_event(
    api: Api, service: Service, now: datetime
) -> None:
    day = timedelta(days=1)
    await service.ingest(entry("ORD-1", email="a@x.org", created=now - 9 * day))
    await service.ingest(
        entry(
            "ORD-1",
            email="a@x.org",
            version=2,
            status="cancelled",
            created=now - 9 * day,
            updated=now - 8 * day,
        )
    )
    await api.patch("CUST-1001", notes="called", segment="vip")
    await api.http.post(
        "/api/v1/customers/CUST-1001/interactions", json={"kind": "call", "text": "hello"}
    )
    page = await api.get("/CUST-1001/timeline", limit=2)
    items = page["items"]
    while page["nextCursor"]:
        page = await api.get("/CUST-1001/timeline", limit=2, cursor=page["nextCursor"])
        items += page["items"]
    assert page["total"] == len(items)
    assert [item["at"] for item in items] == sorted((i["at"] for i in items), reverse=True)
    kinds = [item["type"] for item in items]
    assert sorted(set(kinds)) == ["edit", "interaction", "order", "order-updated", "segment"]
    edit = next(item for item in items if item["type"] == "edit")
    assert edit["changes"]["notes"] == ["", "called"]
    assert edit["actor"] == "local"
    assert kinds[-2:] == ["order-updated", "order"]


async def test_the_segment_is_explained(api: Api, service: Service, now: datetime) -> None:
    last = now - timedelta(days=10)
    await service.ingest(
        entry("ORD-1", email="a@x.org", total="300", created=last - timedelta(days=1)),
        entry("ORD-2", email="a@x.org", total="79.50", created=last),
    )
    why = await api.get("/CUST-1001/segment")
    assert (why["segment"], why["source"], why["byRules"]) == ("returning", "rules", "returning")
    assert why["facts"] == {
        "totalOrders": 2,
        "totalSpent": 379.50,
        "lastOrderDate": last.astimezone(UTC).isoformat().replace("+00:00", "Z"),
    }
    assert why["needs"] == [
        {
            "segment": "vip",
            "orders": 1,
            "amount": 120.50,
            "text": "VIP with 1 more order, or 120.50 more spent",
        }
    ]
    assert [(step["segment"], step["at"][:10]) for step in why["upcoming"]] == [
        ("at_risk", (last + timedelta(days=60)).astimezone(UTC).date().isoformat()),
        ("inactive", (last + timedelta(days=90)).astimezone(UTC).date().isoformat()),
    ]
    assert why["afterNextOrder"] == "vip"
    assert why["rule"] == "they have ordered more than once, and no other rule fits"
    assert why["rulesThatHold"] == []


async def test_a_hold_is_explained_together_with_the_segment_by_rules(api: Api) -> None:
    created = await api.create(name="A", email="a@x.org", segment="inactive", segmentPinned=True)
    why = await api.get(f"/{created['id']}/segment")
    assert (why["segment"], why["source"], why["byRules"]) == ("inactive", "manual", "new")
    assert why["hold"] == {"pinned": True, "until": None, "lasts": "for good"}
    assert why["upcoming"] == []


async def test_interactions_are_added_corrected_and_removed(api: Api) -> None:
    await api.create(name="A", email="a@x.org")
    path = "/api/v1/customers/CUST-1001/interactions"
    added = await api.http.post(
        path, json={"kind": "meeting", "text": "Lunch", "happenedAt": "2026-01-02T12:00:00+01:00"}
    )
    assert added.status_code == 201
    interaction = added.json()
    assert (interaction["author"], interaction["happenedAt"]) == ("local", "2026-01-02T11:00:00Z")
    one = f"{path}/{interaction['id']}"
    changed = await api.http.patch(one, json={"text": "Lunch, postponed"})
    assert changed.json() == interaction | {
        "text": "Lunch, postponed",
        "dateUpdated": changed.json()["dateUpdated"],
    }
    listed = await api.get("/CUST-1001/interactions")
    assert [item["text"] for item in listed["items"]] == ["Lunch, postponed"]
    assert (await api.http.delete(one)).status_code == 204
    assert (await api.http.delete(one)).status_code == 404
    assert (await api.http.patch(f"{path}/x", json={})).status_code == 404
    assert (await api.http.post(path, json={"kind": "party", "text": ""})).status_code == 422
    assert (await api.get("/CUST-1001/interactions"))["total"] == 0
