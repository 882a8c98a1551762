"""Losses noticed: where a look at Redis is kept for the next one, and what came of comparing.

One look at a time across replicas, every second or so, and nothing is written by the batches
themselves: what they count anyway is what a look is held against (`service.core.loss_arithmetic`).
"""

import asyncio
from collections.abc import Awaitable, Container, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.loss_arithmetic import (
    Loss,
    LossKind,
    Observation,
    StreamSnapshot,
    forgotten,
    passed_over,
    position,
    stepped_back,
)
from service.core.partitions import OrdersStream
from service.core.stream_ids import NO_ID, StreamId, parse, write
from service.db.accounts.audit import note
from service.streams.redis_client import REDIS_ERRORS
from service.streams.snapshot import look, survivors

T = TypeVar("T")

_LOCK = 0x43524D06  # "CRM" 6
_PATIENCE = 5.0
"""Seconds to wait for Redis."""

_BEGIN = text("SELECT pg_try_advisory_xact_lock(:lock)")
_WAIT = text("SELECT pg_advisory_xact_lock(:lock) IS NOT NULL")
# Of the plain stream is what was counted and is of no partition: so the batches of a shop that has
# none write nothing for it, and those of a release that knows none are counted right.
_OF_STREAM = """
CASE WHEN CAST({partition} AS int) IS NULL
  THEN (SELECT coalesce(sum(read), 0) FROM ingest_counters)
     - (SELECT coalesce(sum(read), 0) FROM partition_counters)
  ELSE (SELECT coalesce(sum(p.read), 0) FROM partition_counters p WHERE p.partition = {partition})
END"""
_EARLIER = text("""
SELECT stream, seen_at, added, removed, last_id, settled_id, listening, balance, read, away_since
FROM sightings WHERE stream = ANY(:streams) AND consumer_group = :group
""")
_READ = text(f"""
SELECT of.place, ({_OF_STREAM.format(partition="of.partition")})::bigint AS entries,
  clock_timestamp() AS now
FROM unnest(CAST(:partitions AS int[])) WITH ORDINALITY AS of (partition, place) ORDER BY of.place
""")
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
_AWAY = text(f"""
UPDATE sightings SET away_since = coalesce(away_since, clock_timestamp()),
  read = {_OF_STREAM.format(partition=":partition")}
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
_REMOVED = text("""
SELECT stream, sum(entries)::bigint AS entries FROM losses WHERE kind = 'removed' GROUP BY stream
""")
_SUMMARY = text("""
SELECT count(*) AS total, count(*) FILTER (WHERE acknowledged_at IS NULL) AS open,
       coalesce(sum(entries) FILTER (WHERE acknowledged_at IS NULL), 0)::bigint AS entries
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
    kind: LossKind
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


class LossSummary(NamedTuple):
    """Losses counted."""

    total: int
    open: int
    """Those that nobody has acknowledged."""
    entries: int
    """Entries known to be lost in them."""


class Seen(NamedTuple):
    """What a look found."""

    position: Observation
    loss: Loss | None
    went_back: bool
    """Redis has less than it had; without a loss, nothing had been waiting."""


async def watch(
    connection: AsyncConnection,
    redis: Redis,
    streams: Sequence[OrdersStream],
    group: str,
    *,
    listening: Container[str],
    wait: bool = False,
) -> dict[str, Seen]:
    """Look, compare, keep both; the caller commits. ``loss`` is given only when it is a new one.

    ``listening`` are the streams of which the worker that looks is asking for entries. A stream
    is left out when Redis does not answer for it; all are, when another replica is looking, unless
    that is to be waited for.
    """
    begun = await connection.execute(_WAIT if wait else _BEGIN, {"lock": _LOCK})
    if not begun.scalar_one():
        return {}
    found = await compare(connection, redis, streams, group, listening=listening)
    if away := [stream for stream in streams if stream.name not in found]:
        await connection.execute(
            _AWAY,
            [{"stream": it.name, "group": group, "partition": it.partition} for it in away],
        )
    if found:
        rows = [_row(name, group, seen.position) for name, seen in found.items()]
        await connection.execute(_KEEP, rows)
    for name, seen in found.items():
        if seen.loss and not await _note(connection, name, seen.loss, seen.position.seen_at):
            found[name] = seen._replace(loss=None)
    return found


def _row(stream: str, group: str, kept: Observation) -> dict[str, Any]:
    return {
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
    }


async def compare(
    connection: AsyncConnection,
    redis: Redis,
    streams: Sequence[OrdersStream],
    group: str,
    *,
    listening: Container[str] = (),
) -> dict[str, Seen]:
    """Hold what Redis shows of each stream now against the last look that was kept.

    Writes nothing. A stream is left out when Redis does not answer for it.
    """
    known = await _earlier(connection, streams, group)
    # What is counted while we look may be of entries seen or not: both sides bound it.
    before = await _read(connection, streams)
    looks = await asyncio.gather(*(_look(redis, it.name, group, known) for it in streams))
    after = await _read(connection, streams)
    found = dict[str, Seen]()
    for stream, now, read_before, (read_after, at) in zip(
        streams, looks, before, after, strict=True
    ):
        if now is None:
            continue
        earlier, reads = known.get(stream.name), stream.name in listening
        least, loss = None, None
        went_back = earlier is not None and stepped_back(earlier, now)
        if earlier is not None and went_back:
            left = await _answer(survivors(redis, stream.name, earlier.last))
            if left is None:
                continue
            loss = forgotten(earlier, now, left, read_after, at)
        elif earlier is not None:
            loss = passed_over(earlier, now, read_after)
            # The rest of a loss shows when what is in the workers' hands has been counted.
            least = earlier.balance - ((loss.entries or 0) if loss else 0)
        kept = position(now, at, read_before.entries, least, listening=reads)
        found[stream.name] = Seen(kept, loss, went_back)
    return found


class _Read(NamedTuple):
    """What had been counted of a stream at a moment."""

    entries: int
    at: datetime


async def _read(connection: AsyncConnection, streams: Sequence[OrdersStream]) -> list[_Read]:
    partitions = [stream.partition for stream in streams]
    rows = await connection.execute(_READ, {"partitions": partitions})
    return [_Read(row.entries, row.now) for row in rows]


async def _look(
    redis: Redis, stream: str, group: str, known: Mapping[str, Observation]
) -> StreamSnapshot | None:
    last = known[stream].last if stream in known else NO_ID
    return await _answer(look(redis, stream, group, last))


async def _answer(asked: Awaitable[T]) -> T | None:
    """Wait for Redis; None: it does not answer."""
    try:
        async with asyncio.timeout(_PATIENCE):
            return await asked
    except REDIS_ERRORS:
        return None


async def _earlier(
    connection: AsyncConnection, streams: Sequence[OrdersStream], group: str
) -> dict[str, Observation]:
    names = [stream.name for stream in streams]
    rows = await connection.execute(_EARLIER, {"streams": names, "group": group})
    return {
        row.stream: Observation(
            row.seen_at,
            row.added,
            row.removed,
            parse(row.last_id),
            parse(row.settled_id),
            row.listening,
            row.balance,
            row.read,
            row.away_since,
        )
        for row in rows
    }


async def settled(
    connection: AsyncConnection, streams: Sequence[OrdersStream], group: str
) -> dict[str, StreamId]:
    """Tell of each stream up to which entry all had been applied at the last look.

    Streams that nobody ever looked at are left out.
    """
    known = await _earlier(connection, streams, group)
    return {name: position.settled for name, position in known.items()}


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
    return [Incident(*row)._replace(kind=LossKind(row.kind)) for row in rows]


async def summary(connection: AsyncConnection) -> LossSummary:
    """Count losses."""
    return LossSummary(*(await connection.execute(_SUMMARY)).one())


async def passed_on(connection: AsyncConnection, streams: Sequence[OrdersStream]) -> dict[str, int]:
    """Count of each stream the entries read here and those removed before, acknowledged or not."""
    removed = {row.stream: row.entries for row in await connection.execute(_REMOVED)}
    read = await _read(connection, streams)
    return {
        stream.name: counted.entries + (removed.get(stream.name) or 0)
        for stream, counted in zip(streams, read, strict=True)
    }


async def acknowledge(connection: AsyncConnection, incident: int, by: str) -> bool:
    """Take note of a loss, in somebody's name; False: there is no such open one."""
    found = await connection.execute(_ACKNOWLEDGE, {"id": incident, "by": by})
    if found.rowcount:
        await note(connection, by, "loss.acknowledged", details={"loss": incident})
    return bool(found.rowcount)
