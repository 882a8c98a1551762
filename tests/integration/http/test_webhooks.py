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


async def test_an_endpoint_is_changed_and_goes_on_where_it_is(
    service: Service, web: httpx.AsyncClient
) -> None:
    number = (await added(web, events=["customer-segment-changed"]))["endpoint"]["id"]
    await service.execute(
        "UPDATE endpoints SET failures = 2, failing_since = now(), next_attempt_at = now()"
    )
    await service.execute("UPDATE relay SET numbered = 50, published = 50")
    await service.execute("UPDATE removals_relay SET numbered = 7, published = 7")
    cursors = "SELECT change_cursor, removal_cursor, failures, version FROM endpoints"
    (before,) = await service.rows(cursors)

    async def change(**fields: Any) -> dict[str, Any]:
        answer = await web.patch(f"{API}/{number}", json=fields)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    assert (await change(description="the list"))["description"] == "the list"
    assert await service.rows(cursors) == [before]  # whoever sends is not disturbed
    both = ["customer-removed", "customer-segment-changed"]
    assert (await change(events=both))["events"] == both
    (row,) = await service.rows(cursors)
    # Changes go on where they were. Removals, which are new to it, begin now.
    assert (row["change_cursor"], row["removal_cursor"]) == (before["change_cursor"], 7)
    assert (row["version"], row["failures"]) == (before["version"] + 1, 2)
    moved = await change(url="https://8.8.4.4/new?token=2", events=both)
    assert (moved["url"], moved["state"]) == ("https://8.8.4.4/new?token=2", "active")
    assert (await change(url="https://8.8.4.4/new?token=2")) == moved
    rows = await service.rows(
        "SELECT details FROM audit WHERE action = 'endpoint.changed' ORDER BY id"
    )
    assert [row["details"]["changed"] for row in rows] == [["description"], ["events"], ["url"]]
    assert (rows[2]["details"]["host"], rows[2]["details"]["newHost"]) == ("8.8.8.8", "8.8.4.4")
    assert "token" not in str(rows)
    await web.delete(f"{API}/{number}")
    for relay in ("relay", "removals_relay"):  # nothing was published in truth
        await service.execute(f"UPDATE {relay} SET numbered = 0, published = 0")


async def test_only_the_command_line_lets_a_changed_url_be_private(
    service: Service, web: httpx.AsyncClient
) -> None:
    number = (await added(web))["endpoint"]["id"]
    await service.execute("UPDATE endpoints SET url = 'http://10.0.0.1/', allow_private = true")
    address = f"{API}/{number}"
    # Its own URL is no other URL, though it could not be added over HTTP.
    same = await web.patch(address, json={"url": "http://10.0.0.1/", "description": "inside"})
    assert (same.status_code, same.json()["allowPrivate"]) == (200, True)
    refused = await web.patch(address, json={"url": "https://10.0.0.2/"})
    assert (refused.status_code, refused.json()["errors"][0]["where"]) == (422, "body.url")
    assert (await web.get(address)).json()["url"] == "http://10.0.0.1/"
    # A public host may have a private address tomorrow. The worker must refuse that then.
    moved = await web.patch(address, json={"url": "https://8.8.8.8/"})
    assert (moved.status_code, moved.json()["allowPrivate"]) == (200, False)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("DELETE", "", None),
        ("PATCH", "", {"url": "https://8.8.4.4/"}),
        ("PATCH", "", {"description": "x"}),
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
    assert "No other system gets events" in (await web.get("/operations")).text
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


async def test_an_admin_adds_and_changes_an_endpoint_on_a_page(
    service: Service, web: httpx.AsyncClient
) -> None:
    new = "/operations/endpoints/new"
    assert 'href="/operations/endpoints/new"' in (await web.get("/operations")).text
    assert "by POST, from now on" in (await web.get(new)).text
    private = await web.post(new, data={"url": "https://10.0.0.1/", "events": "customer-removed"})
    assert private.status_code == 422
    assert "This URL leads to an address that is not allowed" in private.text
    assert 'value="https://10.0.0.1/"' in private.text
    none = await web.post(new, data={"url": URL})
    assert (none.status_code, "Choose at least one kind." in none.text) == (422, True)
    assert not await service.rows("SELECT 1 FROM endpoints")
    both = ["customer-segment-changed", "customer-removed"]
    made = await web.post(new, data={"url": URL, "description": "mailing list", "events": both})
    assert (made.status_code, made.headers["cache-control"]) == (200, "no-store")
    (row,) = await service.rows("SELECT e.id, secret FROM endpoint_secrets s, endpoints e")
    assert row["secret"] in made.text
    address = f"/operations/endpoints/{row['id']}"
    assert row["secret"] not in (await web.get(address)).text
    form = await web.get(f"{address}/edit")
    assert "token=1" in form.text
    wrong = await web.post(f"{address}/edit", data={"url": "ftp://x/", "events": both})
    assert (wrong.status_code, "must begin with https://" in wrong.text) == (422, True)
    saved = {"url": URL, "description": "letters", "events": "customer-removed"}
    for told in ("Changes saved", "Nothing was changed"):
        answer = await web.post(f"{address}/edit", data=saved, follow_redirects=True)
        assert told in answer.text
    document = (await web.get(f"{API}/{row['id']}")).json()
    assert (document["description"], document["events"]) == ("letters", ["customer-removed"])
    renewed = await web.post(f"{address}/secret")
    (newest,) = await service.rows("SELECT secret FROM endpoint_secrets ORDER BY id DESC LIMIT 1")
    assert newest["secret"] in renewed.text
    assert "signs as well for 24 hours" in renewed.text
