"""Sign-in, sign-out, and how long a session lives."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from service.core.scopes import ROLE_SCOPES, Role, Scope
from service.db.accounts import sessions, users
from tests.conftest import Service
from tests.integration.http.auth.conftest import PROBES, STATISTICS, Web, assert_problem
from tests.processes import HOST, processes
from tests.system.browser.browser import PAGES, PASSWORD, Browser, browser, user, words
from tests.wait import until


@pytest.fixture
async def jane(web: Web) -> AsyncIterator[Browser]:
    """Yield the browser of an editor who has signed in."""
    await user(web)
    async with browser(web) as visitor:
        assert (await visitor.sign_in()).status_code == 303
        yield visitor


async def stored(web: Web) -> int:
    return len(await web.service.rows("SELECT 1 FROM sessions"))


async def is_in(visitor: Browser) -> bool:
    answer = await visitor.get("/pages/read")
    assert answer.status_code in {200, 303}
    return answer.status_code == 200


async def audit(web: Web) -> list[dict[str, Any]]:
    return await web.service.rows("SELECT actor, action, details FROM audit ORDER BY id")


@pytest.mark.parametrize("role", Role)
async def test_a_session_allows_what_its_role_allows_in_pages_and_the_api(
    web: Web, role: Role
) -> None:
    await user(web, role)
    async with browser(web) as visitor:
        assert (await visitor.get("/pages/read")).status_code == 303
        signed_in = await visitor.sign_in(" JANE@example.com ", next="/?page=2")
        assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/?page=2")
        proof = {"x-csrf-token": await visitor.csrf()}
        for scope in Scope:
            expected = 200 if scope in ROLE_SCOPES[role] else 403
            assert (await visitor.get(PAGES[scope])).status_code == expected
            method = "POST" if scope is Scope.WRITE else "GET"
            answer = await visitor.http.request(method, PROBES[scope], headers=proof)
            assert answer.status_code == expected
        assert (await visitor.get(STATISTICS)).status_code == 200


@pytest.mark.parametrize(
    ("scheme", "name", "secure"),
    [("http", "crm-session", ""), ("https", "__Host-crm-session", "; Secure")],
)
async def test_the_session_cookie_is_http_only_and_same_site_strict(
    web: Web, scheme: str, name: str, secure: str
) -> None:
    await user(web)
    async with browser(web, scheme) as visitor:
        cookie, _ = (await visitor.sign_in()).headers.get_list("set-cookie")
        assert cookie == f"{name}={visitor.token}; HttpOnly; Path=/; SameSite=strict{secure}"
        assert await is_in(visitor)
        token = visitor.token
        other = {"cookie": f"{'crm-session' if secure else '__Host-crm-session'}={token}"}
        visitor.http.cookies.clear()
        assert (await visitor.get("/pages/read", headers=other)).status_code == 303


async def test_only_a_hash_of_the_token_is_stored(web: Web, jane: Browser) -> None:
    [row] = await web.service.rows("SELECT * FROM sessions")
    assert set(row) == {"token_hash", "user_id", "date_created", "last_seen_at", "expires_at"}
    assert len(jane.token) >= 256 / 6
    assert jane.token not in str(row)
    assert len(row["token_hash"]) == 32
    assert row["expires_at"] - row["date_created"] == sessions.LASTS


async def test_each_sign_in_has_a_token_of_its_own(web: Web, jane: Browser) -> None:
    first = jane.token
    async with browser(web) as planted:
        planted.http.cookies.set("crm-session", first)
        assert await is_in(planted)
        await planted.sign_in()
        planted.http.cookies.clear()
        assert not await is_in(planted)
    assert not await is_in(jane)  # the browser's earlier session ended with the new one
    await jane.sign_in()
    assert first != jane.token
    assert await is_in(jane)
    jane.http.cookies.set("crm-session", "chosen-by-somebody-else", domain="localhost.local")
    signed_in = await jane.sign_in()
    assert "chosen" not in signed_in.headers["set-cookie"]


@pytest.mark.parametrize("token", ["", "x", "a" * 43, "ü", "=;", "x" * 5000])
async def test_an_invalid_token_opens_nothing(web: Web, jane: Browser, token: str) -> None:
    tampered = jane.token[:-1] + ("a" if jane.token[-1] != "a" else "b")
    async with browser(web) as visitor:
        for value in (token, tampered, jane.token + "a"):
            headers = [(b"cookie", f"crm-session={value}".encode())]
            assert (await visitor.get("/pages/read", headers=headers)).status_code == 303
            answer = await visitor.get(STATISTICS, headers=headers)
            assert_problem(answer, 401)


async def test_signing_out_ends_the_session_for_a_copied_cookie_too(
    web: Web, jane: Browser
) -> None:
    token = jane.token
    answer = await jane.post("/sign-out", data={"csrf": await jane.csrf()})
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert "crm-session" not in jane.http.cookies
    assert await stored(web) == 0
    headers = {"cookie": f"crm-session={token}"}
    assert (await jane.get("/pages/read", headers=headers)).status_code == 303  # at once
    signed_out = words(await jane.get("/sign-in"))
    assert "You are signed out." in signed_out
    assert "Your session" not in signed_out
    assert (await jane.post("/sign-out")).status_code == 303
    assert [row["action"] for row in await audit(web)] == [
        "user.added",
        "user.signed-in",
        "user.signed-out",
    ]


@pytest.mark.parametrize(
    ("ended", "why"),
    [
        ("UPDATE sessions SET expires_at = now()", "twelve hours after you signed in."),
        (
            "UPDATE sessions SET last_seen_at = now() - interval '60 min'",
            "Your session ended after one hour without use.",
        ),
        ("DELETE FROM sessions", "Your session has ended."),
        ("DELETE FROM users WHERE email_key = 'jane@example.com'", "Your session has ended."),
    ],
)
async def test_a_session_ends_by_age_by_idleness_or_when_it_is_removed(
    web: Web, jane: Browser, ended: str, why: str
) -> None:
    await user(web, email="john@example.com")
    await web.service.execute(
        "UPDATE sessions SET last_seen_at = now() - interval '59 min',"
        " expires_at = now() + interval '1 min'"
    )
    web.wait()
    assert await is_in(jane)
    await web.state.credentials.close()
    await web.service.execute(ended)
    assert await is_in(jane)  # remembered
    web.wait()
    assert not await is_in(jane)
    assert f"{why} Sign in again to go on." in words(await jane.get("/sign-in"))
    async with browser(web) as john:
        assert (await john.sign_in("john@example.com")).status_code == 303
        assert f"{why} Sign in again" in words(await jane.get("/sign-in"))
        await web.service.execute(
            "UPDATE sessions SET last_seen_at = last_seen_at - interval '1 day',"
            " expires_at = expires_at - interval '1 day' WHERE expires_at <= now()"
            " OR last_seen_at <= now() - interval '1 hour'"
        )
        assert (await john.sign_in("john@example.com")).status_code == 303
        assert "Your session has ended." in words(await jane.get("/sign-in"))
    assert await stored(web) == 1


async def test_the_last_use_is_stored_to_the_minute_and_only_for_people(
    web: Web, jane: Browser
) -> None:
    async def idle() -> bool:
        await web.state.credentials.close()
        return bool(
            await web.service.rows(
                "SELECT 1 FROM sessions WHERE last_seen_at < now() - interval '5 min'"
            )
        )

    long_ago = "UPDATE sessions SET last_seen_at = now() - interval '10 min'"
    await web.service.execute(long_ago)
    await jane.get("/pages/read", headers={"x-background": "1"})
    await jane.get("/pages/read", headers={"accept": "text/event-stream"})
    assert await idle()
    await jane.get("/pages/read")
    assert not await idle()
    await web.service.execute(long_ago)
    web.wait(30)
    await jane.get("/pages/read")
    assert await idle()
    web.wait(31)
    await jane.get("/pages/read")
    assert not await idle()


async def test_disabling_a_user_or_changing_the_password_ends_the_session(
    web: Web, jane: Browser
) -> None:
    other = "a different staple"
    async with web.service.engine.begin() as connection:
        assert await users.set_password(connection, "jane@example.com", other, actor="test")
    assert await stored(web) == 0
    web.wait()
    assert not await is_in(jane)
    assert (await jane.sign_in()).status_code == 403
    assert (await jane.sign_in(password=other)).status_code == 303
    async with web.service.engine.begin() as connection:
        assert await users.disable_user(connection, "jane@example.com", actor="test")
        await users.add_user(connection, "x@x.org", other, Role.ADMIN, actor="test")
    assert await stored(web) == 0
    web.wait()
    assert not await is_in(jane)
    assert (await jane.sign_in(password=other)).status_code == 403


async def test_a_changed_role_applies_within_seconds(web: Web, jane: Browser) -> None:
    assert (await jane.get("/pages/write")).status_code == 200
    async with web.service.engine.begin() as connection:
        await users.set_role(connection, "jane@example.com", Role.VIEWER, actor="test")
    web.wait()
    refused = await jane.get("/pages/write")
    assert refused.status_code == 403
    assert "Your account may not change customers." in words(refused)
    assert "jane@example.com" in words(refused)  # the header is that of other pages
    assert await is_in(jane)


async def test_a_password_changed_during_sign_in_starts_no_session(web: Web) -> None:
    """It does not matter which of the two comes first."""
    engine, email = web.service.engine, "jane@example.com"
    await user(web)

    async def another(password: str) -> None:
        async with engine.begin() as connection:
            await users.set_password(connection, email, password, actor="test")

    async def waits() -> bool:
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return bool(await web.service.rows(waiting))

    async with engine.begin() as connection:
        signing_in = await users.verify_password(connection, email, PASSWORD)
        assert signing_in
        await sessions.start(connection, signing_in.id)
        changing = asyncio.create_task(another("a different staple"))
        await until(waits)
    await changing
    assert await stored(web) == 0

    async with engine.begin() as connection:
        await users.set_password(connection, email, PASSWORD, actor="test")
        async with browser(web) as visitor:
            trying = asyncio.create_task(visitor.sign_in(password="a different staple"))
            await until(waits)
            await connection.execute(text("COMMIT"))
            assert (await trying).status_code == 403
    assert await stored(web) == 0


async def test_every_failed_sign_in_gets_the_same_answer(
    web: Web, jane: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    jane.http.cookies.clear()
    await user(web, email="gone@example.com")
    async with web.service.engine.begin() as connection:
        await users.disable_user(connection, "gone@example.com", actor="test")
    attempts = {
        "jane@example.com": "not the password",
        "gone@example.com": PASSWORD,
        "nobody@example.com": PASSWORD,
        "": "",
    }
    seen = set()
    with caplog.at_level(logging.DEBUG):
        for email, password in attempts.items():
            answer = await jane.sign_in(email, password, next="/?segment=vip")
            assert answer.status_code == 403
            assert "set-cookie" not in answer.headers
            assert 'value="/?segment=vip"' in answer.text
            assert password == "" or password not in answer.text
            seen.add(answer.text.replace(f'value="{email}"', "").replace(" autofocus", ""))
    assert len(seen) == 1
    assert "is wrong" in seen.pop()
    assert "example.com" not in caplog.text
    failed = [row for row in await audit(web) if row["action"] == "user.sign-in-failed"]
    assert [row["actor"] for row in failed] == ["nobody"] * 4
    assert ["user" in row["details"] for row in failed] == [True, False, False, False]
    assert {row["details"]["network"] for row in failed} == {"127.0.0.0/24"}
    assert "example.com" not in str(failed)
    assert "password" not in str(failed)


@pytest.mark.parametrize(
    "there",
    [
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "https://evil.example",
        "https:evil.example",
        "http:/evil.example",
        "javascript:alert(1)",
        "evil.example",
        " //evil.example",
        "\t//evil.example",
        "",
    ],
)
async def test_sign_in_redirects_to_this_site_only(web: Web, jane: Browser, there: str) -> None:
    assert (await jane.sign_in(next=there)).headers["location"] == "/"
    asked = await jane.get("/sign-in", params={"next": there})  # signed in already
    assert (asked.status_code, asked.headers["location"]) == (303, "/")
    async with browser(web) as visitor:
        shown = (await visitor.get("/sign-in", params={"next": there})).text
        assert '<input type="hidden" name="next" value="/">' in shown


@pytest.mark.parametrize("site", ["cross-site", "same-site", None])
async def test_a_signed_in_visitor_from_another_site_need_not_sign_in_again(
    web: Web, site: str | None
) -> None:
    """Browsers send a strict cookie only with what our own page loads, not with a link to it."""
    await user(web)
    async with browser(web, site=site) as visitor:
        answer = await visitor.get("/sign-in?next=/%3Fa%3D1%26b%3D%22;")
        there = "/sign-in?again=1&next=%2F%3Fa%3D1%26b%3D%22%3B"
        assert answer.headers["refresh"] == f"0; url={there}"
        assert "refresh" not in (await visitor.get(there)).headers  # never in a loop
    async with browser(web) as visitor:
        assert "refresh" not in (await visitor.get("/sign-in")).headers


async def test_the_sign_in_page_says_how_to_add_the_first_user(web: Web) -> None:
    async with browser(web) as visitor:
        local = await visitor.get("/sign-in")
        assert (local.status_code, local.headers["location"]) == (303, "/")
        assert (await visitor.get("/pages/admin")).json() == "local"
        assert await visitor.csrf() == ""
        assert (await visitor.post("/pages/form", data={"a": "b"})).json() == {"a": "b"}
        await web.key(Scope.READ)
        assert "crm users add" in words(await visitor.get("/sign-in"))
        await user(web)
        asking = await visitor.get("/sign-in")
        assert "crm users add" not in words(asking)
        assert asking.headers["referrer-policy"] == "same-origin"  # or forms come from "null"


async def test_a_live_stream_ends_with_the_session(web: Web, jane: Browser) -> None:
    started = asyncio.Event()
    sent: list[bytes] = []

    async def receive() -> dict[str, object]:
        if not started.is_set():
            return {"type": "http.request", "body": b"", "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, object]) -> None:
        sent.append(bytes(message.get("body", b"")))  # type: ignore[call-overload]
        started.set()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/api/v1/activity/stream",
        "raw_path": b"/api/v1/activity/stream",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"cookie", f"crm-session={jane.token}".encode()), (b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
    }
    async with asyncio.TaskGroup() as group:
        stream = group.create_task(web.app(scope, receive, send))  # type: ignore[arg-type]

        async def primed() -> bool:
            return web.state.feed._fresh

        await until(primed)
        await web.service.execute("DELETE FROM sessions")
        web.wait()
        await web.service.execute(
            "INSERT INTO orders (id, version, updated_at, event_id, status, total, refunded,"
            " date_created) VALUES ('ORD-1', 1, now(), 'e', 'pending', 1, 0, now())"
        )
        async with asyncio.timeout(20):
            await stream
    assert b"ORD-1" not in b"".join(sent)


async def test_cookies_are_secure_behind_an_https_proxy(
    empty_service: Service, tmp_path: Path
) -> None:
    async with empty_service.engine.begin() as connection:
        await users.add_user(connection, "jane@example.com", PASSWORD, Role.VIEWER, actor="test")
    async with processes(empty_service.servers, tmp_path) as start:
        process = await start.web()
        url = f"http://{HOST}:{process.port}"
        fields = {"email": "jane@example.com", "password": PASSWORD}
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as http:
            headers = {
                "origin": url,
                "x-forwarded-proto": "https",
                "x-forwarded-for": "203.0.113.7",
            }
            secure = await http.post("/sign-in", data=fields, headers=headers)
            session, device = secure.headers.get_list("set-cookie")
            assert session.startswith("__Host-crm-session=")
            assert device.startswith("__Host-crm-device=")
            assert session.endswith("; Secure")
            assert device.endswith("; Secure")
            plain = await http.post("/sign-in", data=fields, headers={"origin": url})
            assert plain.headers["set-cookie"].startswith("crm-session=")
            assert (await http.get(STATISTICS)).status_code == 200
        token = plain.cookies["crm-session"]
        await process.terminate()
        networks = await empty_service.rows(
            "SELECT details ->> 'network' AS it FROM audit WHERE action = 'user.signed-in'"
            " ORDER BY id"
        )
        assert [row["it"] for row in networks] == ["203.0.113.0/24", "127.0.0.0/24"]
        assert "jane" not in process.output
        assert token not in process.output
        assert "POST /sign-in 303" in process.output
