"""Check the streams for lost entries, store what each check found, and record losses for people.

`service.core.loss_arithmetic` explains how a loss is found. One replica at a time checks, about
once a second. Batches write nothing for this: a check uses the counters that they write anyway.
"""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.foreign_kinds import ForeignKind
from service.core.loss_arithmetic import (
    Checkpoint,
    Loss,
    LossKind,
    StreamSnapshot,
    find_removed,
    find_rolled_back,
    next_checkpoint,
    was_rolled_back,
)
from service.core.partitions import OrdersStream
from service.core.stream_ids import NO_ID, StreamId, parse, write
from service.db.accounts.audit import note
from service.db.locks import AdvisoryLock, try_lock, wait_for_lock
from service.db.operations import foreign_entries
from service.db.operations.foreign_entries import Noticed
from service.streams.redis_client import REDIS_ERRORS
from service.streams.snapshot import read_remainder, take_snapshot

T = TypeVar("T")

_REDIS_SECONDS = 5.0
"""How long to wait for Redis's answer."""

# The entries read of the plain stream are the total less those counted for partitions. So batches
# of a shop without partitions write nothing extra, and batches of a release that knows no
# partitions are counted correctly.
_ENTRIES_READ = """
CASE WHEN CAST({partition} AS int) IS NULL
  THEN (SELECT coalesce(sum(read), 0) FROM ingest_counters)
     - (SELECT coalesce(sum(read), 0) FROM partition_counters)
  ELSE (SELECT coalesce(sum(p.read), 0) FROM partition_counters p WHERE p.partition = {partition})
END"""
_CHECKPOINTS = text("""
SELECT stream, seen_at, added, removed, last_id, settled_id, balance, read
FROM sightings WHERE stream = ANY(:streams) AND consumer_group = :group
""")
_COUNT_READ = text(f"""
SELECT s.place, ({_ENTRIES_READ.format(partition="s.partition")})::bigint AS entries,
  clock_timestamp() AS now
FROM unnest(CAST(:partitions AS int[])) WITH ORDINALITY AS s (partition, place) ORDER BY s.place
""")
_STORE_CHECKPOINT = text("""
INSERT INTO sightings (stream, consumer_group, seen_at, added, removed, last_id, settled_id,
  balance, read)
VALUES (:stream, :group, :seen_at, :added, :removed, :last_id, :settled_id, :balance, :read)
ON CONFLICT (stream, consumer_group) DO UPDATE SET seen_at = excluded.seen_at,
  added = excluded.added, removed = excluded.removed, last_id = excluded.last_id,
  settled_id = excluded.settled_id, balance = excluded.balance, read = excluded.read
""")
# While Redis is away, it delivers nothing, and workers finish the entries that they hold. So all
# entries counted by now belong to the checkpoint.
_COUNT_WHILE_AWAY = text(f"""
UPDATE sightings SET read = counted.entries
FROM (SELECT {_ENTRIES_READ.format(partition=":partition")} AS entries) counted
WHERE stream = :stream AND consumer_group = :group AND read <> counted.entries
""")
# A publisher that trims too early does it again and again: that is one loss that grows.
_EXTEND_LOSS = text("""
UPDATE losses SET until_id = :until_id, entries = entries + :entries, last_noticed_at = :at
WHERE id = (
  SELECT max(id) FROM losses
  WHERE stream = :stream AND kind = 'removed' AND :kind = 'removed' AND acknowledged_at IS NULL
    AND last_noticed_at > CAST(:at AS timestamptz) - interval '10 minutes')
""")
_ADD_LOSS = text("""
INSERT INTO losses (stream, kind, after_id, until_id, entries, since, noticed_at, last_noticed_at)
VALUES (:stream, :kind, :after_id, :until_id, :entries, :since, :at, :at)
""")
_LOSSES = text("""
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


class RecordedLoss(NamedTuple):
    """A loss as people see it."""

    id: int
    stream: str
    kind: LossKind
    after_id: str
    until_id: str
    """Every lost entry has an id greater than ``after_id`` and not greater than ``until_id``."""
    entries: int | None
    """`removed`: a minimum; `rolled_back`: only those that a check had seen. None: unknown."""
    since: datetime
    """Nothing was lost before this moment."""
    noticed_at: datetime
    last_noticed_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str | None


class LossSummary(NamedTuple):
    """How many losses were recorded."""

    total: int
    open: int
    """Losses that nobody has acknowledged."""
    entries: int
    """Entries known to be lost in the open ones."""


class CheckResult(NamedTuple):
    """The result of checking one stream."""

    before: Checkpoint | None
    """What the last check stored. None: there was none."""
    checkpoint: Checkpoint
    loss: Loss | None
    is_ahead: bool
    """The stream's last id lies in the future."""


async def check_and_record(
    connection: AsyncConnection,
    redis: Redis,
    streams: Sequence[OrdersStream],
    group: str,
    *,
    wait: bool = False,
) -> dict[str, CheckResult]:
    """Check the streams, store the checkpoints and record losses; the caller commits.

    A result has a loss, or is ahead, only if that is new. Streams for which Redis does not answer
    are left out. The result is empty while another replica checks; with ``wait``, this waits for
    that replica instead.
    """
    if wait:
        await wait_for_lock(connection, AdvisoryLock.LOSSES)
    elif not await try_lock(connection, AdvisoryLock.LOSSES):
        return {}
    results = await check(connection, redis, streams, group)
    if away := [stream for stream in streams if stream.name not in results]:
        await connection.execute(
            _COUNT_WHILE_AWAY,
            [{"stream": name, "group": group, "partition": partition} for name, partition in away],
        )
    # An idle service writes nothing. An older `seen_at` is still a time before which nothing was
    # lost.
    if rows := [
        _row(name, group, result.checkpoint)
        for name, result in results.items()
        if result.before is None
        or result.checkpoint != result.before._replace(seen_at=result.checkpoint.seen_at)
    ]:
        await connection.execute(_STORE_CHECKPOINT, rows)
    for name, result in results.items():
        at = result.checkpoint.seen_at
        if result.loss and not await _record(connection, name, result.loss, at):
            results[name] = result._replace(loss=None)
        if result.is_ahead and not await _record_ahead(connection, name, result.checkpoint.last):
            results[name] = results[name]._replace(is_ahead=False)
    return results


def _row(stream: str, group: str, checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "stream": stream,
        "group": group,
        "seen_at": checkpoint.seen_at,
        "added": checkpoint.added,
        "removed": checkpoint.removed,
        "last_id": write(checkpoint.last),
        "settled_id": write(checkpoint.acknowledged),
        "balance": checkpoint.balance,
        "read": checkpoint.read,
    }


async def check(
    connection: AsyncConnection, redis: Redis, streams: Sequence[OrdersStream], group: str
) -> dict[str, CheckResult]:
    """Compare what Redis has of each stream with the stored checkpoint. Writes nothing.

    Streams for which Redis does not answer are left out.
    """
    checkpoints = await _checkpoints(connection, streams, group)
    # An entry counted while the snapshots are taken may be in them or not, so both counts, before
    # and after, are needed as bounds.
    before = await _count_read(connection, streams)
    snapshots = await asyncio.gather(
        *(_snapshot(redis, stream.name, group, checkpoints) for stream in streams)
    )
    after = await _count_read(connection, streams)
    results = dict[str, CheckResult]()
    for stream, snapshot, read_before, (read_after, at) in zip(
        streams, snapshots, before, after, strict=True
    ):
        if snapshot is None:
            continue
        checkpoint = checkpoints.get(stream.name)
        least, loss = None, None
        if checkpoint is not None and was_rolled_back(checkpoint, snapshot):
            remainder = await _answer(read_remainder(redis, stream.name, checkpoint.last))
            if remainder is None:
                continue
            loss = find_rolled_back(checkpoint, snapshot, remainder, read_after)
        elif checkpoint is not None:
            loss = find_removed(checkpoint, snapshot, read_after)
            # The rest of a loss shows when the entries that workers hold have been counted.
            least = checkpoint.balance - ((loss.entries or 0) if loss else 0)
        following = next_checkpoint(snapshot, at, read_before.entries, least)
        results[stream.name] = CheckResult(checkpoint, following, loss, snapshot.is_ahead)
    return results


class _ReadCount(NamedTuple):
    """How many entries of a stream had been counted as read at a moment."""

    entries: int
    at: datetime


async def _count_read(
    connection: AsyncConnection, streams: Sequence[OrdersStream]
) -> list[_ReadCount]:
    partitions = [stream.partition for stream in streams]
    rows = await connection.execute(_COUNT_READ, {"partitions": partitions})
    return [_ReadCount(row.entries, row.now) for row in rows]


async def _snapshot(
    redis: Redis, stream: str, group: str, checkpoints: Mapping[str, Checkpoint]
) -> StreamSnapshot | None:
    last_seen = checkpoints[stream].last if stream in checkpoints else NO_ID
    return await _answer(take_snapshot(redis, stream, group, last_seen))


async def _answer(question: Awaitable[T]) -> T | None:
    """Wait for Redis's answer. None if there is none in time."""
    try:
        async with asyncio.timeout(_REDIS_SECONDS):
            return await question
    except REDIS_ERRORS:
        return None


async def _checkpoints(
    connection: AsyncConnection, streams: Sequence[OrdersStream], group: str
) -> dict[str, Checkpoint]:
    names = [stream.name for stream in streams]
    rows = await connection.execute(_CHECKPOINTS, {"streams": names, "group": group})
    return {
        row.stream: Checkpoint(
            row.seen_at,
            row.added,
            row.removed,
            parse(row.last_id),
            parse(row.settled_id),
            row.balance,
            row.read,
        )
        for row in rows
    }


async def acknowledged_ids(
    connection: AsyncConnection, streams: Sequence[OrdersStream], group: str
) -> dict[str, StreamId]:
    """Return, by stream, the id up to which every entry was acknowledged at the last check.

    Streams that were never checked are left out.
    """
    checkpoints = await _checkpoints(connection, streams, group)
    return {name: checkpoint.acknowledged for name, checkpoint in checkpoints.items()}


async def _record(connection: AsyncConnection, stream: str, loss: Loss, at: datetime) -> bool:
    """Record a loss; return False if it continues one that is recorded."""
    row: dict[str, Any] = {
        "stream": stream,
        "kind": loss.kind.value,
        "after_id": write(loss.after),
        "until_id": write(loss.until),
        "entries": loss.entries,
        "since": loss.since,
        "at": at,
    }
    if (await connection.execute(_EXTEND_LOSS, row)).rowcount:
        return False
    await connection.execute(_ADD_LOSS, row)
    return True


async def _record_ahead(connection: AsyncConnection, stream: str, last: StreamId) -> bool:
    """Record that a stream's ids lie in the future; return False if that is recorded."""
    noticed = Noticed(last, "its last id lies in the future", b"")
    return await foreign_entries.record(connection, stream, ForeignKind.AHEAD, [noticed], entries=0)


async def recorded_losses(
    connection: AsyncConnection, *, most: int = 50, open_only: bool = False
) -> Sequence[RecordedLoss]:
    """Return recorded losses, the latest first."""
    rows = await connection.execute(_LOSSES, {"most": most, "open_only": open_only})
    return [RecordedLoss(*row)._replace(kind=LossKind(row.kind)) for row in rows]


async def summary(connection: AsyncConnection) -> LossSummary:
    """Count the recorded losses."""
    return LossSummary(*(await connection.execute(_SUMMARY)).one())


async def accounted_for(
    connection: AsyncConnection, streams: Sequence[OrdersStream]
) -> dict[str, int]:
    """Return, by stream, how many entries were counted as read or recorded as removed.

    Acknowledged losses count as well.
    """
    removed = {row.stream: row.entries for row in await connection.execute(_REMOVED)}
    read = await _count_read(connection, streams)
    return {
        stream.name: counted.entries + (removed.get(stream.name) or 0)
        for stream, counted in zip(streams, read, strict=True)
    }


async def acknowledge(connection: AsyncConnection, loss_id: int, by: str) -> bool:
    """Acknowledge a loss in somebody's name; return False if no open loss has this id."""
    acknowledged = await connection.execute(_ACKNOWLEDGE, {"id": loss_id, "by": by})
    if acknowledged.rowcount:
        await note(connection, by, "loss.acknowledged", details={"loss": loss_id})
    return bool(acknowledged.rowcount)
