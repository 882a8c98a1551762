"""Strangers can neither guess passwords fast nor keep users out, and nobody waits for them."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import text

from service.core.scopes import Role
from service.db.accounts import devices, passwords, users
from service.http.app import WRONG_KEYS_AT_ONCE
from service.http.sign_in_limits import (
    FAILURES_AT_ONCE,
    FAILURES_PER_SECOND,
    HASHED_AT_ONCE,
    WAITING,
    attempt,
)
from tests.conftest import Service
from tests.integration.http.auth.conftest import STATISTICS, Web, serve
from tests.system.browser.browser import PASSWORD, Browser, browser, pages, user, words
from tests.wait import until

JANE, JOHN = "jane@example.com", "john@example.com"


@pytest.fixture
async def jane(web: Web) -> AsyncIterator[Browser]:
    """Yield the browser of an editor who has signed in."""
    await user(web)
    async with browser(web) as visitor:
        assert (await visitor.sign_in()).status_code == 303
        yield visitor


async def strangers_fail(web: Web, email: str = JANE, address: str = "127.0.0.1") -> None:
    """Let strangers at an address fail until they are refused. Hashing so often would take long."""
    stranger = attempt(address, email, None)
    while not web.state.sign_ins.take(stranger):
        pass
    async with browser(web, address=address) as visitor:
        assert (await visitor.sign_in(email)).status_code == 429


async def try_at_a_new_device(web: Web, email: str = JANE, address: str = "198.51.100.1") -> int:
    """Sign in with the right password in a new browser; return the status."""
    async with browser(web, address=address) as visitor:
        return (await visitor.sign_in(email)).status_code


async def test_failures_are_limited_and_successes_are_not(web: Web, jane: Browser) -> None:
    async with browser(web) as stranger:  # from Jane's own address
        for _ in range(3):
            assert (await stranger.sign_in()).status_code == 303
            stranger.http.cookies.clear()
        for number in range(int(FAILURES_AT_ONCE)):
            assert (await stranger.sign_in(f"{number}@example.com")).status_code == 403
        refused = await stranger.sign_in()
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) == 1 / FAILURES_PER_SECOND
        assert "Too many attempts. Try again in 5 seconds." in words(refused)
        assert 'value="jane@example.com"' in refused.text
        assert (await jane.sign_in()).status_code == 303
        assert await try_at_a_new_device(web) == 303
        web.wait(1 / FAILURES_PER_SECOND)
        assert (await stranger.sign_in()).status_code == 303


async def test_accounts_are_limited_however_their_e_mail_is_typed(web: Web, jane: Browser) -> None:
    for number in range(5):
        await strangers_fail(web, address=f"192.0.2.{number}")
    assert await try_at_a_new_device(web, " JANE@example.com ") == 429
    assert await try_at_a_new_device(web, JOHN) == 403
    assert (await jane.sign_in()).status_code == 303


async def test_a_device_that_is_known_is_limited_by_itself(web: Web, jane: Browser) -> None:
    for _ in range(int(FAILURES_AT_ONCE)):
        assert (await jane.sign_in(password="wrong")).status_code == 403
    assert (await jane.sign_in()).status_code == 429
    assert await try_at_a_new_device(web, address="127.0.0.1") == 303
    web.wait(1 / FAILURES_PER_SECOND)
    assert (await jane.sign_in()).status_code == 303


async def test_a_device_is_known_for_its_own_users_only(web: Web, jane: Browser) -> None:
    await user(web, email=JOHN)
    async with browser(web) as john:
        await john.sign_in(JOHN)
        await strangers_fail(web)
        assert (await john.sign_in(JANE)).status_code == 429
        assert (await john.sign_in(JOHN)).status_code == 303
    assert (await jane.sign_in(JOHN)).status_code == 429
    web.wait(1 / FAILURES_PER_SECOND)
    assert (await jane.sign_in(JOHN)).status_code == 303  # both use this browser from now on
    await strangers_fail(web)
    for email in (JANE, JOHN, JANE):
        assert (await jane.sign_in(email)).status_code == 303


@pytest.mark.parametrize("change", ["password", "disabled", "old"])
async def test_a_device_is_forgotten(web: Web, jane: Browser, change: str) -> None:
    async with web.service.engine.begin() as connection:
        if change == "disabled":
            await users.disable_user(connection, JANE, actor="test")
        if change != "old":
            await users.set_password(connection, JANE, PASSWORD, actor="test")
    if change == "old":
        await web.service.execute(
            "UPDATE devices SET signed_in_at = now() - CAST(:it AS interval)", it=devices.LASTS
        )
    web.wait()
    await strangers_fail(web)
    assert (await jane.sign_in()).status_code == 429
    web.wait(1 / FAILURES_PER_SECOND)
    assert (await jane.sign_in()).status_code == 303
    [row] = await web.service.rows(
        "SELECT signed_in_at > now() - interval '1 hour' AS it FROM devices"
    )
    assert row["it"]


async def test_the_device_cookie_lasts_and_only_its_hash_is_stored(web: Web) -> None:
    await user(web)
    for scheme, name, secure in (("http", "", ""), ("https", "__Host-", "; Secure")):
        async with browser(web, scheme) as visitor:
            _, cookie = (await visitor.sign_in()).headers.get_list("set-cookie")
            assert cookie == (
                f"{name}crm-device={visitor.device}; HttpOnly; Max-Age=15552000; Path=/;"
                f" SameSite=strict{secure}"
            )
            assert len(visitor.device) >= 256 / 6
            assert visitor.device not in str(await web.service.rows("SELECT * FROM devices"))
            first = visitor.device
            await visitor.post("/sign-out", data={"csrf": await visitor.csrf()})
            assert visitor.device == first
            await visitor.sign_in()
            assert visitor.device != first  # so that a planted one is not kept


async def test_a_user_has_a_limited_number_of_devices(web: Web, jane: Browser) -> None:
    async with web.service.engine.begin() as connection:
        [user_id] = (await connection.execute(text("SELECT id FROM users"))).scalars()
        for _ in range(devices.MOST):
            await devices.remember(connection, None, user_id)
            await connection.execute(
                text("UPDATE devices SET signed_in_at = signed_in_at - interval '1 second'")
            )
    web.wait()
    assert len(await web.service.rows("SELECT 1 FROM devices")) == devices.MOST
    await strangers_fail(web)
    assert (await jane.sign_in()).status_code == 429  # Jane's first one is forgotten


async def test_wrong_keys_and_other_requests_do_not_keep_anybody_from_signing_in(
    empty_service: Service,
) -> None:
    async with serve(empty_service, rate_limit_per_second=0.01, rate_limit_burst=5) as web:
        web.app.include_router(pages)
        await user(web)
        async with browser(web) as stranger, browser(web) as jane:
            for _ in range(int(WRONG_KEYS_AT_ONCE)):
                wrong = await stranger.get(STATISTICS, headers={"x-api-key": "x"})
                assert wrong.status_code == 401
            wrong = await stranger.get(STATISTICS, headers={"x-api-key": "x"})
            assert wrong.status_code == 429
            statuses = [(await stranger.get(STATISTICS)).status_code for _ in range(6)]
            assert statuses == [401] * 5 + [429]
            assert (await jane.get("/sign-in")).status_code == 200
            assert (await jane.sign_in()).status_code == 303
            statuses = [(await stranger.get("/sign-in")).status_code for _ in range(4)]
            assert statuses == [200] * 3 + [429]
            jane.http.cookies.delete("crm-session")
            assert (await jane.get("/sign-in")).status_code == 200  # a known device
            assert (await jane.sign_in()).status_code == 303


@pytest.fixture
def hashing_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let every password of a stranger take until the event is set."""
    verify, may_go_on = passwords._verify, threading.Event()

    def slowly(password: str, password_hash: str) -> bool:
        if password == "a stranger's":
            may_go_on.wait(60)
        return verify(password, password_hash)

    monkeypatch.setattr(passwords, "_verify", slowly)
    yield may_go_on
    may_go_on.set()


async def test_a_known_device_does_not_wait_for_300_strangers(
    web: Web, jane: Browser, hashing_waits: threading.Event
) -> None:
    answers: list[tuple[str, int]] = []

    async def try_as_stranger(number: int) -> None:
        address = f"192.0.{number % 30}.{number}"
        async with browser(web, address=address) as stranger:
            answer = await stranger.sign_in(f"{number}@example.com", "a stranger's")
            answers.append(("stranger", answer.status_code))
            if answer.status_code == 503:
                assert answer.headers["retry-after"] == "3"
                assert "Very many people are signing in" in words(answer)

    refused = 300 - HASHED_AT_ONCE - WAITING

    async def all_others_are_refused() -> bool:
        return len(answers) == refused

    async with asyncio.TaskGroup() as group:
        for number in range(300):
            group.create_task(try_as_stranger(number))
        await until(all_others_are_refused)
        assert set(answers) == {("stranger", 503)}
        answers.append(("jane", (await jane.sign_in()).status_code))
        assert await try_at_a_new_device(web) == 503
        assert (await jane.get("/pages/read")).status_code == 200
        hashing_waits.set()
    assert answers[refused] == ("jane", 303)
    assert answers[refused + 1 :] == [("stranger", 403)] * (HASHED_AT_ONCE + WAITING)
    assert await try_at_a_new_device(web) == 303


async def test_the_audit_tells_the_network_of_each_sign_in(web: Web) -> None:
    await user(web, Role.VIEWER)
    async with browser(web, address="192.0.2.7") as stranger:
        assert (await stranger.sign_in(password="wrong")).status_code == 403
    await try_at_a_new_device(web, address="2001:db8:1:2:3::4")
    async with browser(web, address="192.0.2.7") as visitor:
        forwarded = {"x-forwarded-for": "203.0.113.1"}  # by a proxy that is not trusted
        fields = {"email": JANE, "password": PASSWORD}
        await visitor.post("/sign-in", data=fields, headers=forwarded)
    rows = await web.service.rows(
        "SELECT action, details - 'user' AS details FROM audit WHERE action LIKE '%sign%'"
        " ORDER BY id"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("user.sign-in-failed", {"network": "192.0.2.0/24"}),
        ("user.signed-in", {"network": "2001:db8:1:2::/64"}),
        ("user.signed-in", {}),
    ]
