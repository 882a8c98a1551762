"""Risks of the OWASP API Security Top 10 that no other test covers: see `test_risks`."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from service.core.scopes import Scope
from service.http.app import create_app
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.operations.dead_letters.conftest import key
from tests.integration.http.conftest import client
from tests.processes import HOST, processes

CUSTOMERS = "/api/v1/customers"
READ_ONLY = {
    "id": "CUST-1",
    "totalSpent": 1e6,
    "totalOrders": 99,
    "orderIds": ["ORD-1"],
    "dateCreated": "2020-01-01T00:00:00Z",
    "dateUpdated": "2020-01-01T00:00:00Z",
    "firstOrderDate": None,
    "lastOrderDate": "2020-01-01T00:00:00Z",
    "segmentSource": "rules",
    "segment_manual": False,
    "email_key": "a@x.org",
    "role": "admin",
    "scopes": ["admin"],
    "__class__": "x",
    "constructor": {},
}


@pytest.fixture
async def http(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with client(service) as web:
        yield web


async def create(http: httpx.AsyncClient, email: str) -> str:
    answer = await http.post(CUSTOMERS, json={"name": "A", "email": email})
    assert answer.status_code == 201
    return f"{CUSTOMERS}/{answer.json()['id']}"


# --- API1: no customer leads to the data of another


async def test_an_interaction_is_reached_through_its_customer_only(http: httpx.AsyncClient) -> None:
    one, other = await create(http, "a@x.org"), await create(http, "b@x.org")
    made = await http.post(f"{one}/interactions", json={"kind": "note", "text": "private"})
    interaction = made.json()["id"]
    for answer in (
        await http.patch(f"{other}/interactions/{interaction}", json={"text": "mine"}),
        await http.delete(f"{other}/interactions/{interaction}"),
    ):
        assert answer.status_code == 404
    assert (await http.get(f"{other}/interactions")).json()["total"] == 0
    (kept,) = (await http.get(f"{one}/interactions")).json()["items"]
    assert kept["text"] == "private"


async def test_a_cursor_of_one_customer_shows_nothing_of_another(
    service: Service, http: httpx.AsyncClient
) -> None:
    now = datetime.now(UTC)
    await service.ingest(
        *(
            entry(f"ORD-{who}{n}", email=f"{who}@x.org", created=now - timedelta(days=n))
            for who in "ab"
            for n in range(3)
        )
    )
    for part in ("orders", "timeline"):
        first = await http.get(f"{CUSTOMERS}/CUST-1001/{part}", params={"limit": 1})
        cursor = first.json()["nextCursor"]
        page = await http.get(f"{CUSTOMERS}/CUST-1002/{part}", params={"cursor": cursor})
        assert "ORD-a" not in page.text
        assert "ORD-b" in page.text


# --- API3: callers cannot write a property that the service sets


@pytest.mark.parametrize("field", READ_ONLY)
async def test_computed_fields_cannot_be_sent(http: httpx.AsyncClient, field: str) -> None:
    url = await create(http, "a@x.org")
    before = (await http.get(url)).json()
    for answer in (
        await http.patch(url, json={field: READ_ONLY[field]}),
        await http.post(CUSTOMERS, json={"name": "B", "email": "b@x.org", field: READ_ONLY[field]}),
    ):
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["where"] == f"body.{field}"
    assert (await http.get(url)).json() == before
    assert (await http.get(CUSTOMERS)).json()["total"] == 1


async def test_nobody_can_name_another_author(service: Service, http: httpx.AsyncClient) -> None:
    url = await create(http, "a@x.org")
    writer = await key(service, Scope.READ, Scope.WRITE)
    note = {"kind": "note", "text": "x"}
    for forged in ({"author": "boss"}, {"id": "1"}, {"dateCreated": "2020-01-01T00:00:00Z"}):
        answer = await http.post(f"{url}/interactions", json=note | forged, headers=writer)
        assert answer.status_code == 422
    made = await http.post(f"{url}/interactions", json=note, headers=writer)
    assert made.json()["author"] == "key read+write"
    admin = await key(service, Scope.READ, Scope.ADMIN)
    settings = {"atRiskDays": 45, "changedBy": "boss"}
    assert (await http.put("/api/v1/settings", json=settings, headers=admin)).status_code == 422


# --- API4: every size that a caller chooses is bounded


async def test_an_answer_does_not_grow_with_the_mistakes_of_a_request(
    http: httpx.AsyncClient,
) -> None:
    answer = await http.post(CUSTOMERS, json={f"k{n}": n for n in range(10_000)})
    assert answer.status_code == 422
    assert len(answer.content) < 10_000


# --- API6: exports and everything that cannot be undone are audited


async def test_everything_that_cannot_be_undone_is_audited_with_its_actor(
    service: Service, http: httpx.AsyncClient
) -> None:
    await service.ingest(entry("ORD-1", currency="euros"), entry("ORD-2", currency="euros"))
    url = await create(http, "a@x.org")
    everybody = await key(service, *Scope)
    letters = (await http.get("/api/v1/dead-letters", headers=everybody)).json()["items"]
    one, other = (f"/api/v1/dead-letters/{letter['id']}" for letter in letters)
    flows: dict[str, tuple[str, str, dict[str, Any]]] = {
        "customers.exported": ("GET", f"{CUSTOMERS}/export.csv", {}),
        "settings.updated": ("PUT", "/api/v1/settings", {"json": {"atRiskDays": 45}}),
        "dead-letter.replayed": ("POST", f"{one}/replay", {}),
        "dead-letter.discarded": ("DELETE", other, {"params": {"why": "a test"}}),
        "customer.erased": ("DELETE", url, {}),
    }
    reader = await key(service, Scope.READ)
    for action, (method, path, more) in flows.items():
        refused = await http.request(method, path, headers=reader, **more)
        assert refused.status_code == 403, action
        done = await http.request(method, path, headers=everybody, **more)
        assert done.status_code < 300, done.text
        rows = await service.rows("SELECT actor FROM audit WHERE action = :it", it=action)
        assert [row["actor"] for row in rows] == ["key read+write+export+erase+admin"], action


# --- API8: a process opens and reveals no more than it must


async def test_a_real_process_reveals_nothing_about_itself(
    service: Service, tmp_path: Path
) -> None:
    origin = {"Origin": "http://evil.example"}
    preflight = {**origin, "Access-Control-Request-Method": "DELETE"}
    async with processes(service.servers, tmp_path) as started:
        web = await started.web()
        url = f"http://{HOST}:{web.port}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as http:
            answers = [
                await http.get("/api/v1/statistics", headers=origin),
                await http.options(CUSTOMERS, headers=preflight),
                await http.request("TRACE", "/api/v1/statistics", headers={"X-Secret": "s3"}),
                await http.get("/nothing"),
                await http.get("/docs"),
                *[await http.get(path) for path in ("/.env", "/.git/config", "/static/../x")],
                *[await http.get(path) for path in ("/redoc", "/swagger", "/debug", "/admin")],
            ]
    for answer in answers:
        assert not [it for it in answer.headers if it.startswith("access-control-")]
        assert answer.headers.keys().isdisjoint({"server", "x-powered-by", "set-cookie"})
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "s3" not in answer.text
    statuses = [answer.status_code for answer in answers]
    assert statuses[:5] == [200, 405, 405, 404, 200]
    assert set(statuses[5:]) <= {404, 401, 303}


# --- API9: every route is known


def _routes(routes: list[BaseRoute]) -> list[Any]:
    found: list[Any] = []
    for route in routes:
        router = getattr(route, "original_router", None)
        found += _routes(router.routes) if router else [route]
    return found


def test_every_route_is_documented_or_on_a_short_list(service: Service) -> None:
    app = create_app(service.web_config)
    documented = {
        (method.upper(), path) for path, item in app.openapi()["paths"].items() for method in item
    }
    hidden = set()
    for route in _routes(app.routes):
        where = getattr(getattr(route, "endpoint", None), "__module__", "")
        if where.startswith("service.http.dashboard"):
            continue  # pages for people, who sign in
        methods = (route.methods or set()) - {"HEAD"} if isinstance(route, APIRoute) else {"?"}
        path = getattr(route, "path", "").replace(":path}", "}")  # an id may have slashes
        hidden |= {(it, path) for it in methods} - documented
    listed = {"/metrics", "/docs", "/openapi.json", "/static", "/hooks/{platform}"}
    assert {path for _, path in hidden} <= listed
    assert {path.split("/")[2] for _, path in documented if path.startswith("/api/")} == {"v1"}
