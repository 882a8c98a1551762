"""Faults of Redis."""

import asyncio
import contextlib
import random
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from redis.exceptions import OutOfMemoryError

from tests.system.chaos.faults.registry import fault
from tests.system.chaos.publishers import STREAM
from tests.system.chaos.stage import AWAY, BOUND_SECONDS, Stage
from tests.wait import until

AOF = "appendonlydir"


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
        now = await stage.redis.xinfo_stream(STREAM)
        return bool(now["entries-added"] > added + 50)

    def go_back(data: Path) -> None:
        shutil.rmtree(data / AOF)
        copy.rename(data / AOF)

    await until(has_moved_on, BOUND_SECONDS)
    await stage.servers.redis.restart(go_back)
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
