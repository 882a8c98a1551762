"""Views: saved filters, those that every shop has, and how their numbers change."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from service.core.scopes import Scope
from service.db.accounts import api_keys
from service.db.customers.views import counts
from service.db.engine import in_transaction
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.customers.conftest import Api
from tests.integration.http.conftest import client

VIEWS = "/api/v1/views"


async def _shop(service: Service, now: datetime) -> None:
    """Create a VIP who lapses soon, a one-time buyer, a big spender, and somebody by phone."""
    ago = {days: now - timedelta(days=days, hours=2) for days in (1, 40, 50, 55)}
    await service.ingest(
        *(entry(f"VIP-{n}", email="vip@x.org", total="10", created=ago[50]) for n in range(5)),
        entry("ONCE-1", email="once@x.org", total="5", created=ago[40]),
        entry("BIG-1", email="big@x.org", total="9999", created=ago[1]),
        entry("TEL-1", phone="+15125550101", total="5", created=ago[1]),
    )


async def _count(service: Service) -> None:
    """Count all views, as a worker does."""
    step = counts.count_next_step()
    while await in_transaction(service.engine, step) is not None:
        pass


async def _views(http: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    answer = await http.get(VIEWS)
    assert answer.status_code == 200, answer.text
    return {view["id"]: view for view in answer.json()["items"]}


async def _emails(http: httpx.AsyncClient, view: str, **query: Any) -> list[str | None]:
    answer = await http.get(f"{VIEWS}/{view}/customers", params=query)
    assert answer.status_code == 200, answer.text
    return [customer["email"] for customer in answer.json()["items"]]


async def test_a_new_shop_has_views_that_follow_its_rules(
    api: Api, service: Service, now: datetime
) -> None:
    await _shop(service, now)
    await _count(service)
    http = api.http
    found = await _views(http)
    assert {key: view["customers"] for key, view in found.items()} == {
        "lapsing-vips": 1,
        "one-time-buyers": 1,
        "big-spenders-without-consent": 1,
        "no-email": 1,
    }
    assert all(view["readyMade"] and view["change"] is None for view in found.values())
    for key, email in (
        ("lapsing-vips", "vip@x.org"),
        ("one-time-buyers", "once@x.org"),
        ("big-spenders-without-consent", "big@x.org"),
        ("no-email", None),
    ):
        assert await _emails(http, key) == [email]
        exported = (await http.get(f"{VIEWS}/{key}/export.csv")).text
        assert exported.count("CUST-") == 1
        assert (email or "+1512555") in exported
        opened = await http.get(f"/views/{key}")
        assert " of 1</p>" in (await http.get(opened.headers["location"])).text
    changed = await http.put("/api/v1/settings", json={"atRiskDays": 55, "vipTotalSpent": 10_000})
    assert changed.status_code == 200, changed.text
    await _count(service)
    after = {key: view["customers"] for key, view in (await _views(http)).items()}
    assert (after["lapsing-vips"], after["big-spenders-without-consent"]) == (1, 0)
    refused = await http.delete(f"{VIEWS}/no-email")
    assert (refused.status_code, "nobody can change it" in refused.json()["detail"]) == (409, True)


async def test_a_view_is_saved_changed_and_deleted(api: Api, service: Service) -> None:
    await service.ingest(*(entry(f"O-{n}", email=f"c{n}@x.org") for n in range(3)))
    http = api.http
    body = {"name": " Ours ", "filter": {"search": "c1", "ordersFrom": 1}, "sort": "email"}
    saved = (await http.post(VIEWS, json=body)).json()
    assert (saved["name"], saved["owner"], saved["shared"]) == ("Ours", "local", False)
    assert (saved["customers"], saved["countedAt"]) == (None, None)
    assert await _emails(http, saved["id"]) == ["c1@x.org"]
    twice = await http.post(VIEWS, json=body)
    assert (twice.status_code, twice.json()["errors"][0]["where"]) == (409, "body.name")
    await _count(service)
    assert (await http.get(f"{VIEWS}/{saved['id']}")).json()["customers"] == 1
    wider = {**body, "name": "All", "filter": {"segment": "new"}, "sort": "-email"}
    changed = (await http.put(f"{VIEWS}/{saved['id']}", json=wider)).json()
    assert (changed["name"], changed["customers"]) == ("All", None)
    first = (await http.get(f"{VIEWS}/{saved['id']}/customers", params={"limit": 2})).json()
    assert [it["email"] for it in first["items"]] == ["c2@x.org", "c1@x.org"]
    assert await _emails(http, saved["id"], limit=2, cursor=first["nextCursor"]) == ["c0@x.org"]
    for wrong in ({"name": ""}, {"filter": {"ordersFrom": "x"}}, {"sort": "size"}):
        assert (await http.post(VIEWS, json=body | wrong)).status_code == 422, wrong
    assert (await http.delete(f"{VIEWS}/{saved['id']}")).status_code == 204
    assert (await http.get(f"{VIEWS}/{saved['id']}")).status_code == 404
    assert await service.rows("SELECT * FROM view_counts WHERE view = :key", key=saved["id"]) == []
    notes = await service.rows("SELECT action, details FROM audit ORDER BY id")
    assert [note["action"] for note in notes] == ["view.created", "view.updated", "view.deleted"]
    assert "c1" not in str(notes), "what is searched for may be somebody's name"


@pytest.fixture
async def two(service: Service) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Yield clients of two keys: an editor's and an admin's."""
    keys = []
    for name, scopes in (
        ("editor", [Scope.READ, Scope.WRITE]),
        ("admin", [*Scope]),
    ):
        key = await service.in_transaction(
            lambda c, n=name, s=scopes: api_keys.create_key(c, n, s, actor="test")
        )
        keys.append(key.reveal())
    async with client(service) as web:
        headers = [{"Authorization": f"Bearer {key}"} for key in keys]
        yield [
            httpx.AsyncClient(transport=web._transport, base_url="http://localhost", headers=each)
            for each in headers
        ]


async def test_own_views_are_seen_by_their_owner_and_shared_ones_by_all(
    two: list[httpx.AsyncClient],
) -> None:
    editor, admin = two
    mine = (await editor.post(VIEWS, json={"name": "Mine", "filter": {}})).json()["id"]
    ours = (await admin.post(VIEWS, json={"name": "Ours", "filter": {}, "shared": True})).json()
    assert mine in await _views(editor)
    assert mine not in await _views(admin)
    assert (await admin.get(f"{VIEWS}/{mine}/customers")).status_code == 404
    assert (await admin.delete(f"{VIEWS}/{mine}")).status_code == 404
    assert ours["id"] in await _views(editor)
    body = {"name": "Theirs", "filter": {"ordersFrom": 1}}
    refused = await editor.put(f"{VIEWS}/{ours['id']}", json=body)
    assert (refused.status_code, "somebody else's" in refused.json()["detail"]) == (403, True)
    shared = {"name": "Mine", "filter": {}, "shared": True}
    assert (await editor.put(f"{VIEWS}/{mine}", json=shared)).status_code == 200
    assert (await admin.delete(f"{VIEWS}/{mine}")).status_code == 204


@pytest.mark.parametrize(
    ("days", "change"),
    [
        ([0], None),
        ([0, 3, 5], (-4, 5, None)),
        ([0, 3, 7, 8], (-6, 7, 7)),
        ([0, 3, 9, 12], (-8, 9, 7)),
    ],
)
async def test_a_view_says_how_it_changed_in_seven_days_or_since_when(
    api: Api, service: Service, now: datetime, days: list[int], change: Any
) -> None:
    await service.ingest(entry("O-1", email="c@x.org"))
    await _count(service)
    for ago in days[1:]:
        await service.execute(
            "INSERT INTO view_counts"
            " SELECT view, day - CAST(:ago AS int), CAST(:n AS int), counted_at, seconds"
            " FROM view_counts WHERE view = 'no-email' AND day = :today",
            ago=ago,
            n=ago - 1,
            today=now.date(),
        )
    told = (await _views(api.http))["no-email"]["change"]
    if change is None:
        assert told is None
    else:
        less, ago, whole = change
        since = (now.date() - timedelta(days=ago)).isoformat()
        assert told == {"customers": less, "since": since, "days": whole}


async def test_counting_is_seldom_writes_little_and_forgets_old_days(
    service: Service, now: datetime
) -> None:
    await service.ingest(entry("O-1", email="c@x.org"))
    await service.execute(
        "INSERT INTO view_counts VALUES ('no-email', :day, 1, now(), 0)",
        day=now.date() - timedelta(days=60),
    )
    await service.execute("UPDATE settings SET changed_at = now() - interval '1 day'")
    step = counts.count_next_step()
    assert [await in_transaction(service.engine, step) for _ in range(5)] == [1, 1, 1, 1, None]
    rows = await service.rows("SELECT view, day FROM view_counts")
    assert {row["day"] for row in rows} == {now.date()}
    await service.execute("UPDATE view_counts SET counted_at = now() - interval '11 minutes'")
    before = await service.rows("SELECT * FROM view_counts ORDER BY view")
    step = counts.count_next_step()
    assert [await in_transaction(service.engine, step) for _ in range(5)] == [1, 1, 1, 1, None]
    assert await service.rows("SELECT * FROM view_counts ORDER BY view") == before
    # Counting took long, so it is done seldomer.
    await service.execute("UPDATE view_counts SET seconds = 60")
    assert await in_transaction(service.engine, counts.count_next_step()) is None


async def test_a_list_is_saved_and_opened_without_scripts(
    api: Api, service: Service, now: datetime
) -> None:
    await _shop(service, now)
    http = api.http
    form = {"segment": ["vip", "new"], "span": "last-30", "ordersTo": "1", "q": "x.org"}
    saved = await http.post("/views", data={**form, "view": "Fresh", "shared": "on"})
    assert saved.headers["location"] == "/views"
    await _count(service)
    shown = (await http.get("/views")).text
    assert "VIP or New · “x.org” · Created in the last 30 days · Orders: 1 or fewer" in shown
    assert "counted since today" in shown
    opened = await http.get("/views/1")
    address = "/?segment=new%2Cvip&createdWithin=30&ordersTo=1#q=x.org"
    assert opened.headers["location"] in {address, address.replace("new%2Cvip", "vip%2Cnew")}
    front = (await http.get("/")).text
    assert 'href="/views/1"' in front
    current = await http.get("/", params={"hasEmail": "no"})
    assert 'class="chip on" href="/views/no-email" aria-current="true"' in current.text
    assert "Save or update view" not in current.text
    assert "Save or update view" in (await http.get("/", params={"hasEmail": "yes"})).text
    again = await http.post("/views", data={"view": "Fresh"})
    assert again.status_code == 409
    assert (await http.post("/views/1/change", data={"view": "Newer"})).status_code == 303
    assert "only you" in (await http.get("/views")).text
    assert (await http.post("/views/1/export", data={})).text.count("CUST-") == 1
    assert (await http.post("/views/1/delete", data={})).status_code == 303
    assert "1" not in await _views(http)


async def test_a_view_gets_other_filters_on_the_page(api: Api) -> None:
    http = api.http
    for name, filters in (("Other", {"country": "BE"}), ("VIPs", {"segment": "vip"})):
        await http.post("/views", data={**filters, "view": name, "shared": "on"})
    wanted = {"segment": "vip", "hasEmail": "no"}
    front = (await http.get("/", params=wanted)).text
    # The view that is most like the list stands first.
    assert front.index('<option value="2">VIPs') < front.index('<option value="1">Other')
    form = {**wanted, "sort": "-totalSpent", "replaced": "2"}
    updated = await http.post("/views/replace", data=form)
    assert (updated.status_code, updated.headers["location"]) == (303, "/views/2")
    shown = await http.get("/views/2", follow_redirects=True)
    assert "View updated" in shown.text
    assert shown.url.query == b"segment=vip&hasEmail=no&sort=-totalSpent"
    view = (await http.get(f"{VIEWS}/2")).json()
    assert (view["name"], view["shared"]) == ("VIPs", True)
    for key, status in (("no-email", 409), ("7", 404)):
        answer = await http.post("/views/replace", data={**form, "replaced": key})
        assert answer.status_code == status
    wrong = await http.post("/views/replace", data={"replaced": "2", "ordersFrom": "x"})
    assert wrong.status_code == 422


async def test_a_view_follows_the_names_of_its_tags(api: Api, service: Service) -> None:
    await service.ingest(entry("O-1", email="c@x.org"))
    http = api.http
    await http.post("/api/v1/customers/CUST-1001/tags", json={"add": ["Old", "Other"]})
    tags = {it["name"]: it["id"] for it in (await http.get("/api/v1/tags")).json()["items"]}
    body = {"name": "V", "filter": {"tagsAny": ["old", "x"], "tagsAll": ["Other", "Old"]}}
    view = (await http.post(VIEWS, json=body)).json()["id"]
    await http.patch(f"/api/v1/tags/{tags['Old']}", json={"name": "New"})
    assert await _emails(http, view) == ["c@x.org"]
    await http.post(f"/api/v1/tags/{tags['Old']}/merge", json={"into": tags["Other"]})
    renamed = (await http.get(f"{VIEWS}/{view}")).json()["filter"]
    assert renamed == {"tagsAny": ["Other", "x"], "tagsAll": ["Other"]}
