"""Faults of the network between the servers and everybody who uses them."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable

from tests.system.chaos.faults.registry import fault
from tests.system.chaos.proxy import Proxy
from tests.system.chaos.stage import BOUND_SECONDS, Stage
from tests.wait import until

_RESET_EVERY = 0.25
_DELAYS = (0.02, 0.1, 0.3)
_MOST_LOST = 12


def _between(server: str, of: Callable[[Stage], Proxy]) -> None:
    @fault(f"connections to {server} reset again and again", f"{server} network", lasting=True)
    @contextlib.asynccontextmanager
    async def resets(stage: Stage, _: random.Random) -> AsyncIterator[None]:
        proxy = of(stage)

        async def reset() -> None:
            while True:
                proxy.reset()
                await asyncio.sleep(_RESET_EVERY)

        task, before = asyncio.create_task(reset()), proxy.cut
        try:
            yield
            assert proxy.cut > before
        finally:
            task.cancel()

    @fault(f"way to {server} slow", f"{server} network", lasting=True)
    @contextlib.asynccontextmanager
    async def slow(stage: Stage, rng: random.Random) -> AsyncIterator[None]:
        proxy = of(stage)
        proxy.delay = rng.choice(_DELAYS)
        try:
            yield
        finally:
            proxy.delay = 0.0

    @fault(f"answers of {server} lost", f"{server} network")
    @contextlib.asynccontextmanager
    async def lost(stage: Stage, rng: random.Random) -> AsyncIterator[None]:
        """Swallow answers: the client cannot know whether its XADD, XACK or COMMIT was done."""
        proxy, count = of(stage), rng.randint(3, _MOST_LOST)
        before = proxy.lost

        async def is_lost() -> bool:
            return not proxy.answers_to_lose

        for _ in range(count):
            proxy.answers_to_lose = 1
            await until(is_lost, BOUND_SECONDS)
            await asyncio.sleep(rng.uniform(0, 0.2))
        assert proxy.lost == before + count
        yield


_between("redis", lambda stage: stage.redis_proxy)
_between("postgres", lambda stage: stage.postgres_proxy)
