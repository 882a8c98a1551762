"""When the parent stops or is killed, no process is left, and the folder works again."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import psutil
import pytest

from service.local.folder import DataFolder
from service.local.launch import birth
from service.local.stack import LocalStack
from tests.system.local.stack_processes import Parent, processes_in, wait_until

NOBODY = 65534


def _sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["/bin/sleep", "60"])


async def _write(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE kept AS SELECT 7 AS seven")
    await connection.close()


async def test_sigterm_stops_everything_in_order(data_dir: Path) -> None:
    parent = Parent("stack", data_dir)
    await parent.ready()
    parent.process.terminate()
    assert await parent.ended() == 0
    assert not processes_in(data_dir)
    assert not (data_dir / "postgres" / "postmaster.pid").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs the parent-death signal")
async def test_a_killed_parent_leaves_no_orphan(data_dir: Path) -> None:
    parent = Parent("stack", data_dir)
    urls = await parent.ready()
    await _write(urls["database"])
    assert len(processes_in(data_dir)) > 2
    parent.process.kill()
    await parent.ended()
    await wait_until(lambda: not processes_in(data_dir))
    async with LocalStack(data_dir) as stack:
        assert stack.database_url == urls["database"]


async def test_a_start_succeeds_right_after_everything_was_killed(data_dir: Path) -> None:
    parent = Parent("stack", data_dir)
    urls = await parent.ready()
    await _write(urls["database"])
    parent.process.kill()
    for pid in processes_in(data_dir) - {parent.process.pid}:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    await parent.ended()
    async with LocalStack(data_dir) as stack:
        connection = await asyncpg.connect(stack.database_url)
        assert await connection.fetchval("SELECT seven FROM kept") == 7
        await connection.close()


async def test_a_start_succeeds_while_the_old_servers_still_stop(data_dir: Path) -> None:
    parent = Parent("stack", data_dir)
    urls = await parent.ready()
    parent.process.kill()
    await parent.ended()
    async with LocalStack(data_dir) as stack:
        assert stack.database_url == urls["database"]


async def test_orphans_are_stopped_and_other_processes_are_not(data_dir: Path) -> None:
    with _sleeper() as orphan, _sleeper() as stranger:
        note = {"signal": int(signal.SIGTERM), "grace": 5.0}
        for name, process, born in (
            ("orphan", orphan, birth(orphan.pid)),
            ("stranger", stranger, "another boot/1"),
        ):
            file = data_dir / "run" / f"{name}.pid"
            file.write_text(json.dumps({**note, "pid": process.pid, "birth": born}))
        (data_dir / "run" / "torn.pid").write_text('{"pid": 1')
        reports: list[str] = []
        folder = DataFolder(data_dir, reports.append)
        try:
            await folder.reap()
        finally:
            folder.close()
        assert orphan.poll() == -signal.SIGTERM
        assert stranger.poll() is None
        stranger.kill()
    assert reports == [f"stopping orphan of an earlier run (process {orphan.pid})"]
    assert not list((data_dir / "run").glob("*.pid"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_an_ordinary_user_can_run_the_stack(data_dir: Path) -> None:
    prefix = _as_nobody()
    # Below /tmp itself: the folders that pytest makes are closed to other users.
    folder = Path("/tmp") / f"crm-{os.getpid()}" / "data"  # noqa: S108
    shutil.copytree(data_dir, folder)
    try:
        for file in (folder.parent, *folder.parent.rglob("*")):
            os.chown(file, NOBODY, NOBODY)
        parent = Parent("stack", folder, prefix=(*prefix, sys.executable))
        await _write((await parent.ready())["database"])
        owners = {psutil.Process(pid).uids().real for pid in processes_in(folder)}
        assert owners == {NOBODY}
        parent.process.kill()
        await parent.ended()
        await wait_until(lambda: not processes_in(folder))
    finally:
        shutil.rmtree(folder.parent)


_PROBE = """
import subprocess, sys
import service.local.stack
subprocess.run([sys.executable, "-c", "import service.local.launch"], check=True)
"""


def _as_nobody() -> tuple[str, ...]:
    """Return the prefix of a command that runs it as nobody; skip if nobody cannot run Python."""
    prefix = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    # Without the capability to read everything, an interpreter in root's home is out of reach.
    reading = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    for candidate in (prefix, (*prefix, *reading)):
        command = [*candidate, sys.executable, "-c", _PROBE]
        try:
            done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
        except FileNotFoundError:
            break
        if done.returncode == 0:
            return candidate
    pytest.skip(f"{sys.executable} cannot be run as another user")
