"""Faults of a worker."""

import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator

from tests.system.chaos import points
from tests.system.chaos.faults.registry import fault
from tests.system.chaos.publishers import STREAM
from tests.system.chaos.skipped import Skipped
from tests.system.chaos.stage import AWAY, BOUND_SECONDS, GROUP, Stage
from tests.wait import until

HOT_CUSTOMERS = 1000
_DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
_LEADER = """
SELECT a.pid, a.client_port FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.objid = x'43524d02'::int AND l.granted
"""


async def reach(stage: Stage, action: str, point: str) -> int:
    """Arm a point and wait until a worker reaches it; return its process id."""
    found: list[int] = []

    async def is_reached() -> bool:
        if pid := stage.points.reached(point):
            found.append(pid)
        return bool(found)

    stage.points.arm(action, point)
    await until(is_reached, BOUND_SECONDS)
    stage.crew.meant(found[0])
    return found[0]


def _killed_at(point: str) -> None:
    @fault(f"worker killed {point}", "worker")
    @contextlib.asynccontextmanager
    async def killed(stage: Stage, _: random.Random) -> AsyncIterator[None]:
        try:
            pid = await reach(stage, "kill", point)
        finally:
            stage.points.disarm()

        async def is_gone() -> bool:
            return stage.crew.status_of(pid) is not None

        await until(is_gone, BOUND_SECONDS)
        assert stage.crew.status_of(pid) == -signal.SIGKILL
        yield


for _point in points.KILL_POINTS:
    _killed_at(_point)


@fault("worker terminated under load", "worker")
@contextlib.asynccontextmanager
async def terminated(stage: Stage, rng: random.Random) -> AsyncIterator[None]:
    status = await stage.crew.terminate(rng.choice(stage.crew.workers))
    assert status == 0, f"a worker that is asked to stop ended with {status}"
    yield


@fault("worker hangs, its work is taken over, and it comes back", "worker")
@contextlib.asynccontextmanager
async def hangs(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    try:
        pid = await reach(stage, "stop", points.BEFORE_ACK)
    finally:
        stage.points.disarm()

    async def is_taken_over() -> bool:
        try:
            members = await stage.redis.xinfo_consumers(STREAM, GROUP)
        except AWAY:
            return False
        return not any(m["pending"] for m in members if f"-{pid}-".encode() in m["name"])

    try:
        await until(is_taken_over, BOUND_SECONDS)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@fault("two relays: one hangs before XADD, loses its lead, and comes back", "worker", "postgres")
@contextlib.asynccontextmanager
async def two_relays(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    try:
        pid = await reach(stage, "stop", points.BEFORE_ADD)
    finally:
        stage.points.disarm()
    try:
        (deposed,) = await stage.servers.sql(_LEADER)
        await stage.servers.sql("SELECT pg_terminate_backend($1)", deposed["pid"])

        async def another_leads() -> bool:
            try:
                leaders = await stage.servers.sql(_LEADER)
            except AWAY:
                return False
            return bool(leaders) and leaders[0]["pid"] != deposed["pid"]

        await until(another_leads, BOUND_SECONDS)
        await stage.recovered()
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@fault("four workers fight over 1,000 hot customers", "worker")
@contextlib.asynccontextmanager
async def hot_customers(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    before = await stage.servers.sql(_DEADLOCKS)
    async with stage.crew.more(2):
        await stage.publishers.heat(HOT_CUSTOMERS)
        yield
        await stage.recovered()
    # A crash of Postgres in the meantime would have reset the counter.
    assert await stage.servers.sql(_DEADLOCKS) <= before, "there were deadlocks"


def _clock_wrong(name: str, offset: str) -> None:
    @fault(f"clock of a worker {name}", "worker")
    @contextlib.asynccontextmanager
    async def wrong(stage: Stage, _: random.Random) -> AsyncIterator[None]:
        if not points.faketime():
            raise Skipped("libfaketime is not installed")
        async with stage.crew.more(1, "--clock", offset) as (worker,):
            yield
        assert worker.status == 0
        assert worker.output[:7] != (await stage.servers.sql("SELECT now()::text"))[0][0][:7]


_clock_wrong("40 days ahead", "+40d")
_clock_wrong("40 days behind", "-40d")
