"""Keep the streams as long as they are to be."""

import logging

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.chores import Step
from service.config import Config
from service.db.operations import trims
from service.streams.trim import Keep

log = logging.getLogger(__name__)


def trimming_orders(redis: Redis, config: Config, stream: str) -> Step:
    """Make the step that trims a stream of orders."""
    group = config.orders_group
    keep = Keep(config.orders_keep_seconds, config.orders_keep_entries)

    async def step(connection: AsyncConnection) -> int | None:
        turn = await trims.trim_orders(connection, redis, stream, group, keep)
        return _told(stream, turn)

    return step


def trimming_changes(redis: Redis, config: Config) -> Step:
    """Make the step that trims the stream of segment changes."""
    stream = config.changes_stream
    keep = Keep(None, config.changes_keep_entries)

    async def step(connection: AsyncConnection) -> int | None:
        return _told(stream, await trims.trim_changes(connection, redis, stream, keep))

    return step


def _told(stream: str, turn: trims.TrimResult | None) -> int | None:
    if turn is None:
        return None
    if turn.held_by is not None:
        log.warning(
            "%s grows beyond what it is to keep: its group %s has not acknowledged %s yet",
            stream,
            turn.held_by,
            turn.held_at,
        )
    return turn.entries or None
