"""Faults of others who use the same Redis."""

import contextlib
import random
from collections.abc import AsyncIterator

from tests.system.chaos.analytics import STREAM as CHANGES
from tests.system.chaos.faults.registry import fault
from tests.system.chaos.faults.worker import HOT_CUSTOMERS
from tests.system.chaos.stage import AWAY, BOUND_SECONDS, Stage
from tests.wait import until

_FORGED_BYTES = (
    b"not json",
    b"\xff\x00",
    b"x" * 5_000_000,
    b'{"data": {"customerId": "CUST-9223372036854775806", "sequence": 2147483647}}',
    b'{"id": "forged", "data": {"customerId": "CUST-1001", "sequence": 2, "segment": "vip"}}',
)
_GREATEST = 2**64 - 1
_SILENT = "silent"
_NOTICED = "SELECT coalesce(sum(entries), 0)::int AS noticed FROM foreign_entries"
_HELD = "SELECT held_by FROM trims WHERE stream = $1"


@fault("forged entries on the out-stream", "redis")
@contextlib.asynccontextmanager
async def forged(stage: Stage, rng: random.Random) -> AsyncIterator[None]:
    ((before,),) = await stage.servers.sql(_NOTICED)
    for written, body in enumerate(rng.sample(_FORGED_BYTES, len(_FORGED_BYTES)), 1):
        last = written == len(_FORGED_BYTES)
        id_ = f"{rng.choice((2**53 + 1, 2**63, _GREATEST))}-{_GREATEST}" if last else "*"
        await stage.redis.xadd(CHANGES, {"__data__": body}, id=id_)

        async def is_noticed(wanted: int = before + written) -> bool:
            try:
                ((noticed,),) = await stage.servers.sql(_NOTICED)
            except AWAY:
                return False
            return bool(noticed >= wanted)

        await until(is_noticed, BOUND_SECONDS)
    stage.forged += len(_FORGED_BYTES)
    yield
    assert await stage.servers.sql("SELECT count(*) FROM unknown_changes") == [(0,)]


@fault("a group on the out-stream never reads", "redis")
@contextlib.asynccontextmanager
async def silent(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    await stage.redis.xgroup_create(CHANGES, _SILENT, id="0", mkstream=True)
    try:
        await stage.publishers.heat(HOT_CUSTOMERS)

        async def is_held() -> bool:
            try:
                rows = await stage.servers.sql(_HELD, CHANGES)
            except AWAY:
                return False
            return [row["held_by"] for row in rows] == [_SILENT]

        await until(is_held, BOUND_SECONDS)
        yield
        await stage.recovered()
    finally:
        await stage.redis.xgroup_destroy(CHANGES, _SILENT)
