"""Look whether Redis still has what it took."""

import logging
from collections.abc import Callable, Container

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.chores import Step
from service.config import Config
from service.core.loss_arithmetic import Loss
from service.core.stream_ids import write
from service.db.operations import losses

log = logging.getLogger(__name__)


def watching(
    redis: Redis, config: Config, listening: Callable[[], Container[str]], *, wait: bool = False
) -> Step:
    """Make the step that looks; a loss is an error in the log, once.

    ``listening`` tells of which streams this worker is asking for entries. While another worker
    looks, nothing is done, or, with ``wait``, that is waited for.
    """
    streams, group = config.orders_streams, config.orders_group

    async def step(connection: AsyncConnection) -> None:
        found = await losses.watch(
            connection, redis, streams, group, listening=listening(), wait=wait
        )
        for stream, seen in found.items():
            if seen.loss:
                _tell(stream, seen.loss)
            elif seen.went_back:
                log.warning(
                    "Redis has less of %s than it had; all of that was applied before", stream
                )

    return step


def _tell(stream: str, loss: Loss) -> None:
    log.error(
        "%s lost entries that were never applied (%s): %s of those after %s, up to %s; "
        "nothing before %s. See `crm losses`",
        stream,
        loss.kind.replace("_", " "),
        "an unknown number" if loss.entries is None else loss.entries,
        write(loss.after),
        write(loss.until),
        f"{loss.since:%Y-%m-%dT%H:%M:%SZ}",
    )
