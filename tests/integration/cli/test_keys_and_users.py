"""``crm keys`` and ``crm users``."""

import asyncio
import re
from collections.abc import Awaitable, Callable

import pytest
from typer.testing import CliRunner, Result

from service.cli.main import app
from service.core.scopes import Role
from service.core.tokens import ApiKey
from service.db.accounts import users
from tests.conftest import Service
from tests.processes import environment

Run = Callable[..., Awaitable[Result]]
PASSWORD = "correct horse battery"


@pytest.fixture
def run(empty_service: Service) -> Run:
    """Return a function that runs a command on the servers of the test."""
    env = environment(empty_service.servers)

    async def invoke(*arguments: str, typed: str = "") -> Result:
        # In another thread, because a command starts its own event loop.
        return await asyncio.to_thread(
            lambda: CliRunner().invoke(app, list(arguments), input=typed, env=env)
        )

    return invoke


async def test_a_key_is_shown_once(empty_service: Service, run: Run) -> None:
    made = await run("keys", "create", "web shop", "--scope", "read", "--scope", "write")
    assert made.exit_code == 0, made.output
    key = ApiKey.parse(made.stdout.strip())
    assert key
    assert "first credential" in made.stderr
    again = await run("keys", "create", "other", "--scope", "admin", "--expires", "90d")
    assert "first credential" not in again.stderr
    listed = await run("keys", "list")
    assert re.search(rf"{key.id}.*web shop.*read write.*never.*never.*valid", listed.stdout)
    assert re.search(r"other.*admin.*\d{4}-\d\d-\d\d.*never.*valid", listed.stdout)
    assert made.stdout.strip()[13:] not in listed.stdout
    [row, _] = await empty_service.rows("SELECT * FROM api_keys ORDER BY date_created")
    assert row["secret_hash"] == key.digest
    [days] = await empty_service.rows(
        "SELECT round(extract(epoch FROM expires_at - now()) / 86400) AS d"
        " FROM api_keys WHERE name = 'other'"
    )
    assert days["d"] == 90
    actors = await empty_service.rows("SELECT DISTINCT split_part(actor, ':', 1) AS a FROM audit")
    assert actors == [{"a": "cli"}]


async def test_a_key_is_revoked_once(run: Run) -> None:
    made = await run("keys", "create", "a", "--scope", "read")
    key_id = made.stdout[4:12]
    revoked = await run("keys", "revoke", key_id)
    assert (revoked.exit_code, revoked.stdout) == (0, f"revoked {key_id}\n")
    assert "Nobody can sign in or use the API any more" in revoked.stderr
    assert "revoked" in (await run("keys", "list")).stdout
    for unknown in (key_id, "aaaaaaaa"):
        again = await run("keys", "revoke", unknown)
        assert again.exit_code == 1
        assert f"no key {unknown}" in again.stderr


@pytest.mark.parametrize("expires", ["soon", "0d", "90", "2020-01-01", "99999d9", "2026-13-01"])
async def test_an_expiry_must_be_a_known_form_and_in_the_future(run: Run, expires: str) -> None:
    made = await run("keys", "create", "a", "--scope", "read", "--expires", expires)
    assert made.exit_code == 2
    assert "Invalid value" in made.stderr


@pytest.mark.parametrize("expires", ["12h", "2150-01-01", "2150-01-01T00:00:00+02:00"])
async def test_an_expiry_has_three_forms(run: Run, expires: str) -> None:
    made = await run("keys", "create", "a", "--scope", "read", "--expires", expires)
    assert made.exit_code == 0, made.output


async def test_a_key_needs_a_scope_and_a_known_one(run: Run) -> None:
    assert (await run("keys", "create", "a")).exit_code == 2
    assert (await run("keys", "create", "a", "--scope", "all")).exit_code == 2


async def test_users_are_added_changed_and_disabled(empty_service: Service, run: Run) -> None:
    typed = f"{PASSWORD}\n"
    added = await run("users", "add", "Jane@x.org", "--role", "viewer", typed=typed)
    assert (added.exit_code, added.stdout) == (0, "added, as viewer\n"), added.output
    assert "first credential" in added.stderr
    again = await run("users", "add", "jane@x.org", "--role", "viewer", typed=typed)
    assert (again.exit_code, "exists already" in again.stderr) == (1, True)
    assert (await run("users", "set-role", "jane@x.org", "--role", "admin")).exit_code == 0
    listed = (await run("users", "list")).stdout
    assert re.search(r"Jane@x.org.*admin.*never.*enabled", listed)
    async with empty_service.engine.begin() as connection:
        user = await users.verify_password(connection, "jane@x.org", PASSWORD)
        assert user
        assert user.role is Role.ADMIN
    disabled = await run("users", "disable", "jane@x.org")
    assert (disabled.exit_code, disabled.stdout) == (0, "disabled jane@x.org\n")
    assert "Nobody can sign in or use the API any more" in disabled.stderr
    assert "disabled" in (await run("users", "list")).stdout
    changed = await run("users", "set-password", "jane@x.org", typed="another password\n")
    assert changed.exit_code == 0
    async with empty_service.engine.begin() as connection:
        assert await users.verify_password(connection, "jane@x.org", "another password")


async def test_a_mistake_is_answered_with_one_sentence(run: Run) -> None:
    for typed, answer in {
        "short": "12 to 1,024",
        "password1234": "easy to guess: this is a very common password. Three or four words",
        "a@x.orga@x.org": "easy to guess",
    }.items():
        refused = await run("users", "add", "a@x.org", "--role", "viewer", typed=f"{typed}\n")
        assert refused.exit_code == 1
        assert answer in refused.stderr.replace("\n", " ")
    unknown = await run("users", "disable", "a@x.org")
    assert (unknown.exit_code, "no such user" in unknown.stderr) == (1, True)
    for arguments in (("add", "jane", "--role", "viewer"), ("add", "a@x.org", "--role", "boss")):
        assert (await run("users", *arguments, typed=f"{PASSWORD}\n")).exit_code == 2


async def test_a_database_that_is_away_is_reported_in_one_sentence(
    empty_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(empty_service.servers).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CRM_DATABASE_URL", "postgresql://crm:x@127.0.0.1:1/crm")
    result = await asyncio.to_thread(lambda: CliRunner().invoke(app, ["keys", "list"]))
    assert result.exit_code == 1
    assert result.stderr.startswith("crm: a server does not answer")
