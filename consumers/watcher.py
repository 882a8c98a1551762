"""Look whether Redis still has what it took."""

import logging
from collections.abc import Callable

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.chores import Step
from service.config import Config
from service.db import losses
from service.sighting import write

log = logging.getLogger(__name__)


def watching(redis: Redis, config: Config, listening: Callable[[], bool]) -> Step:
    """Make the step that looks; a loss is an error in the log, once."""
    stream, group = config.orders_stream, config.orders_group

    async def step(connection: AsyncConnection) -> None:
        seen = await losses.watch(connection, redis, stream, group, listening=listening())
        if seen and seen.loss:
            log.error(
                "%s lost entries that were never applied (%s): %s of those after %s, up to %s; "
                "nothing before %s. See `crm losses`",
                stream,
                seen.loss.kind.replace("_", " "),
                "an unknown number" if seen.loss.entries is None else seen.loss.entries,
                write(seen.loss.after),
                write(seen.loss.until),
                f"{seen.loss.since:%Y-%m-%dT%H:%M:%SZ}",
            )
        elif seen and seen.went_back:
            log.warning("Redis has less of %s than it had; all of that was applied before", stream)

    return step
