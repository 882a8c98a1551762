"""Redis: one way to connect, and typed answers to what is asked of its streams.

A cluster is, to everybody else, a Redis of several masters: a command finds the one that holds the
stream it names. So none names two. The client's own annotations allow for every protocol and
decoding there is; here it is bytes in entries and text everywhere else.
"""

import asyncio
import hashlib
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    ClusterError,
    NoScriptError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from service import connections
from service.envelope import Entry
from service.partitions import OrdersStream

log = logging.getLogger(__name__)

_NOTES_EVERY_READER = (7, 2)
_BEYOND_ALL = "18446744073709551615"
"""No pending entry comes after it, so that asking for those delivers none again."""
REDIS_ERRORS = (RedisError, RedisClusterException, OSError, TimeoutError)
"""What talking to Redis may raise when Redis, not we, is at fault."""


def connection_options(retries: int = 5) -> dict[str, Any]:
    """Give the options that every client of ours shares.

    Retrying is safe because nothing in the service adds an entry without an explicit id. A server
    that became a read-only replica is retried, too, with pauses: its name may lead to the new
    master by then.
    """
    return {
        "retry": Retry(ExponentialBackoff(cap=1.0, base=0.05), retries),
        "retry_on_error": [ReadOnlyError],
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "health_check_interval": 15,
        "protocol": 2,
    }


def connect(url: str, retries: int = 5, *, cluster: bool = False) -> Redis:
    """Make a client; it connects when first used, and again whenever it must."""
    options = connection_options(retries)
    if cluster:
        return cast("Redis", connections.cluster(url, **options))
    redis = Redis.from_url(url, **options)
    redis.connection_pool.connection_class = connections.connection_class(url)
    return redis


def is_away(error: BaseException) -> bool:
    """Tell a server that does not answer, or a cluster that does without one, from a refusal."""
    return isinstance(error, ClusterError) or not isinstance(error, ResponseError)


class Script:
    """A Lua script on one stream.

    Redis keeps it by its hash. A master that does not know it, because it is new, is sent all of
    it: to load it everywhere first, as the client would, takes every master of a cluster.
    """

    def __init__(self, text: str) -> None:
        """Declare it."""
        self._text = text
        self._hash = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, redis: Redis, stream: str, *arguments: bytes | str | float) -> Any:
        """Run it where the stream is."""
        raw: Any = redis
        try:
            return await raw.evalsha(self._hash, 1, stream, *arguments)
        except NoScriptError:
            return await raw.eval(self._text, 1, stream, *arguments)


async def ensure_group(redis: Redis, stream: str, group: str) -> None:
    """Create the group at the stream's beginning, so that nothing published before is skipped."""
    try:
        await redis.xgroup_create(stream, group, id="0", mkstream=True)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise


async def notes_every_reader(redis: Redis) -> bool:
    """Tell whether a group knows of consumers who ask and get nothing: Redis does since 7.2."""
    raw: Any = redis
    try:
        version = str((await raw.info("server"))["redis_version"])
    except ResponseError:
        return True  # managed servers that refuse INFO are younger
    return tuple(int(part) for part in version.split(".")[:2]) >= _NOTES_EVERY_READER


async def show_presence(redis: Redis, stream: str, group: str, consumer: str) -> None:
    """Have the group note that the consumer is there; it is given nothing."""
    raw: Any = redis
    await raw.xreadgroup(group, consumer, {stream: _BEYOND_ALL}, count=1)


async def warn_of_unsafe_settings(redis: Redis) -> list[str]:
    """Say which settings of the server can lose events; each is logged as a warning, too."""
    try:
        settings = await _settings(
            redis, "maxmemory-policy", "appendonly", "cluster-require-full-coverage"
        )
    except ResponseError:
        return []  # managed servers refuse CONFIG; there is nothing to say
    advice = []
    if evicting := settings["maxmemory-policy"] - {"noeviction"}:
        advice.append(
            f"Redis evicts ({', '.join(sorted(evicting))}): a full server deletes whole streams. "
            "Set maxmemory-policy noeviction."
        )
    if settings["appendonly"] - {"yes"}:
        advice.append(
            "Redis keeps no append-only file: a restart loses events not yet read. "
            "Set appendonly yes."
        )
    if is_cluster(redis) and "yes" in settings["cluster-require-full-coverage"]:
        advice.append(
            "A master without a replica to take over stops the whole cluster. "
            "Set cluster-require-full-coverage no."
        )
    for line in advice:
        log.warning(line)
    return advice


def is_cluster(redis: Redis) -> bool:
    """Tell whether the client leads to a cluster."""
    return isinstance(redis, RedisCluster)


async def _settings(redis: Redis, *names: str) -> dict[str, set[str]]:
    """Read settings; of a cluster, those of every master."""
    raw: Any = redis
    where = {"target_nodes": RedisCluster.PRIMARIES} if is_cluster(redis) else {}
    found = dict[str, set[str]]()
    for name in names:
        answer = await raw.config_get(name, **where)
        of_each = [it for it in answer.values() if isinstance(it, Mapping)] or [answer]
        found[name] = {value for it in of_each for value in texts(it).values()}
    return found


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


def texts(info: Mapping[Any, Any]) -> dict[str, Any]:
    """Decode what Redis tells of something."""
    return {_text(name): _text(value) for name, value in info.items()}


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
