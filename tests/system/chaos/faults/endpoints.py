"""Faults of a system that gets webhooks. Each one lasts until another endpoint has got more."""

import contextlib
import random
from collections.abc import AsyncIterator

from tests.system.chaos.faults.registry import fault
from tests.system.chaos.hooks import Mode
from tests.system.chaos.stage import AWAY, BOUND_SECONDS, Stage
from tests.wait import until

_FAILURES = "SELECT failures, failed FROM endpoints WHERE id = $1"


async def others_get_more(stage: Stage) -> None:
    """Wait until the other endpoint knows somebody whose first order comes now."""
    email = await stage.publishers.probe()

    async def knows() -> bool:
        try:
            rows = await stage.servers.sql("SELECT id FROM customers WHERE email_key = $1", email)
        except AWAY:
            return False
        return bool(rows) and f"CUST-{rows[0]['id']}" in stage.hooks.steady.segments

    await until(knows, BOUND_SECONDS)


async def fails(stage: Stage) -> None:
    """Wait until the service has noted one more failed attempt, of something that comes now."""

    async def failed() -> int | None:
        try:
            ((_, failed),) = await stage.servers.sql(_FAILURES, stage.hooks.hurt.id)
        except AWAY:
            return None
        return int(failed)

    before = await failed()

    async def has_failed() -> bool:
        now = await failed()
        return now is not None and now > (before or 0)

    await stage.publishers.probe()
    await until(has_failed, BOUND_SECONDS)


@fault("endpoint dead", "endpoint")
@contextlib.asynccontextmanager
async def dead(stage: Stage, _: random.Random) -> AsyncIterator[None]:
    await stage.hooks.hurt.close()
    try:
        await fails(stage)
        await others_get_more(stage)
        yield
    finally:
        await stage.hooks.hurt.open()


def _answering(name: str, mode: Mode, *, is_failure: bool) -> None:
    @fault(f"endpoint {name}", "endpoint")
    @contextlib.asynccontextmanager
    async def answers(stage: Stage, _: random.Random) -> AsyncIterator[None]:
        stage.hooks.hurt.mode = mode
        try:
            if is_failure:
                await fails(stage)
            await others_get_more(stage)
            yield
        finally:
            stage.hooks.hurt.mode = Mode.TAKES


_answering("answers 500 to what it has taken", Mode.FAILS, is_failure=True)
_answering("is slow", Mode.SLOW, is_failure=False)
_answering("never answers", Mode.HANGS, is_failure=True)
