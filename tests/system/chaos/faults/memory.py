"""Faults of size: entries that are too large, or too many, for a worker's memory."""

import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

from tests.system.chaos.faults.registry import fault
from tests.system.chaos.publishers import STREAM
from tests.system.chaos.servers import plain_client
from tests.system.chaos.stage import AWAY, BOUND_SECONDS, Stage
from tests.wait import until

LIMIT = 512 << 20
"""The memory limit of a worker in `deploy/kubernetes`."""
_OVERSIZE = 200_000_000
_LARGE = 1_000_000
_LARGE_ORDERS = 400
"""More than the limit holds, because each takes more than its size while it is read."""


@fault("oversize entry", "worker", "redis")
@contextlib.asynccontextmanager
async def oversize(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    """Publish an entry that is far too large, while orders go on."""
    before = stage.crew.unasked.total()
    async with stage.crew.limited(LIMIT):
        async with _patient(stage) as client:
            id_ = await stage.publishers.oversize(client, _OVERSIZE)

        async def is_buried() -> bool:
            try:
                return bool(
                    await stage.servers.sql(
                        "SELECT FROM dead_letters WHERE stream_id = $1 AND reason = 'too_large'",
                        id_.decode(),
                    )
                )
            except AWAY:
                return False

        await until(is_buried, BOUND_SECONDS)
        _note(stage, "worker that met an entry of 200 MB")
        await stage.recovered()
        yield
    # The next faults should not have to carry it along.
    await stage.redis.xdel(STREAM, id_)
    assert stage.crew.unasked.total() == before, "a worker died of it"


@fault("worker under a memory limit", "worker", "redis")
@contextlib.asynccontextmanager
async def limited(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    """Let workers with the memory that we ship catch up with more large orders than that."""
    before = stage.crew.unasked.total()
    async with stage.crew.limited(LIMIT):
        async with stage.crew.without_workers(), _patient(stage) as client:
            ids = await stage.publishers.large(client, _LARGE_ORDERS, _LARGE)
        await stage.recovered(BOUND_SECONDS + _LARGE_ORDERS / 5)
        _note(stage, f"worker that met {_LARGE_ORDERS} orders of 1 MB")
        yield
    await stage.redis.xdel(STREAM, *ids)
    assert stage.crew.unasked.total() == before, "a worker died of it"


def _patient(stage: Stage) -> Any:
    """Return a client that bypasses the proxy and waits until a slow server has taken it all."""
    return plain_client(stage.servers.redis_url, BOUND_SECONDS)


def _note(stage: Stage, what: str) -> None:
    stage.notes[what] = f"{stage.crew.memory() >> 20} MiB"
