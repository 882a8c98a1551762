"""Clients of Redis: how they connect, what they may raise, what they ask of the server itself.

A cluster is, to everybody else, a Redis of several masters: a command finds the one that holds the
stream it names. So none names two.
"""

import hashlib
import logging
from collections.abc import Mapping
from typing import Any, cast

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

from service.config import Config
from service.streams import connections

log = logging.getLogger(__name__)

_NOTES_EVERY_READER = (7, 2)
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


def configured(config: Config, retries: int = 5) -> Redis:
    """Make a client of the Redis, or the cluster, that is configured."""
    return connect(config.redis_url or "", retries, cluster=config.redis_cluster)


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


async def notes_every_reader(redis: Redis) -> bool:
    """Tell whether a group knows of consumers who ask and get nothing: Redis does since 7.2."""
    raw: Any = redis
    try:
        version = str((await raw.info("server"))["redis_version"])
    except ResponseError:
        return True  # managed servers that refuse INFO are younger
    return tuple(int(part) for part in version.split(".")[:2]) >= _NOTES_EVERY_READER


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


def texts(info: Mapping[Any, Any]) -> dict[str, Any]:
    """Decode what Redis tells of something."""
    return {_text(name): _text(value) for name, value in info.items()}


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
