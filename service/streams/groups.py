"""Typed answers to what is asked of the streams in Redis.

The client's own annotations allow for every protocol and decoding there is; here it is bytes in
entries and text everywhere else.
"""

import asyncio
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import (
    ResponseError,
)

from service.core.envelope import Entry
from service.core.partitions import OrdersStream
from service.streams.redis_client import texts

log = logging.getLogger(__name__)

_BEYOND_ALL = "18446744073709551615"
"""No pending entry comes after it, so that asking for those delivers none again."""


async def ensure_group(redis: Redis, stream: str, group: str) -> None:
    """Create the group at the stream's beginning, so that nothing published before is skipped."""
    try:
        await redis.xgroup_create(stream, group, id="0", mkstream=True)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise


async def show_presence(redis: Redis, stream: str, group: str, consumer: str) -> None:
    """Have the group note that the consumer is there; it is given nothing."""
    raw: Any = redis
    await raw.xreadgroup(group, consumer, {stream: _BEYOND_ALL}, count=1)


class Pending(NamedTuple):
    """An entry that was delivered and not acknowledged."""

    id: str
    deliveries: int


class Consumer(NamedTuple):
    """A member of a consumer group."""

    name: str
    pending: int
    idle_seconds: float
    """Since it last asked for entries, got any or not."""


class Backlog(NamedTuple):
    """How far behind a group is on one stream, or on several together."""

    lag: int | None
    """Entries not yet read. None: Redis cannot tell after entries were deleted."""
    pending: int
    """Entries read and not yet acknowledged."""
    entries_read: int
    oldest_pending_seconds: float
    quietest_seconds: float | None
    """Since any consumer last asked for entries; of the stream where that is longest ago.

    None: there is none, on one of the streams at least.
    """
    consumers: Sequence[Consumer]


_NOTHING = Backlog(0, 0, 0, 0.0, None, ())


async def backlogs(redis: Redis, orders: Iterable[OrdersStream], group: str) -> dict[str, Backlog]:
    """Ask of each stream, by name, how far behind the group is."""
    names = [stream.name for stream in orders]
    found = await asyncio.gather(*(backlog(redis, name, group) for name in names))
    return dict(zip(names, found, strict=True))


def together(each: Mapping[str, Backlog]) -> Backlog:
    """Add up the backlogs of several streams; a consumer that reads more than one counts once."""
    parts = each.values()
    lags = [part.lag for part in parts if part.lag is not None]
    quietest = [part.quietest_seconds for part in parts if part.quietest_seconds is not None]
    members = dict[str, Consumer]()
    for member in (member for part in parts for member in part.consumers):
        known = members.get(member.name)
        members[member.name] = member._replace(
            pending=member.pending + (known.pending if known else 0),
            idle_seconds=min(member.idle_seconds, known.idle_seconds if known else math.inf),
        )
    return Backlog(
        lag=sum(lags) if len(lags) == len(parts) else None,
        pending=sum(part.pending for part in parts),
        entries_read=sum(part.entries_read for part in parts),
        oldest_pending_seconds=max((part.oldest_pending_seconds for part in parts), default=0.0),
        quietest_seconds=max(quietest) if len(quietest) == len(parts) else None,
        consumers=tuple(members.values()),
    )


async def backlog(redis: Redis, stream: str, group: str) -> Backlog:
    """Ask how far behind the group is; of a missing group, the whole stream is the lag."""
    raw: Any = redis
    try:
        groups = [texts(info) for info in await raw.xinfo_groups(stream)]
        found = next((info for info in groups if info["name"] == group), None)
        if found is None:
            return _NOTHING._replace(lag=int(await raw.xlen(stream)))
        info = texts(await raw.xinfo_stream(stream))
        members = await consumers(redis, stream, group)
        oldest = 0.0
        if found["pending"]:
            waiting = await pending(redis, stream, group, count=1)
            seconds, microseconds = await raw.time()
            if waiting:
                taken = Entry(waiting[0].id, {}).milliseconds / 1000
                oldest = max(0.0, seconds + microseconds / 1e6 - taken)
    except ResponseError as error:
        if "no such key" in str(error) or "NOGROUP" in str(error):
            return _NOTHING
        raise
    # Redis 7.0 goes on counting what was trimmed before it was read.
    lag = found.get("lag")
    if found["last-delivered-id"] == info["last-generated-id"]:
        lag = 0
    elif lag is not None:
        lag = min(lag, info["length"])
    return Backlog(
        lag=lag,
        pending=found["pending"],
        entries_read=found.get("entries-read") or 0,
        oldest_pending_seconds=oldest,
        quietest_seconds=min((member.idle_seconds for member in members), default=None),
        consumers=members,
    )


async def consumers(redis: Redis, stream: str, group: str) -> list[Consumer]:
    """List the group's consumers."""
    raw: Any = redis
    members = [texts(info) for info in await raw.xinfo_consumers(stream, group)]
    return [Consumer(info["name"], info["pending"], info["idle"] / 1000) for info in members]


async def pending(
    redis: Redis,
    stream: str,
    group: str,
    *,
    after: str | None = None,
    idle_ms: int | None = None,
    count: int,
) -> list[Pending]:
    """List pending entries in order of id, those idle for ``idle_ms`` or longer."""
    raw: Any = redis
    start = f"({after}" if after else "-"
    found = await raw.xpending_range(stream, group, start, "+", count, idle=idle_ms)
    return [Pending(info["message_id"].decode(), info["times_delivered"]) for info in found]


async def claim(
    redis: Redis, stream: str, group: str, consumer: str, idle_ms: int, ids: Sequence[str]
) -> list[Entry]:
    """Make these entries the consumer's, unless somebody was quicker or they are gone."""
    raw: Any = redis
    return _entries(await raw.xclaim(stream, group, consumer, idle_ms, list(ids)))


async def own_pending(
    redis: Redis, stream: str, group: str, consumer: str, *, after: str, count: int
) -> list[Entry]:
    """Read again what this consumer was given and has not acknowledged, beyond id ``after``."""
    raw: Any = redis
    answer = await raw.xreadgroup(group, consumer, {stream: after}, count=count)
    return _entries(answer[0][1]) if answer else []


async def read_range(redis: Redis, stream: str, start: str, end: str, count: int) -> list[Entry]:
    """Read entries between two ids."""
    raw: Any = redis
    return _entries(await raw.xrange(stream, start, end, count=count))


async def last_id(redis: Redis, stream: str) -> int:
    """Give the first half of the last id ever added, trimmed since or not; 0: no such stream."""
    raw: Any = redis
    try:
        info = texts(await raw.xinfo_stream(stream))
    except ResponseError as error:
        if "no such key" in str(error):
            return 0
        raise
    return Entry(info["last-generated-id"], {}).milliseconds


def _entries(found: Sequence[tuple[bytes, dict[bytes, bytes] | None]]) -> list[Entry]:
    """Leave out what was deleted from the stream while it was pending: it has no fields."""
    return [Entry(id_.decode(), fields) for id_, fields in found if fields]
