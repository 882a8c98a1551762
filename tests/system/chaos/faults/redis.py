"""Faults of Redis."""

import asyncio
import contextlib
import random
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from redis.exceptions import OutOfMemoryError

from tests.system.chaos.disk import slow_fsync
from tests.system.chaos.faults.registry import fault
from tests.system.chaos.publishers import STREAM
from tests.system.chaos.stage import AWAY, BOUND_SECONDS, Stage
from tests.wait import until

AOF = "appendonlydir"
_SLOW_FSYNC_SECONDS = 3.0
"""Redis lets writes wait when an fsync takes longer than two seconds."""


def _without_aof(data: Path) -> None:
    shutil.rmtree(data / AOF)


@fault("redis killed, append-only file kept", "redis")
@contextlib.asynccontextmanager
async def killed(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    before = await stage.redis.xinfo_stream(STREAM)
    await stage.servers.redis.restart()
    after = await stage.redis.xinfo_stream(STREAM)
    assert after["entries-added"] >= before["entries-added"], "a crash must not lose entries"
    yield


@fault("redis restarted empty", "redis", loses=True)
@contextlib.asynccontextmanager
async def restarted_empty(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    await stage.servers.redis.restart(_without_aof)
    yield


@fault("redis restarted from an older copy", "redis", loses=True)
@contextlib.asynccontextmanager
async def restarted_older(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    data = stage.servers.redis.data
    copy = data / "older"
    added = (await stage.redis.xinfo_stream(STREAM))["entries-added"]
    await asyncio.to_thread(shutil.copytree, data / AOF, copy)

    async def has_moved_on() -> bool:
        """Return whether a check of the service has seen entries that the copy lacks."""
        try:
            rows = await stage.servers.sql("SELECT added FROM sightings WHERE stream = $1", STREAM)
        except AWAY:
            return False
        return bool(rows) and rows[0]["added"] > added + 50

    def go_back(data: Path) -> None:
        shutil.rmtree(data / AOF)
        copy.rename(data / AOF)

    await until(has_moved_on, BOUND_SECONDS)
    await stage.servers.redis.restart(go_back)
    yield


@fault("the disk of redis is slow", "redis", lasting=True)
@contextlib.asynccontextmanager
async def slow_disk(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    async def delayed() -> int:
        return int((await stage.redis.info("persistence"))["aof_delayed_fsync"])

    before = await delayed()

    async def writes_wait() -> bool:
        try:
            return await delayed() > before
        except AWAY:
            return False

    async with slow_fsync(stage.servers.redis.pid, _SLOW_FSYNC_SECONDS):
        await until(writes_wait, BOUND_SECONDS)
        yield


@fault("the clock of redis runs ahead and is set back", "redis")
@contextlib.asynccontextmanager
async def clock_set_back(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    async def seconds() -> float:
        return float((await stage.redis.time())[0])

    async with stage.servers.redis.clock.ahead(seconds):
        yield


@fault("redis flushed", "redis", loses=True)
@contextlib.asynccontextmanager
async def flushed(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    await stage.redis.flushall()
    yield


@fault("redis hangs", "redis", lasting=True)
@contextlib.asynccontextmanager
async def hangs(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    stage.servers.redis.send(signal.SIGSTOP)
    try:
        with contextlib.suppress(*AWAY):
            async with asyncio.timeout(0.5):
                await stage.redis.ping()
                raise AssertionError("it does not hang")
        yield
    finally:
        stage.servers.redis.send(signal.SIGCONT)


@fault("redis out of memory", "redis", lasting=True)
@contextlib.asynccontextmanager
async def out_of_memory(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    refused = stage.publishers.refused
    await stage.redis.config_set("maxmemory", 1)
    try:
        with contextlib.suppress(OutOfMemoryError):
            await stage.redis.xadd(STREAM, {"data": "no room"})
            raise AssertionError("it has room")

        async def are_refused() -> bool:
            return stage.publishers.refused > refused

        await until(are_refused, BOUND_SECONDS)
        yield
    finally:
        await stage.redis.config_set("maxmemory", 0)
