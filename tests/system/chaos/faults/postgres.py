"""Faults of Postgres."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg

from tests.system.chaos.disk import Disk, slow_fsync
from tests.system.chaos.faults.registry import fault
from tests.system.chaos.skipped import Skipped
from tests.system.chaos.stage import AWAY, BOUND_SECONDS, Stage
from tests.wait import until

_WORKERS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'crm worker'"
_FILLER_BYTES = 1_000_000
_SLOW_FSYNC_SECONDS = 0.25


async def _answers(stage: Stage) -> bool:
    try:
        return bool(await stage.servers.sql("SELECT 1"))
    except AWAY:
        return False


@fault("postgres killed", "postgres")
@contextlib.asynccontextmanager
async def killed(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    await stage.servers.postgres.restart()
    yield


@fault("postgres loses a backend to SIGKILL, and resets all", "postgres")
@contextlib.asynccontextmanager
async def backend_killed(stage: Stage, rng: random.Random) -> AsyncIterator[None]:
    witness = await stage.servers.connect()
    backends = [row["pid"] for row in await witness.fetch(_WORKERS)]
    os.kill(rng.choice(backends), signal.SIGKILL)

    async def is_reset() -> bool:
        return bool(witness.is_closed())

    await until(is_reset, BOUND_SECONDS)
    await until(lambda: _answers(stage), BOUND_SECONDS)
    yield


@fault("postgres ends the workers' sessions", "postgres")
@contextlib.asynccontextmanager
async def sessions_ended(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    query = _WORKERS.replace("SELECT pid", "SELECT pg_terminate_backend(pid)")
    assert await stage.servers.sql(query), "no worker was connected"
    yield


@fault("postgres hangs", "postgres", lasting=True)
@contextlib.asynccontextmanager
async def hangs(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    witness = await stage.servers.connect()
    stage.servers.postgres.send(signal.SIGSTOP)
    try:
        with contextlib.suppress(TimeoutError):
            await witness.fetch("SELECT 1", timeout=0.5)
            raise AssertionError("it does not hang")
        yield
    finally:
        stage.servers.postgres.send(signal.SIGCONT)
        witness.terminate()


@fault("postgres out of connections", "postgres", lasting=True)
@contextlib.asynccontextmanager
async def out_of_connections(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    taken: list[Any] = []

    async def take_all() -> None:
        with contextlib.suppress(asyncpg.TooManyConnectionsError):
            while True:
                taken.append(await stage.servers.connect())

    async def keep_all() -> None:
        while True:
            with contextlib.suppress(*AWAY):
                await take_all()
            await asyncio.sleep(0.05)

    try:
        await take_all()
        # Sessions that are connected stay so. End them, so that they have to queue for a new one.
        await taken[0].fetch(_WORKERS.replace("SELECT pid", "SELECT pg_terminate_backend(pid)"))
        keeper = asyncio.create_task(keep_all())
        yield
        keeper.cancel()
        await asyncio.wait([keeper])
        with contextlib.suppress(asyncpg.TooManyConnectionsError):
            taken.append(await stage.servers.connect())
            raise AssertionError("there was room for one more")
    finally:
        for connection in taken:
            connection.terminate()
        await until(lambda: _answers(stage), BOUND_SECONDS)


@fault("the disk of postgres is slow", "postgres", lasting=True)
@contextlib.asynccontextmanager
async def slow_disk(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    async with slow_fsync(stage.servers.postgres.pid, _SLOW_FSYNC_SECONDS):
        began = time.monotonic()
        await stage.servers.sql("SELECT pg_logical_emit_message(true, 'chaos', 'x', true)")
        assert time.monotonic() - began > _SLOW_FSYNC_SECONDS, "a commit is as fast as ever"
        yield


@fault("the clock of postgres runs ahead and is set back", "postgres")
@contextlib.asynccontextmanager
async def clock_set_back(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    async def seconds() -> float:
        rows = await stage.servers.sql("SELECT extract(epoch FROM clock_timestamp())::float8 AS s")
        return float(rows[0]["s"])

    async with stage.servers.postgres.clock.ahead(seconds):
        yield


def _disk(disk: Disk | None) -> Disk:
    if disk is None:
        raise Skipped("this system lets us mount no disk of our own")
    return disk


@fault("disk full under the data", "postgres", lasting=True)
@contextlib.asynccontextmanager
async def data_full(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    disk = _disk(stage.servers.data_disk)
    await stage.servers.sql("CREATE TABLE IF NOT EXISTS chaos_filler (bytes text)")
    disk.fill()
    try:
        with contextlib.suppress(asyncpg.DiskFullError):
            while True:
                await stage.servers.sql(
                    "INSERT INTO chaos_filler SELECT string_agg(md5(n::text), '')"
                    f" FROM generate_series(1, {_FILLER_BYTES // 32}) n"
                )
        yield
    finally:
        disk.free()
        await until(lambda: _answers(stage), BOUND_SECONDS)
        await stage.servers.sql("DROP TABLE chaos_filler")


@fault("disk full under the write-ahead log", "postgres", lasting=True)
@contextlib.asynccontextmanager
async def wal_full(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    disk = _disk(stage.servers.wal_disk)
    disk.fill()
    try:

        async def has_fallen() -> bool:
            try:
                # Use up the log segments that were prepared beforehand.
                await stage.servers.sql("SELECT pg_logical_emit_message(false, 'chaos', 'x')")
                await stage.servers.sql(
                    "SELECT pg_logical_emit_message(false, 'chaos', repeat('x', $1))", 8_000_000
                )
            except AWAY:
                return not await _answers(stage)
            return False

        await until(has_fallen, BOUND_SECONDS)
        yield
    finally:
        disk.free()
        # It may be down, about to be started, or failing to start.
        await stage.servers.postgres.restart()
