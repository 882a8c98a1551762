"""Local mode: without credentials, only this machine is served, and no foreign pages."""

import logging
from pathlib import Path

import httpx
import pytest

from service.config import Config, ConfigError
from service.core.scopes import LOCAL, Scope
from service.db.accounts import api_keys
from service.http.auth.local_mode import is_loopback, refuse_open_door
from tests.conftest import Service
from tests.integration.http.auth.conftest import EVERYWHERE, STATISTICS, Web, assert_problem, serve
from tests.processes import HOST, free_port, processes
from tests.wait import PATIENCE


async def test_this_machine_may_do_everything_and_each_answer_names_local_mode(
    empty_service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "service"):
        async with serve(empty_service) as web:
            for scope in Scope:
                answer = await web.probe(scope)
                assert (answer.status_code, answer.json()) == (200, LOCAL.name)
                assert answer.headers["x-crm-mode"] == "local-without-sign-in"
            assert (await web.http.get("/livez")).headers["x-crm-mode"] == "local-without-sign-in"
    assert "NO SIGN-IN" in caplog.text
    assert "crm keys create" in caplog.text


_KEY = "INSERT INTO api_keys (id, name, secret_hash, scopes) VALUES ('a', 'a', '\\x00', '{read}')"
_USER = "INSERT INTO users (email, email_key, password_hash, role) VALUES ('a', 'a', 'x', 'admin')"


@pytest.mark.parametrize(
    ("made", "gone"),
    [
        (_KEY, "UPDATE api_keys SET revoked_at = now()"),
        (_KEY, "UPDATE api_keys SET expires_at = now()"),
        (_KEY, "DELETE FROM api_keys"),
        (_KEY, "TRUNCATE api_keys"),
        (_USER, "UPDATE users SET disabled_at = now()"),
        (_USER, "DELETE FROM users"),
        (_USER, "TRUNCATE users, api_keys, sessions, devices, audit RESTART IDENTITY"),
        (_USER, "WITH gone AS (DELETE FROM users) DELETE FROM installation"),
    ],
)
async def test_local_mode_ends_for_good_with_the_first_credential(
    empty_service: Service, made: str, gone: str
) -> None:
    """It does not matter who makes the credential, nor how it goes."""
    async with serve(empty_service) as web:
        assert (await web.probe(Scope.ADMIN)).status_code == 200
        [salt] = await web.service.rows("SELECT * FROM installation")
        await web.service.execute(made)
        web.wait()
        answer = await web.probe(Scope.ADMIN)
        assert_problem(answer, 401)
        assert "x-crm-mode" not in answer.headers
        await web.service.execute(gone)
        try:
            web.wait()
            answer = await web.probe(Scope.ADMIN)
            assert_problem(answer, 401, "Nobody can get in", "crm users add EMAIL --role admin")
            async with serve(empty_service) as restarted:
                assert_problem(await restarted.probe(Scope.READ), 401, "Nobody can get in")
        finally:
            await web.service.execute(
                "INSERT INTO installation (salt, salt_digest)"
                " VALUES (CAST(:salt AS bytea), sha256(:salt)) ON CONFLICT DO NOTHING",
                salt=salt["salt"],
            )


async def test_rows_that_came_without_the_trigger_end_local_mode_too(web: Web) -> None:
    """As after a restore that loads a table without running triggers."""
    await web.service.execute(_USER)
    await web.service.execute("UPDATE installation SET sign_in_since = NULL")
    web.wait()
    assert_problem(await web.probe(Scope.READ), 401)


async def test_when_nobody_can_get_in_the_log_and_the_sign_in_page_say_so(
    empty_service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    await empty_service.execute(_USER)
    await empty_service.execute("UPDATE users SET disabled_at = now()")
    async with serve(empty_service) as web:
        assert "NOBODY CAN GET IN" in caplog.text
        assert "NO SIGN-IN" not in caplog.text
        shown = await web.http.get("/sign-in", headers={"sec-fetch-site": "none"})
        assert "Nobody can sign in" in shown.text
        assert "crm users set-password" in shown.text
        key = await web.key(Scope.READ)
        assert (await web.probe(Scope.READ, headers=key.headers)).status_code == 200
        answer = await web.probe(Scope.READ)
        assert_problem(answer, 401, "crm keys create")
        assert "Nobody" not in answer.text


async def test_a_wrong_key_is_refused_in_local_mode_too(web: Web) -> None:
    answer = await web.http.get(STATISTICS, headers={"x-api-key": "crm_aaaaaaaa_" + "a" * 43})
    assert_problem(answer, 401)


async def test_other_machines_are_refused_in_local_mode(empty_service: Service) -> None:
    async with serve(empty_service, client=("192.0.2.1", 1)) as web:
        assert_problem(await web.probe(Scope.READ), 401)
    async with serve(empty_service, http_host=EVERYWHERE) as web:
        assert_problem(await web.probe(Scope.READ), 401)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8080", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("[::1]", 200),
        ("evil.example", 403),
        ("evil.example:8080", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost@evil.example", 403),
        ("192.0.2.1", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
async def test_a_foreign_host_name_that_resolves_here_is_refused(
    web: Web, host: str, status: int
) -> None:
    answer = await web.http.get(STATISTICS, headers={"host": host})
    assert answer.status_code == status
    if status == 403:
        assert_problem(answer, 403, "localhost")
    key = await web.key(Scope.READ)
    answer = await web.http.get(STATISTICS, headers={"host": host, **key.headers})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"sec-fetch-site": "same-origin", "origin": "http://localhost"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"origin": "http://localhost"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site", "origin": "http://localhost:3000"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://localhost:3000"}, 403),
        ({"origin": "null"}, 403),
    ],
)
async def test_pages_of_other_origins_may_not_change_anything(
    web: Web, headers: dict[str, str], status: int
) -> None:
    answer = await web.probe(Scope.WRITE, headers=headers)
    assert answer.status_code == status, answer.text
    assert (await web.probe(Scope.READ, headers=headers)).status_code == 200


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "192.0.2.1", "crm.example", "::ffff:192.0.2.1"])
async def test_the_service_refuses_to_start_on_other_addresses_without_a_credential(
    empty_service: Service, host: str
) -> None:
    config = empty_service.config.model_copy(update={"http_host": host})
    with pytest.raises(ConfigError, match="crm keys create"):
        await refuse_open_door(config)
    async with empty_service.engine.begin() as connection:
        await api_keys.create_key(connection, "a", [Scope.READ], actor="test")
    await refuse_open_door(config)


async def test_the_service_starts_on_any_address_while_the_database_is_away() -> None:
    away = Config(database_url="postgresql://crm:x@127.0.0.1:1/crm")
    await refuse_open_door(away)
    await refuse_open_door(away.model_copy(update={"http_host": EVERYWHERE}))
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost", "::ffff:127.0.0.1")))


async def test_a_real_process_is_open_to_other_machines_only_with_a_credential(
    empty_service: Service, tmp_path: Path
) -> None:
    async with processes(empty_service.servers, tmp_path) as start:
        port = free_port()
        refused = start.start(
            ["-m", "service.cli", "web"], port, http_port=port, http_host=EVERYWHERE
        )
        assert await refused.ended() == 2
        assert refused.output.startswith("crm: CRM_HTTP_HOST=0.0.0.0")
        assert "crm keys create" in refused.output
        assert "Traceback" not in refused.output
        local = await start.web()
        assert "NO SIGN-IN" in local.output
        assert (await local.ask(STATISTICS))[0] == 200

        async with empty_service.engine.begin() as connection:
            made = await api_keys.create_key(connection, "a", [Scope.READ], actor="test")
        await local.terminate()
        open_to_all = await start.web(http_host=EVERYWHERE)
        url = f"http://{HOST}:{open_to_all.port}{STATISTICS}"
        async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as http:
            params = {"period": "jane@example.com"}
            assert (await http.get(url)).status_code == 401
            headers = {"x-api-key": made.reveal(), "x-request-id": "my-id"}
            answer = await http.get(url, headers=headers)
            assert (answer.status_code, answer.headers["x-request-id"]) == (200, "my-id")
            assert (await http.get(url, params=params, headers=headers)).status_code == 422
        await open_to_all.terminate()
        assert f"key:{made.id} my-id" in open_to_all.output
        assert "GET /api/v1/statistics 200" in open_to_all.output
        assert "jane" not in open_to_all.output
        assert made.reveal()[13:] not in open_to_all.output
        assert "NO SIGN-IN" not in open_to_all.output
