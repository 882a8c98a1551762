"""What staff have on their desk: how pages look, what can be taken back, what only admins see."""

import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import httpx
import pytest

from service.core.scopes import Scope
from service.db.customers import interactions
from service.db.engine import in_transaction
from service.http.dashboard import bulk_segment_page
from tests.conftest import Service
from tests.events import entry
from tests.integration.http.auth.conftest import Web, serve
from tests.integration.http.conftest import client
from tests.integration.worker.scene import out_stream, relaying
from tests.wait import until

HTML = {"accept": "text/html"}
CUSTOMER = "/customers/CUST-1001"


@pytest.fixture
async def desk(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    await service.ingest(entry("ORD-1", email="ana@x.org", name="Ana"))
    async with client(service) as web:
        web.headers["accept"] = "text/html"
        yield web


async def test_colours_density_and_columns_are_remembered(desk: httpx.AsyncClient) -> None:
    usual = (await desk.get("/")).text
    assert '<html lang="en" class="auto">' in usual
    assert 'content="light dark"' in usual
    headings = re.findall(r'<th scope="col"[^>]*>(?:<[^>]*>)?([^<]+)', usual)
    assert headings[:7] == [
        "Name", "E-mail", "Orders", "Total Spent", "Last Order", "Segment", "Actions",
    ]  # fmt: skip
    changed = await desk.post("/view", data={"theme": "dark", "back": "/?segment=new"})
    assert (changed.status_code, changed.headers["location"]) == (303, "/?segment=new")
    chosen = {"columns": "1", "totalSpent": "on", "dateCreated": "on", "compact": "on"}
    await desk.post("/view", data=chosen)
    page = (await desk.get("/")).text
    assert '<html lang="en" class="dark compact">' in page
    assert 'name="color-scheme" content="dark"' in page
    headings = re.findall(r'<th scope="col"[^>]*>(?:<[^>]*>)?([^<]+)', page)
    assert headings[:4] == ["Name", "Total Spent", "Created", "Actions"]
    assert "ana@x.org" not in page
    elsewhere = await desk.post("/view", data={"theme": "pink", "back": "//evil.example"})
    assert elsewhere.headers["location"] == "/"
    desk.cookies.set("crm_view", "theme=%00&columns=%ff&compact=maybe")
    assert (await desk.get("/")).status_code == 200


async def test_shortcuts_are_listed_and_can_be_switched_off(desk: httpx.AsyncClient) -> None:
    assert "data-keys" in (await desk.get("/shortcuts")).text
    await desk.post("/view", data={"keys": "off"})
    page = (await desk.get("/shortcuts")).text
    assert "data-keys" not in page
    assert "Switch them on" in page


async def test_pages_have_heads_and_can_be_printed(desk: httpx.AsyncClient) -> None:
    for path in ("/", CUSTOMER, "/operations", "/docs"):
        assert (await desk.head(path)).status_code == (await desk.get(path)).status_code == 200
    assert (await desk.head("/api/v1/customers/export.csv")).status_code == 405
    [style] = re.findall(r'href="(/static/app\.css[^"]*)"', (await desk.get("/")).text)
    assert "@media print" in (await desk.get(style)).text


async def test_a_removed_note_can_be_taken_back_for_an_hour(
    service: Service, desk: httpx.AsyncClient
) -> None:
    notes = f"/api/v1{CUSTOMER}/interactions"
    await desk.post(f"{CUSTOMER}/interactions", data={"kind": "note", "text": "Likes blue"})
    [before] = (await desk.get(notes)).json()["items"]

    removed = await desk.post(f"{CUSTOMER}/interactions/{before['id']}/remove")
    assert removed.headers["location"] == f"{CUSTOMER}#interactions"
    page = (await desk.get(CUSTOMER)).text
    assert "You removed this note" in page
    assert "Likes blue" not in page
    assert (await desk.get(notes)).json()["items"] == []
    timeline = (await desk.get(f"/api/v1{CUSTOMER}/timeline")).text
    assert "Likes blue" not in timeline
    held = (await desk.get(f"/api/v1{CUSTOMER}/data")).json()["interactions"]
    assert [it["text"] for it in held] == ["Likes blue"], "it is still held"

    await desk.post(f"{CUSTOMER}/interactions/{before['id']}/restore")
    assert (await desk.get(notes)).json()["items"] == [before]
    again = await desk.post(f"{CUSTOMER}/interactions/{before['id']}/restore")
    assert again.status_code == 404

    await desk.post(f"{CUSTOMER}/interactions/{before['id']}/remove")
    assert await in_transaction(service.engine, interactions.forget_removed) is None
    await service.execute("UPDATE interactions SET removed_at = removed_at - interval '61 minutes'")
    assert await in_transaction(service.engine, interactions.forget_removed) == 1
    assert "You removed" not in (await desk.get(CUSTOMER)).text
    noted = await service.rows("SELECT action FROM audit WHERE action LIKE 'interaction%'")
    assert [it["action"].partition(".")[2] for it in noted] == ["removed", "restored", "removed"]


async def test_what_somebody_removed_is_not_shown_to_others(service: Service) -> None:
    await service.ingest(entry("ORD-1", email="ana@x.org"))
    async with serve(service) as web:
        author, other = [
            await web.key(Scope.READ, Scope.WRITE, name=name) for name in ("ann", "bob")
        ]
        notes = f"/api/v1{CUSTOMER}/interactions"
        body = {"kind": "note", "text": "Likes blue"}
        made = (await web.http.post(notes, json=body, headers=author.headers)).json()
        await in_transaction(
            service.engine, interactions.set_aside, made["author"], 1001, int(made["id"])
        )
        for key, shown in ((author, True), (other, False)):
            page = await web.http.get(CUSTOMER, headers={**HTML, **key.headers})
            assert page.status_code == 200
            assert ("You removed" in page.text) == shown
        taken = await web.http.post(
            f"{CUSTOMER}/interactions/{made['id']}/restore", headers={**HTML, **other.headers}
        )
        assert taken.status_code == 404


async def _activity(web: Web, *scopes: Scope) -> tuple[str, str]:
    """Return what a key sees of recent activity: on the page, and in the API."""
    key = await web.key(*scopes)
    page = await web.http.get("/", headers={**HTML, **key.headers})
    api = await web.http.get("/api/v1/activity", headers=key.headers)
    return page.text.partition('id="activity"')[2], api.text


async def test_sign_ins_and_keys_are_for_admins_only(service: Service) -> None:
    await service.ingest(entry("ORD-1", email="ana@x.org"))
    await service.execute(
        "INSERT INTO audit (actor, action, details) VALUES ('eve@x.org', 'user.signed-in', '{}')"
    )
    async with serve(service) as web:
        shown, listed = await _activity(web, Scope.READ, Scope.WRITE, Scope.EXPORT)
        for words in ("Sign-in", "API key", "eve@x.org"):
            assert words not in shown
        assert "user." not in listed
        assert "key." not in listed
        assert "ORD-1" in shown
        shown, listed = await _activity(web, Scope.READ, Scope.ADMIN)
        assert "API key created" in shown
        assert "user.signed-in" in listed
        assert "key.created" in listed


async def test_an_order_dated_ahead_is_news_of_now(
    service: Service, desk: httpx.AsyncClient, now: datetime
) -> None:
    await service.ingest(
        entry("ORD-ahead", email="b@x.org", created=now + timedelta(hours=2)),
    )
    await service.ingest(entry("ORD-later", email="c@x.org"))
    happenings = (await desk.get("/")).text.partition('id="activity"')[2]
    assert "in 2 hours" not in happenings
    items = (await desk.get("/api/v1/activity")).json()["items"]
    orders = [it["orderId"] for it in items if it["type"] == "order"]
    assert orders == ["ORD-later", "ORD-ahead", "ORD-1"]


async def test_who_is_entered_without_a_segment_is_not_set_by_hand(
    service: Service, desk: httpx.AsyncClient
) -> None:
    for name, segment in (("Ben", ""), ("Cleo", "vip")):
        fields = {"name": name, "email": f"{name}@x.org", "segment": segment, "keep": "order"}
        created = await desk.post("/customers/new", data=fields)
        assert created.status_code == 303, created.text
    page = (await desk.get("/customers/CUST-1002")).text
    assert "when they were entered" in page
    assert "by hand" not in page.partition("Timeline")[2]
    async with relaying(service):

        async def published() -> bool:
            return len(await out_stream(service)) == 3

        await until(published)
    causes = [it.document["data"]["cause"] for it in await out_stream(service)]
    assert causes == ["order", "entry", "manual"]


async def test_a_phone_can_sort_the_list_without_scripts(desk: httpx.AsyncClient) -> None:
    page = (await desk.get("/?sort=-totalSpent")).text
    assert '<option value="-totalSpent" selected>Total Spent, most first</option>' in page
    sent = await desk.post("/", data={"sort": "totalSpent"})
    assert sent.headers["location"] == "/?sort=totalSpent"


async def _segments(service: Service) -> list[tuple[str, bool]]:
    rows = await service.rows("SELECT segment, segment_manual FROM customers ORDER BY id")
    return [(row["segment"], row["segment_manual"]) for row in rows]


async def test_what_is_done_to_a_list_is_done_to_those_who_are_selected(
    service: Service, desk: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.ingest(
        *(entry(f"ORD-{n}", email=f"n{n}@x.org", name=f"N {n}") for n in (2, 3, 4))
    )
    page = (await desk.get("/")).text
    assert re.findall(r'name="(pick\.\d+)" form="filters"', page)[-1] == "pick.1001"
    picks = {"pick.1002": "on", "pick.1004": "on"}
    for fields, names in ((picks, ["N 2", "N 4"]), ({}, ["Ana", "N 2", "N 3", "N 4"])):
        exported = await desk.post("/export", data={"segment": "new", **fields})
        lines = exported.content.decode("utf-8-sig").splitlines()[1:]
        assert [line.split(",")[1] for line in lines] == names
    assert 'value="pick' not in (await desk.post("/", data={"q": "n", **picks})).text

    asked = await desk.post("/bulk-segment", data=picks)
    assert "Set the segment of 2 customers" in asked.text
    hidden = re.findall(r'<input type="hidden" name="(pick[^"]*)" value="([^"]*)"', asked.text)
    assert dict(hidden) == picks
    wrong = {**picks, "set": "vip", "keep": "date", "until": "2020-01-01"}
    refused = await desk.post("/bulk-segment/apply", data=wrong)
    assert refused.status_code == 422
    assert "Last day must be today or later." in refused.text
    done = await desk.post("/bulk-segment/apply", data={**picks, "set": "vip", "keep": "good"})
    assert done.status_code == 303
    by_rules, by_hand = ("new", False), ("vip", True)
    assert await _segments(service) == [by_rules, by_hand, by_rules, by_hand]
    audit = await service.rows("SELECT customer_id FROM audit WHERE action = 'customer.updated'")
    assert [row["customer_id"] for row in audit] == [1002, 1004]
    await desk.post("/bulk-segment/apply", data={**picks, "set": ""})
    assert await _segments(service) == [by_rules] * 4

    monkeypatch.setattr(bulk_segment_page, "MOST_CUSTOMERS", 3)
    assert "At most 3 can be set at once" in (await desk.post("/bulk-segment", data={})).text
    too_many = await desk.post("/bulk-segment/apply", data={"set": "vip"})
    assert too_many.status_code == 422
    assert await _segments(service) == [by_rules] * 4
    assert (await desk.get("/bulk-segment")).headers["location"] == "/"


async def test_who_is_found_by_phone_is_shown_with_it(
    service: Service, desk: httpx.AsyncClient
) -> None:
    await service.ingest(entry("ORD-2", email="ben@x.org", name="Ben", phone="+1 512 555 0141"))
    assert "512 555 0141" not in (await desk.get("/")).text
    found = (await desk.post("/", data={"q": "5125550141"})).text
    assert "512 555 0141</span>" in found
    assert "ben@x.org" in found


async def test_former_rules_can_be_used_again(desk: httpx.AsyncClient) -> None:
    api = {"vipOrderCount": 9, "atRiskDays": 30}
    assert (await desk.put("/api/v1/settings", json=api)).status_code == 200

    def entered(page: str) -> dict[str, str]:
        return dict(
            re.findall(r'<input type="number"[^>]* name="(\w+)"[^>]* value="([^"]*)"', page)
        )

    now_in_force = (await desk.get("/settings")).text
    assert entered(now_in_force)["vip_order_count"] == "9"
    assert set(re.findall(r'href="(/settings\?again=\d+)"', now_in_force)) == {"/settings?again=1"}
    assert now_in_force.count("Undo this change") == 2  # beside its progress, and in the history
    former = (await desk.get("/settings?again=1")).text
    assert "has the rules of version 1" in former
    assert (entered(former)["vip_order_count"], entered(former)["at_risk_days"]) == ("3", "60")
    assert 'name="version" value="2"' in former, "they are saved as a change of those in force"
    assert "has the rules of" not in (await desk.get("/settings?again=77")).text
