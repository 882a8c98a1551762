"""Losses noticed: where a look at Redis is kept for the next one, and what came of comparing.

One look at a time across replicas, every second or so, and nothing is written by the batches
themselves: what they count anyway is what a look is held against (`service.losses`).
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.audit import note
from service.losses import (
    Kind,
    Loss,
    Position,
    forgotten,
    passed_over,
    position,
    stepped_back,
)
from service.sighting import NO_ID, StreamId, look, parse, survivors, write
from service.streams import REDIS_ERRORS

_LOCK = 0x43524D06  # "CRM" 6
_PATIENCE = 5.0
"""Seconds to wait for Redis."""

_BEGIN = text("SELECT pg_try_advisory_xact_lock(:lock)")
_EARLIER = text("""
SELECT seen_at, added, removed, last_id, settled_id, listening, balance, read, away_since
FROM sightings WHERE stream = :stream AND consumer_group = :group
""")
_READ = text(
    "SELECT coalesce(sum(read), 0)::bigint AS entries, clock_timestamp() AS now"
    " FROM ingest_counters"
)
_KEEP = text("""
INSERT INTO sightings (stream, consumer_group, seen_at, added, removed, last_id, settled_id,
  listening, balance, read)
VALUES (:stream, :group, :seen_at, :added, :removed, :last_id, :settled_id, :listening, :balance,
  :read)
ON CONFLICT (stream, consumer_group) DO UPDATE SET seen_at = excluded.seen_at,
  added = excluded.added, removed = excluded.removed, last_id = excluded.last_id,
  settled_id = excluded.settled_id, listening = excluded.listening, balance = excluded.balance,
  read = excluded.read, away_since = NULL
""")
# Workers finish what they hold; Redis passes nothing on meanwhile.
_AWAY = text("""
UPDATE sightings SET away_since = coalesce(away_since, clock_timestamp()),
  read = (SELECT sum(read) FROM ingest_counters)
WHERE stream = :stream AND consumer_group = :group
""")
# A publisher that trims too early does it again and again: that is one loss that grows.
_EXTEND = text("""
UPDATE losses SET until_id = :until_id, entries = entries + :entries, last_noticed_at = :at
WHERE id = (
  SELECT max(id) FROM losses
  WHERE stream = :stream AND kind = 'removed' AND :kind = 'removed' AND acknowledged_at IS NULL
    AND last_noticed_at > CAST(:at AS timestamptz) - interval '10 minutes')
""")
_ADD = text("""
INSERT INTO losses (stream, kind, after_id, until_id, entries, since, noticed_at, last_noticed_at)
VALUES (:stream, :kind, :after_id, :until_id, :entries, :since, :at, :at)
""")
_INCIDENTS = text("""
SELECT id, stream, kind, after_id, until_id, entries, since, noticed_at, last_noticed_at,
       acknowledged_at, acknowledged_by
FROM losses WHERE acknowledged_at IS NULL OR NOT :open_only ORDER BY id DESC LIMIT :most
""")
_SUMMARY = text("""
SELECT count(*) AS total, count(*) FILTER (WHERE acknowledged_at IS NULL) AS open,
       coalesce(sum(entries) FILTER (WHERE acknowledged_at IS NULL), 0)::bigint AS entries,
       coalesce(sum(entries) FILTER (WHERE kind = 'removed'), 0)::bigint AS removed
FROM losses
""")
_ACKNOWLEDGE = text("""
UPDATE losses SET acknowledged_at = clock_timestamp(), acknowledged_by = :by
WHERE id = :id AND acknowledged_at IS NULL
""")


class Incident(NamedTuple):
    """A loss, as it is kept for people."""

    id: int
    stream: str
    kind: Kind
    after_id: str
    until_id: str
    """Whatever was lost has an id beyond ``after_id`` and not beyond ``until_id``."""
    entries: int | None
    """`removed`: at least; `rolled_back`: of those seen before. None: nobody knows."""
    since: datetime
    """Nothing was lost before."""
    noticed_at: datetime
    last_noticed_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str | None


class Summary(NamedTuple):
    """Losses counted."""

    total: int
    open: int
    """Those that nobody has acknowledged."""
    entries: int
    """Entries known to be lost in them."""
    removed: int
    """Entries that were removed or passed over, acknowledged or not."""


class Seen(NamedTuple):
    """What a look found."""

    position: Position
    loss: Loss | None
    went_back: bool
    """Redis has less than it had; without a loss, nothing had been waiting."""


async def watch(
    connection: AsyncConnection, redis: Redis, stream: str, group: str, *, listening: bool
) -> Seen | None:
    """Look, compare, keep both; the caller commits. ``loss`` is given only when it is a new one.

    ``listening`` tells whether the worker that looks is asking for entries.
    None: another replica is looking, or Redis does not answer.
    """
    if not (await connection.execute(_BEGIN, {"lock": _LOCK})).scalar_one():
        return None
    try:
        async with asyncio.timeout(_PATIENCE):
            seen = await compare(connection, redis, stream, group, listening=listening)
    except REDIS_ERRORS:
        await connection.execute(_AWAY, {"stream": stream, "group": group})
        return None
    kept = seen.position
    await connection.execute(
        _KEEP,
        {
            "stream": stream,
            "group": group,
            "seen_at": kept.seen_at,
            "added": kept.added,
            "removed": kept.removed,
            "last_id": write(kept.last),
            "settled_id": write(kept.settled),
            "listening": kept.listening,
            "balance": kept.balance,
            "read": kept.read,
        },
    )
    if seen.loss and not await _note(connection, stream, seen.loss, kept.seen_at):
        return seen._replace(loss=None)
    return seen


async def compare(
    connection: AsyncConnection, redis: Redis, stream: str, group: str, *, listening: bool = False
) -> Seen:
    """Hold what Redis shows now against the last look that was kept; writes nothing."""
    earlier = await _earlier(connection, stream, group)
    # What is counted while we look may be of entries seen or not: both sides bound it.
    read_before = (await connection.execute(_READ)).one().entries
    now = await look(redis, stream, group, earlier.last if earlier else NO_ID)
    read_after, at = (await connection.execute(_READ)).one()
    if earlier is None:
        return Seen(
            position(now, at, read_before, None, listening=listening), None, went_back=False
        )
    if stepped_back(earlier, now):
        left = await survivors(redis, stream, earlier.last)
        loss = forgotten(earlier, now, left, read_after, at)
        return Seen(position(now, at, read_before, None, listening=listening), loss, went_back=True)
    loss = passed_over(earlier, now, read_after)
    # The rest of a loss shows when what is in the workers' hands has been counted.
    least = earlier.balance - ((loss.entries or 0) if loss else 0)
    return Seen(position(now, at, read_before, least, listening=listening), loss, went_back=False)


async def _earlier(connection: AsyncConnection, stream: str, group: str) -> Position | None:
    found = await connection.execute(_EARLIER, {"stream": stream, "group": group})
    row = found.one_or_none()
    if row is None:
        return None
    last, settled = parse(row.last_id), parse(row.settled_id)
    return Position(
        row.seen_at,
        row.added,
        row.removed,
        last,
        settled,
        row.listening,
        row.balance,
        row.read,
        row.away_since,
    )


async def settled(connection: AsyncConnection, stream: str, group: str) -> StreamId | None:
    """Tell up to which entry all had been applied at the last look. None: nobody ever looked."""
    earlier = await _earlier(connection, stream, group)
    return earlier and earlier.settled


async def _note(connection: AsyncConnection, stream: str, loss: Loss, at: datetime) -> bool:
    """Keep a loss; False: it continues one that is known."""
    row: dict[str, Any] = {
        "stream": stream,
        "kind": loss.kind.value,
        "after_id": write(loss.after),
        "until_id": write(loss.until),
        "entries": loss.entries,
        "since": loss.since,
        "at": at,
    }
    if (await connection.execute(_EXTEND, row)).rowcount:
        return False
    await connection.execute(_ADD, row)
    return True


async def incidents(
    connection: AsyncConnection, *, most: int = 50, open_only: bool = False
) -> Sequence[Incident]:
    """List losses, the latest first."""
    rows = await connection.execute(_INCIDENTS, {"most": most, "open_only": open_only})
    return [Incident(*row)._replace(kind=Kind(row.kind)) for row in rows]


async def summary(connection: AsyncConnection) -> Summary:
    """Count losses."""
    return Summary(*(await connection.execute(_SUMMARY)).one())


async def acknowledge(connection: AsyncConnection, incident: int, by: str) -> bool:
    """Take note of a loss, in somebody's name; False: there is no such open one."""
    found = await connection.execute(_ACKNOWLEDGE, {"id": incident, "by": by})
    if found.rowcount:
        await note(connection, by, "loss.acknowledged", details={"loss": incident})
    return bool(found.rowcount)
