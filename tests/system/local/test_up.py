"""``crm up`` as a process: its output, its state file, and how it ends."""

import os
import signal
import socket
import stat
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from service.local.state import read_state
from service.server_urls import masked
from tests.system.local.stack_processes import Parent, processes_in, wait_until


def _reported(lines: list[str]) -> list[str]:
    """Return what ``crm up`` reported, without what the test itself prints."""
    return [line for line in lines if not line.startswith("URLS ")]


async def test_up_starts_everything_and_stops_it(data_dir: Path) -> None:
    parent = Parent("up", data_dir, env={**os.environ, "CRM_HTTP_PORT": "0"})
    urls = await parent.ready()
    lines = parent.output.splitlines()
    assert [line.split()[0] for line in lines[:6]] == [
        "postgres",
        "valkey",
        "migrating",
        "schema",
        "worker",
        "web",
    ]
    assert lines[2] == "migrating postgresql+asyncpg"
    assert lines[6:9] == [urls["http"], masked(urls["redis"]), masked(urls["database"])]
    assert "Ctrl-C" in lines[9]
    passwords = {urlsplit(urls[server]).password or "" for server in ("redis", "database")}
    assert not any(password in line for line in _reported(lines) for password in passwords)
    state = read_state(data_dir)
    assert state
    assert state.http_url == urls["http"]
    assert state.database_url == urls["database"]
    assert state.pid == parent.process.pid
    assert set(state.parts) == {"postgres", "valkey", "worker", "web"}
    private = [data_dir / "stack.json", *(data_dir / "log").iterdir()]
    assert {stat.S_IMODE(file.stat().st_mode) for file in private} == {0o600}
    assert {stat.S_IMODE((data_dir / name).stat().st_mode) for name in ("log", "run")} == {0o700}
    parent.process.send_signal(signal.SIGINT)
    assert await parent.ended() == 0
    assert not processes_in(data_dir)
    assert not (data_dir / "stack.json").exists()


async def test_a_killed_part_comes_back_and_all_parts_end_with_a_killed_parent(
    data_dir: Path,
) -> None:
    parent = Parent("up", data_dir, env={**os.environ, "CRM_HTTP_PORT": "0"})
    await parent.ready()
    before = read_state(data_dir)
    assert before
    worker = before.parts["worker"]["pid"]
    assert worker
    os.kill(worker, signal.SIGKILL)
    await wait_until(lambda: "worker    is back" in parent.output)
    after = read_state(data_dir)
    assert after
    assert after.parts["worker"]["pid"] not in {worker, None}
    assert after.parts["web"] == before.parts["web"]
    parent.process.kill()
    await parent.ended()
    assert (data_dir / "stack.json").exists()
    assert read_state(data_dir) is None
    await wait_until(lambda: not processes_in(data_dir))


async def test_a_second_signal_shortens_the_stop(data_dir: Path) -> None:
    env = {**os.environ, "CRM_HTTP_PORT": "0", "DEAF_PART": "worker", "CRM_DRAIN_SECONDS": "600"}
    parent = Parent("up", data_dir, env=env)
    await parent.ready()
    parent.process.terminate()
    await wait_until(lambda: "stopping" in parent.output)
    parent.process.terminate()
    assert await parent.ended() == 0
    assert not processes_in(data_dir)


async def test_urls_in_the_settings_replace_the_servers(data_dir: Path) -> None:
    given = {
        "CRM_DATABASE_URL": "postgresql://user:secret@database.example/crm",
        "CRM_REDIS_URL": "redis://redis.example:6379/0",
        "CRM_HTTP_PORT": "0",
    }
    parent = Parent("up", data_dir, env={**os.environ, **given})
    urls = await parent.ready()
    assert urls["database"] == given["CRM_DATABASE_URL"]
    assert urls["redis"] == given["CRM_REDIS_URL"]
    lines = parent.output.splitlines()
    assert [line.partition(" (CRM_")[0] for line in lines[:2]] == [
        "postgres  given   postgresql://user:***@database.example/crm",
        "redis     given   redis://redis.example:6379/0",
    ]
    assert not any("secret@" in line for line in _reported(lines))
    state = read_state(data_dir)
    assert state
    assert set(state.parts) == {"worker", "web"}
    parent.process.terminate()
    assert await parent.ended() == 0


@pytest.mark.parametrize("explicit", [True, False])
async def test_a_taken_http_port_is_an_error_only_if_it_was_set(
    data_dir: Path, *, explicit: bool
) -> None:
    env = {k: v for k, v in os.environ.items() if k != "CRM_HTTP_PORT"}
    with socket.create_server(("127.0.0.1", 0 if explicit else 8080)) as taken:
        port = taken.getsockname()[1]
        if explicit:
            env["CRM_HTTP_PORT"] = str(port)
        parent = Parent("up", data_dir, env=env)
        if explicit:
            assert await parent.ended() == 1
            assert f"port {port} on 127.0.0.1 is taken" in parent.output
            assert "CRM_HTTP_PORT" in parent.output
        else:
            other = urlsplit((await parent.ready())["http"]).port
            assert f"port 8080 is taken: web now listens on {other}" in parent.output
            parent.process.terminate()
            assert await parent.ended() == 0
    assert not processes_in(data_dir)
