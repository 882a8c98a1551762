"""Clients of Redis: options, the errors that they raise, scripts, and checks of server settings.

The rest of the service need not know whether this is a cluster: a command goes to the master that
holds the stream it names. So no command may name two streams.
"""

import contextlib
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
from service.core.printable import printable_bytes
from service.streams import connections

log = logging.getLogger(__name__)

_RECORDS_IDLE_READERS_SINCE = (7, 2)
REDIS_ERRORS = (RedisError, RedisClusterException, OSError, TimeoutError)
"""The errors that are raised when Redis, or the network on the way to it, is at fault."""


def connection_options(retries: int = 5) -> dict[str, Any]:
    """Return the options that all our clients share.

    Retrying is safe. Entries of the out-streams have explicit ids, so none gets in twice. An order
    event that a web process adds twice has the same event id, so the second one changes nothing. A
    server that has become a read-only replica is tried again, too, with pauses: its name may lead
    to the new master by then.
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
    """Build a client. It connects when it is first used, and again after a loss."""
    options = connection_options(retries)
    if cluster:
        return cast("Redis", connections.cluster(url, **options))
    redis = Redis.from_url(url, **options)
    redis.connection_pool.connection_class = connections.connection_class(url)
    return redis


def configured(config: Config, retries: int = 5) -> Redis:
    """Build a client of the configured Redis or cluster."""
    return connect(config.redis_url or "", retries, cluster=config.redis_cluster)


def is_away(error: BaseException) -> bool:
    """Return True if a server does not answer, False if it refused the command.

    A cluster that has no master for a slot counts as away.
    """
    return isinstance(error, ClusterError) or not isinstance(error, ResponseError)


def described(error: BaseException) -> str:
    """Return the class of an error, and what Redis said if it refused the command.

    Its first word is a code, such as OOM, READONLY, NOPERM or WRONGTYPE.
    """
    name = type(error).__name__
    code = str(error).partition(" ")[0]
    return f"{name} {code}" if isinstance(error, ResponseError) and code.isupper() else name


class Script:
    """A Lua script that works on one stream.

    Redis keeps scripts by their hashes. The text is sent only to a master that does not know the
    hash. redis-py's own scripts load the text everywhere first, which fails if any master of a
    cluster is away.
    """

    def __init__(self, text: str) -> None:
        """Keep the text and compute its hash."""
        self._text = text
        self._hash = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, redis: Redis, stream: str, *arguments: bytes | str | float) -> Any:
        """Run the script where the stream is: KEYS[1] is the stream, ARGV are the arguments."""
        raw: Any = redis
        try:
            return await raw.evalsha(self._hash, 1, stream, *arguments)
        except NoScriptError:
            return await raw.eval(self._text, 1, stream, *arguments)


async def records_idle_readers(redis: Redis) -> bool:
    """Return True if groups record consumers that read and get nothing, as Redis does since 7.2."""
    raw: Any = redis
    try:
        version = str((await raw.info("server"))["redis_version"])
    except ResponseError:
        return True  # managed servers that refuse INFO are newer
    return tuple(int(part) for part in version.split(".")[:2]) >= _RECORDS_IDLE_READERS_SINCE


async def warn_of_unsafe_settings(redis: Redis) -> list[str]:
    """Log a warning for each server setting that can lose events; return the warnings.

    Settings that this user may not see are not checked.
    """
    advice = []
    if evicting := await _reported(redis, "memory", "maxmemory_policy") - {"noeviction"}:
        advice.append(
            f"Redis evicts ({', '.join(sorted(evicting))}): a full server deletes whole streams. "
            "Set maxmemory-policy noeviction."
        )
    if await _reported(redis, "persistence", "aof_enabled") - {"1"}:
        advice.append(
            "Redis keeps no append-only file: a restart loses events not yet read. "
            "Set appendonly yes."
        )
    if is_cluster(redis) and "yes" in await _configured(redis, "cluster-require-full-coverage"):
        advice.append(
            "A master without a replica to take over stops the whole cluster. "
            "Set cluster-require-full-coverage no."
        )
    for line in advice:
        log.warning(line)
    return advice


def is_cluster(redis: Redis) -> bool:
    """Return True if this is the client of a cluster."""
    return isinstance(redis, RedisCluster)


async def _reported(redis: Redis, section: str, name: str) -> set[str]:
    """Return the values that masters report in INFO; empty if this user may not see them."""
    raw: Any = redis
    with contextlib.suppress(ResponseError):
        answer = await raw.info(section, **_masters(redis))
        return {str(part[name]) for part in _by_master(answer) if name in part}
    return set()


async def _configured(redis: Redis, name: str) -> set[str]:
    """Return the values that masters have of a setting; empty if this user may not see them."""
    raw: Any = redis
    with contextlib.suppress(ResponseError):
        answer = await raw.config_get(name, **_masters(redis))
        return {str(value) for part in _by_master(answer) for value in texts(part).values()}
    return set()


def _masters(redis: Redis) -> dict[str, Any]:
    return {"target_nodes": RedisCluster.PRIMARIES} if is_cluster(redis) else {}


def _by_master(answer: Mapping[Any, Any]) -> list[Mapping[Any, Any]]:
    """Return the answers of a cluster's masters, or the one of a single server."""
    return [part for part in answer.values() if isinstance(part, Mapping)] or [answer]


def texts(info: Mapping[Any, Any]) -> dict[str, Any]:
    """Decode the names and values in Redis's answer.

    Any client may have chosen the name of a group or consumer, so control characters are escaped.
    """
    return {_text(name): _text(value) for name, value in info.items()}


def _text(value: Any) -> Any:
    return printable_bytes(value) if isinstance(value, bytes) else value
