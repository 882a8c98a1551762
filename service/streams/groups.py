"""Consumer groups: create them, and measure how far behind they are.

redis-py's annotations allow for every protocol and decoding. Here entries are bytes, and everything
else is text.
"""

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from service.config import Config
from service.core.envelope import Entry
from service.core.partitions import OrdersStream
from service.core.stream_ids import parse
from service.streams.redis_client import texts
from service.streams.stream_info import stream_info

_AFTER_ALL_IDS = "18446744073709551615"
"""No entry has a greater id, so asking for pending entries beyond it delivers none."""


async def ensure_group(redis: Redis, stream: str, group: str) -> None:
    """Create the group at the stream's first entry, unless it exists.

    Nothing that was published before the first worker started is skipped.
    """
    try:
        await redis.xgroup_create(stream, group, id="0", mkstream=True)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise


async def show_presence(redis: Redis, stream: str, group: str, consumer: str) -> None:
    """Register the consumer with the group, by a read that returns nothing."""
    raw: Any = redis
    await raw.xreadgroup(group, consumer, {stream: _AFTER_ALL_IDS}, count=1)


class Pending(NamedTuple):
    """An entry that was delivered and not acknowledged."""

    id: str
    deliveries: int
    consumer: str
    """Who received it last."""


class Consumer(NamedTuple):
    """A member of a consumer group."""

    name: str
    """Its name with control characters escaped."""
    pending: int
    idle_seconds: float
    """Seconds since it last asked for entries, whether it got any or not."""
    raw_name: bytes
    """Its name as Redis knows it."""


class Backlog(NamedTuple):
    """How far behind a group is on one stream, or on several together."""

    lag: int | None
    """Entries not yet read. None: Redis cannot tell after entries were deleted."""
    pending: int
    """Entries read and not yet acknowledged."""
    entries_read: int
    oldest_pending_seconds: float
    quietest_seconds: float | None
    """Seconds since any consumer last asked for entries. For several streams: the longest time.

    None: at least one stream has no consumer.
    """
    consumers: Sequence[Consumer]


_NOTHING = Backlog(0, 0, 0, 0.0, None, ())

ANSWER_SECONDS = 1.0
"""How long a page, a probe or a scrape waits for Redis. The timeout of the client is much longer,
and the client tries again after it, because workers have nothing better to do than wait."""


async def prompt_backlogs(redis: Redis, config: Config) -> dict[str, Backlog]:
    """Return, by stream, how far behind the workers are.

    Raises TimeoutError if Redis has not answered after ANSWER_SECONDS.
    """
    async with asyncio.timeout(ANSWER_SECONDS):
        return await backlogs(redis, config.orders_streams, config.orders_group)


async def backlogs(redis: Redis, orders: Iterable[OrdersStream], group: str) -> dict[str, Backlog]:
    """Return, by stream, how far behind the group is."""
    names = [stream.name for stream in orders]
    parts = await asyncio.gather(*(backlog(redis, name, group) for name in names))
    return dict(zip(names, parts, strict=True))


def add_up(by_stream: Mapping[str, Backlog]) -> Backlog:
    """Add up the backlogs of several streams. A consumer that reads several counts once."""
    parts = by_stream.values()
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
    """Return how far behind the group is. If there is no group, the whole stream is its lag."""
    raw: Any = redis
    try:
        groups = [texts(info) for info in await raw.xinfo_groups(stream)]
        group_info = next((info for info in groups if info["name"] == group), None)
        if group_info is None:
            return _NOTHING._replace(lag=int(await raw.xlen(stream)))
        length, last = await stream_info(redis, stream)
        members = await consumers(redis, stream, group)
        oldest = 0.0
        if group_info["pending"]:
            first = await pending(redis, stream, group, count=1)
            seconds, microseconds = await raw.time()
            if first:
                published = Entry(first[0].id, {}).milliseconds / 1000
                oldest = max(0.0, seconds + microseconds / 1e6 - published)
    except ResponseError as error:
        if "no such key" in str(error) or "NOGROUP" in str(error):
            return _NOTHING
        raise
    # In Redis 7.0, the lag still includes entries that were trimmed before they were read.
    lag = group_info.get("lag")
    if parse(group_info["last-delivered-id"]) == last:
        lag = 0
    elif lag is not None:
        lag = min(lag, length)
    return Backlog(
        lag=lag,
        pending=group_info["pending"],
        entries_read=group_info.get("entries-read") or 0,
        oldest_pending_seconds=oldest,
        quietest_seconds=min((member.idle_seconds for member in members), default=None),
        consumers=members,
    )


async def consumers(redis: Redis, stream: str, group: str) -> list[Consumer]:
    """Return the group's consumers."""
    raw: Any = redis
    return [
        Consumer(texts(info)["name"], info["pending"], info["idle"] / 1000, info["name"])
        for info in await raw.xinfo_consumers(stream, group)
    ]


async def pending(
    redis: Redis,
    stream: str,
    group: str,
    *,
    after: str | None = None,
    idle_ms: int | None = None,
    count: int,
) -> list[Pending]:
    """Return pending entries that were idle for at least ``idle_ms``, in the order of their ids."""
    raw: Any = redis
    start = f"({after}" if after else "-"
    answer = await raw.xpending_range(stream, group, start, "+", count, idle=idle_ms)
    return [
        Pending(
            info["message_id"].decode(),
            info["times_delivered"],
            info["consumer"].decode(errors="replace"),
        )
        for info in answer
    ]


async def last_number(redis: Redis, stream: str) -> int:
    """Return the first half of the last id ever added, even if trimmed since. 0: no stream.

    On the out-stream it is the publish number of the last change.
    """
    return (await stream_info(redis, stream)).last[0]
