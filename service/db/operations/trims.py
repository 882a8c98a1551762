"""Trimming, by one replica at a time; what was trimmed, and who holds it up, is kept here."""

from collections.abc import Sequence
from typing import NamedTuple

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.streams.trim import Keep, trim

_LOCK = 0x43524D07  # "CRM" 7

_BEGIN = text("SELECT pg_try_advisory_xact_lock(:lock)")
_TRIMS = text("SELECT stream, entries, held_by, held_at FROM trims ORDER BY stream")
_KEEP = text("""
INSERT INTO trims AS t (stream, entries, held_by, held_at)
VALUES (:stream, :entries, :held_by, :held_at)
ON CONFLICT (stream) DO UPDATE SET entries = t.entries + excluded.entries,
  held_by = excluded.held_by, held_at = excluded.held_at
WHERE excluded.entries > 0 OR (excluded.held_by, excluded.held_at)
  IS DISTINCT FROM (t.held_by, t.held_at)
RETURNING old.held_by AS held_before
""")
# What is trimmed off the out-stream need not be published again, should Redis lose the rest.
_TRIMMED = text("UPDATE relay SET trimmed = GREATEST(trimmed, :number)")


class Trims(NamedTuple):
    """What was trimmed off a stream."""

    stream: str
    entries: int
    held_by: str | None
    """The group that keeps more from being trimmed."""
    held_at: str | None
    """The first entry that it has not acknowledged."""


class TrimResult(NamedTuple):
    """What one turn did."""

    entries: int
    held_by: str | None
    """The group that has begun to hold trimming up."""
    held_at: str | None


async def trims(connection: AsyncConnection) -> Sequence[Trims]:
    """Tell what was trimmed off each stream."""
    return [Trims(*row) for row in await connection.execute(_TRIMS)]


async def trim_orders(
    connection: AsyncConnection, redis: Redis, stream: str, group: str, keep: Keep
) -> TrimResult | None:
    """Trim the stream of orders; the caller commits. None: another replica does."""
    if not await _begin(connection):
        return None
    return (await _trim(connection, redis, stream, keep, group))[0]


async def trim_changes(
    connection: AsyncConnection, redis: Redis, stream: str, keep: Keep
) -> TrimResult | None:
    """Trim the stream of segment changes; the caller commits. None: another replica does.

    The segment changes themselves stay in the database.
    """
    if not await _begin(connection):
        return None
    turn, first = await _trim(connection, redis, stream, keep, None)
    if turn.entries:
        await connection.execute(_TRIMMED, {"number": first - 1})
    return turn


async def _begin(connection: AsyncConnection) -> bool:
    return bool((await connection.execute(_BEGIN, {"lock": _LOCK})).scalar_one())


async def _trim(
    connection: AsyncConnection, redis: Redis, stream: str, keep: Keep, group: str | None
) -> tuple[TrimResult, int]:
    """Give the turn, and the first half of the first id left."""
    done = await trim(redis, stream, keep, group=group)
    kept = (
        await connection.execute(
            _KEEP,
            {
                "stream": stream,
                "entries": done.entries,
                "held_by": done.held_by,
                "held_at": done.held_at,
            },
        )
    ).one_or_none()
    begins = kept is not None and done.held_by != kept.held_before
    turn = TrimResult(
        done.entries, done.held_by if begins else None, done.held_at if begins else None
    )
    return turn, int(done.first_id.partition("-")[0])
