"""Trim the streams, one replica at a time; store how much, and which group prevents more."""

from collections.abc import Sequence
from typing import NamedTuple

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.stream_ids import parse
from service.db.locks import AdvisoryLock, try_lock
from service.db.out_stream_tail import OutStream
from service.streams.trim import Keep, trim

_TRIMS = text("SELECT stream, entries, held_by, held_at FROM trims ORDER BY stream")
# If nothing has changed, no row may be inserted: a conflict alone locks the row, which PostgreSQL
# writes to its log.
_STORE = text("""
INSERT INTO trims AS t (stream, entries, held_by, held_at)
SELECT new.* FROM (
  SELECT CAST(:stream AS text) AS stream, CAST(:entries AS bigint) AS entries,
         CAST(:held_by AS text) AS held_by, CAST(:held_at AS text) AS held_at) new
WHERE NOT EXISTS (
  SELECT FROM trims known WHERE known.stream = new.stream AND new.entries = 0
    AND (known.held_by, known.held_at) IS NOT DISTINCT FROM (new.held_by, new.held_at))
ON CONFLICT (stream) DO UPDATE SET entries = t.entries + excluded.entries,
  held_by = excluded.held_by, held_at = excluded.held_at
RETURNING old.held_by AS held_before
""")


class Trims(NamedTuple):
    """How much of a stream was trimmed so far."""

    stream: str
    entries: int
    held_by: str | None
    """The group that prevents more trimming. None if no group does."""
    held_at: str | None
    """The first entry that this group has not acknowledged."""


class TrimResult(NamedTuple):
    """The result of trimming a stream once."""

    entries: int
    held_by: str | None
    """The group that has begun to prevent more trimming. None if it did so before."""
    held_at: str | None


async def trims(connection: AsyncConnection) -> Sequence[Trims]:
    """Return how much of each stream was trimmed."""
    return [Trims(*row) for row in await connection.execute(_TRIMS)]


async def trim_orders(
    connection: AsyncConnection, redis: Redis, stream: str, group: str, keep: Keep
) -> TrimResult | None:
    """Trim a stream of orders; the caller commits. None if another replica is trimming."""
    if not await try_lock(connection, AdvisoryLock.TRIMMING):
        return None
    return (await _trim(connection, redis, stream, keep, group))[0]


async def trim_published(
    connection: AsyncConnection, redis: Redis, stream: OutStream, keep: Keep
) -> TrimResult | None:
    """Trim an out-stream; the caller commits. None if another replica is trimming.

    What was published stays in the database.
    """
    if not await try_lock(connection, AdvisoryLock.TRIMMING):
        return None
    result, first = await _trim(connection, redis, stream.name, keep, None)
    if result.entries:
        await stream.outbox.mark_trimmed(connection, first - 1)
    return result


async def _trim(
    connection: AsyncConnection, redis: Redis, stream: str, keep: Keep, group: str | None
) -> tuple[TrimResult, int]:
    """Trim and store; return the result, and the first half of the first id that is left."""
    trimmed = await trim(redis, stream, keep, group=group)
    stored = (
        await connection.execute(
            _STORE,
            {
                "stream": stream,
                "entries": trimmed.entries,
                "held_by": trimmed.held_by,
                "held_at": trimmed.held_at,
            },
        )
    ).one_or_none()
    is_new = stored is not None and trimmed.held_by != stored.held_before
    result = TrimResult(
        trimmed.entries, trimmed.held_by if is_new else None, trimmed.held_at if is_new else None
    )
    return result, parse(trimmed.first_id)[0]
