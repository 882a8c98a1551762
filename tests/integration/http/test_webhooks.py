"""``/api/v1/webhooks`` and the page of an endpoint: what admins can decide."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.conftest import Service
from tests.integration.worker.scene import change, relaying
from tests.wait import until

API = "/api/v1/webhooks"
URL = "https://8.8.8.8/hook?token=1"


async def added(web: httpx.AsyncClient, **more: Any) -> dict[str, Any]:
    answer = await web.post(API, json={"url": URL, **more})
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def test_an_admin_registers_an_endpoint_and_sees_its_secret_once(
    service: Service, web: httpx.AsyncClient
) -> None:
    made = await added(web, events=["customer-removed"], description="mailing list")
    assert made["secret"].startswith("whsec_")
    endpoint = made["endpoint"]
    assert endpoint["url"] == URL
    assert endpoint["events"] == ["customer-removed"]
    assert (endpoint["state"], endpoint["waiting"], endpoint["lastError"]) == ("active", 0, None)
    listed = await web.get(API)
    assert listed.json()["items"] == [endpoint]
    assert made["secret"] not in listed.text
    (row,) = await service.rows("SELECT secret FROM endpoint_secrets")
    assert row["secret"] == made["secret"]
    (note,) = await service.rows("SELECT action, details FROM audit")
    assert (note["action"], note["details"]["host"]) == ("endpoint.added", "8.8.8.8")
    assert "token" not in str(note["details"])


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://8.8.8.8/", "must begin with https"),
        ("https://127.0.0.1/", "private network"),
        ("https://localhost/", "private network"),
        ("https://2130706433/", "private network"),
        ("https://169.254.169.254/", "reserved"),
        ("https://nowhere.invalid/", "cannot be found"),
        ("https://u:p@8.8.8.8/", "user name"),
    ],
)
async def test_a_url_is_refused_with_a_reason(web: httpx.AsyncClient, url: str, why: str) -> None:
    answer = await web.post(API, json={"url": url})
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert fault["where"] == "body.url"
    assert why in fault["message"]


async def test_decisions_are_made_and_audited(service: Service, web: httpx.AsyncClient) -> None:
    number = (await added(web))["endpoint"]["id"]
    async with relaying(service):
        await change(service, 1, 2)

        async def is_published() -> bool:
            return bool((await web.get(f"{API}/{number}")).json()["waiting"] == 2)

        await until(is_published)
    assert (await web.get(f"{API}/{number}")).json()["lagSeconds"] > 0
    paused = (await web.post(f"{API}/{number}/pause", json={"why": "maintenance"})).json()
    assert (paused["state"], paused["pausedBecause"]) == ("paused", "maintenance")
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    skipped = await web.post(f"{API}/{number}/replay", json={"since": later, "skip": True})
    assert skipped.json() == {"again": 0, "skipped": 2}
    again = await web.post(f"{API}/{number}/replay", json={"since": "2000-01-01T00:00:00Z"})
    assert again.json() == {"again": 2, "skipped": 0}
    assert (await web.post(f"{API}/{number}/resume")).json()["state"] == "active"
    secret = (await web.post(f"{API}/{number}/secret", json={"keepHours": 1})).json()["secret"]
    assert (await web.get(f"{API}/{number}")).json()["secrets"] == 2
    assert (await web.delete(f"{API}/{number}")).status_code == 204
    assert await service.rows("SELECT 1 FROM endpoint_secrets") == []
    rows = await service.rows("SELECT action, details FROM audit WHERE action LIKE 'endpoint.%'")
    assert [row["action"].partition(".")[2] for row in rows] == [
        *("added", "paused", "replayed", "replayed", "resumed", "secret_renewed", "removed")
    ]
    assert secret not in str(rows)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("DELETE", "", None),
        ("POST", "/pause", {"why": "x"}),
        ("POST", "/resume", None),
        ("POST", "/replay", {"since": "2000-01-01T00:00:00Z"}),
        ("POST", "/secret", {}),
    ],
)
async def test_an_unknown_endpoint_is_not_found(
    web: httpx.AsyncClient, method: str, path: str, body: Any
) -> None:
    answer = await web.request(method, f"{API}/7{path}", json=body)
    assert (answer.status_code, answer.json()["title"]) == (404, "Endpoint not found")


async def test_there_is_a_limit(service: Service, web: httpx.AsyncClient) -> None:
    number = (await added(web))["endpoint"]["id"]
    await service.execute(
        "INSERT INTO endpoints (url, events, created_by, change_cursor, removal_cursor)"
        " SELECT url, events, created_by, 0, 0 FROM endpoints, generate_series(1, 49)"
        f" WHERE id = {number}"
    )
    answer = await web.post(API, json={"url": URL})
    assert (answer.status_code, answer.json()["title"]) == (409, "Too many endpoints")


async def test_staff_see_and_decide_on_pages(service: Service, web: httpx.AsyncClient) -> None:
    assert "Webhooks out" not in (await web.get("/operations")).text
    number = (await added(web, description="mailing list"))["endpoint"]["id"]
    page = await web.get("/operations")
    assert "Webhooks out" in page.text
    assert "mailing list" in page.text
    assert "token=1" not in page.text  # the rest of a URL may be a secret
    address = f"/operations/endpoints/{number}"
    assert "segment changes and removed customers" in (await web.get(address)).text

    async def sent(action: str, **fields: str) -> httpx.Response:
        answer = await web.post(f"{address}/{action}", data=fields, follow_redirects=True)
        assert answer.status_code == 200, answer.text
        return answer

    assert "Nothing is sent until" in (await sent("pause", why="maintenance")).text
    assert "Maintenance" in (await web.get("/operations")).text
    assert "Resumed" in (await sent("resume")).text
    await service.execute(
        "UPDATE endpoints SET change_cursor = 0, failures = 2, failing_since ="
        " now(), next_attempt_at = now(), last_error = 'answered 500'"
    )
    assert "It answered 500. 2 failed attempts since" in (await web.get(address)).text
    assert "sent again" in (await sent("replay", since="2026-11-01T10:00")).text
    wrong = await web.post(f"{address}/replay", data={"since": "yesterday"})
    assert wrong.status_code == 422
    assert "Endpoint removed" in (await sent("remove")).text
    assert (await web.get(address)).status_code == 404
