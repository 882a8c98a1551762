"""API keys: which ones are accepted, and how soon a change takes effect."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from service.core.scopes import Scope
from service.db.accounts import api_keys
from tests.conftest import Service
from tests.integration.http.auth.conftest import (
    EVERYWHERE,
    PROBES,
    STATISTICS,
    Web,
    assert_problem,
    serve,
    tampered,
)
from tests.wait import until


@pytest.mark.parametrize("granted", Scope)
async def test_a_scope_opens_what_needs_it_and_nothing_else(web: Web, granted: Scope) -> None:
    key = await web.key(granted, name="analytics")
    for needed in Scope:
        answer = await web.probe(needed, headers=key.headers)
        if needed is granted:
            assert (answer.status_code, answer.json()) == (200, "analytics")
        else:
            assert_problem(answer, 403, f"`{needed}`")
    real = await web.http.get(STATISTICS, headers=key.headers)
    assert real.status_code == (200 if granted is Scope.READ else 403)
    assert (await web.http.get("/metrics", headers=key.headers)).status_code == real.status_code


async def test_a_key_may_have_several_scopes_and_come_in_either_header(web: Web) -> None:
    key = await web.key(Scope.READ, Scope.ADMIN)
    for headers in (key.headers, {"x-api-key": key.text}, {"authorization": f"bearer {key.text}"}):
        assert (await web.probe(Scope.READ, headers=headers)).status_code == 200
        assert (await web.probe(Scope.ADMIN, headers=headers)).status_code == 200
        assert (await web.probe(Scope.EXPORT, headers=headers)).status_code == 403


async def test_only_probes_and_documentation_answer_without_a_key(web: Web) -> None:
    await web.key(Scope.READ)
    for scope in PROBES:
        assert_problem(await web.probe(scope), 401)
    assert_problem(await web.http.get(STATISTICS), 401)
    assert_problem(await web.http.get("/metrics"), 401)
    for path in ("/livez", "/readyz", "/docs", "/openapi.json"):
        answer = await web.http.get(path)
        assert answer.status_code == 200
        assert "x-crm-mode" not in answer.headers


async def test_every_wrong_key_gets_the_same_answer(
    empty_service: Service,
) -> None:
    async with serve(empty_service) as web:
        key = await web.key(Scope.READ)
        now = datetime.now(UTC)
        expired = await web.key(Scope.READ, expires=now - timedelta(microseconds=1))
        revoked = await web.key(Scope.READ)
        async with empty_service.engine.begin() as connection:
            assert await api_keys.revoke_key(connection, revoked.id, actor="test")
        wrong = [*tampered(key.text), expired.text, revoked.text]
        headers: list[dict[str, str]] = [
            *({"authorization": f"Bearer {text}"} for text in wrong),
            *({"x-api-key": text} for text in wrong),
            {"authorization": key.text},
            {"authorization": f"Basic {key.text}"},
            {"authorization": "Bearer"},
            {"authorization": ""},
            {"x-api-key": "", "authorization": f"Bearer {key.text}"},
        ]
        bodies = set()
        for wrong_headers in headers:
            web.wait(100)  # wrong keys are limited
            answer = await web.http.get(
                STATISTICS, headers=httpx.Headers(wrong_headers, encoding="utf-8")
            )
            assert_problem(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
            bodies.add(answer.content)
        assert bodies == {(await web.http.get(STATISTICS)).content}
        assert (await web.http.get(STATISTICS, headers=key.headers)).status_code == 200


async def test_an_expired_key_is_refused(web: Web) -> None:
    key = await web.key(Scope.READ, expires=datetime.now(UTC) + timedelta(hours=1))
    assert (await web.probe(Scope.READ, headers=key.headers)).status_code == 200
    await web.service.execute("UPDATE api_keys SET expires_at = now()")
    web.wait()
    assert_problem(await web.probe(Scope.READ, headers=key.headers), 401)


async def test_a_revoked_key_is_refused_once_the_cache_forgets_it(web: Web) -> None:
    await web.key(Scope.READ)
    key = await web.key(Scope.READ)
    assert (await web.probe(Scope.READ, headers=key.headers)).status_code == 200
    async with web.service.engine.begin() as connection:
        assert await api_keys.revoke_key(connection, key.id, actor="test")
        assert not await api_keys.revoke_key(connection, key.id, actor="test")
    assert (await web.probe(Scope.READ, headers=key.headers)).status_code == 200
    web.wait(5)
    assert_problem(await web.probe(Scope.READ, headers=key.headers), 401)


async def test_an_expired_key_does_not_bring_local_mode_back(web: Web) -> None:
    await web.key(Scope.READ, expires=datetime.now(UTC) - timedelta(days=1))
    assert_problem(await web.probe(Scope.READ), 401)


async def test_the_last_use_is_written_once_an_hour(web: Web) -> None:
    key = await web.key(Scope.READ)

    async def last_use() -> datetime | None:
        async with web.service.engine.connect() as connection:
            return (await api_keys.list_keys(connection))[0].last_used_at

    assert await last_use() is None
    await web.probe(Scope.READ, headers=key.headers)
    await until(last_use)
    first = await last_use()
    web.wait(30)
    await web.probe(Scope.READ, headers=key.headers)
    assert not web.state.credentials._writes  # no note is being written
    await web.state.credentials.close()
    assert await last_use() == first
    async with web.service.engine.begin() as connection:  # as another process would
        await api_keys.touch_key(connection, key.id)
    assert await last_use() == first
    await web.service.execute("UPDATE api_keys SET last_used_at = now() - interval '61 minutes'")
    web.wait(31)
    await web.probe(Scope.READ, headers=key.headers)
    await web.state.credentials.close()
    assert first
    assert (await last_use() or first) > first


async def test_only_a_hash_is_stored_and_the_audit_names_the_key(web: Web) -> None:
    key = await web.key(Scope.WRITE, Scope.READ, name="shop")
    secret = key.text.split("_", 2)[2]
    for table in ("api_keys", "audit"):
        assert secret not in str(await web.service.rows(f"SELECT * FROM {table}"))
    assert await web.service.rows("SELECT actor, action, details FROM audit") == [
        {
            "actor": "test",
            "action": "key.created",
            "details": {
                "key": key.id,
                "name": "shop",
                "scopes": ["read", "write"],
                "expiresAt": None,
            },
        }
    ]


async def test_no_key_is_accepted_unchecked_while_the_database_is_away(web: Web) -> None:
    key = await web.key(Scope.READ)
    async with serve(
        web.service, database_url="postgresql+asyncpg://crm:x@127.0.0.1:1/crm"
    ) as away:
        for headers in ({}, key.headers):
            answer = await away.http.get(PROBES[Scope.READ], headers=headers)
            assert_problem(answer, 503)
            assert answer.headers["retry-after"] == "5"
        assert (await away.http.get("/docs")).status_code == 200
        assert (await away.http.get("/metrics")).status_code == 200
    async with serve(
        web.service,
        database_url="postgresql+asyncpg://crm:x@127.0.0.1:1/crm",
        http_host=EVERYWHERE,
    ) as away:
        assert_problem(await away.http.get("/metrics"), 503)
