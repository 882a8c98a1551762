"""Connections to one Redis or to the nodes of a cluster. A lost one raises an error to retry.

redis-py tries again only after errors that it knows, such as its own ConnectionError. Two kinds of
lost connections show up as other errors, and workers died of both:

* uvloop answers a write to a connection that the other side has reset with a bare RuntimeError
  (https://github.com/MagicStack/uvloop/issues/685), asyncio with an AttributeError
  (https://github.com/redis/redis-py/issues/4287).
* When a cluster changes, redis-py closes connections that are in use, and looks up nodes that it
  has just forgotten: an AttributeError or a LookupError
  (https://github.com/redis/redis-py/issues/3835).
"""

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import (
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.exceptions import ConnectionError as LostError

from service.config import redis_urls

CLUSTER_OPTIONS: dict[str, Any] = {
    # A slot that no master has must not stop the streams in other slots.
    "require_full_coverage": False,
}

_CLUSTER_CHANGED = (AttributeError, LookupError)


class _LossMixin:
    """Turn errors of the event loop into redis-py's ConnectionError, for lack of a hook."""

    async def send_packed_command(
        self,
        command: bytes | str | Iterable[bytes],
        check_health: bool = True,  # noqa: FBT001, FBT002  redis-py's signature
    ) -> None:
        """Send a command. Raises redis-py's ConnectionError if the connection is lost."""
        connection: Any = super()
        try:
            await connection.send_packed_command(command, check_health)
        except (RuntimeError, AttributeError) as error:
            raise LostError(str(error)) from error


class _Plain(_LossMixin, Connection):
    pass


class _Tls(_LossMixin, SSLConnection):
    pass


class _Unix(_LossMixin, UnixDomainSocketConnection):
    pass


def connection_class(url: str) -> Any:
    """Return the class of connections to a ``redis://``, ``rediss://`` or ``unix://`` URL."""
    return {"rediss": _Tls, "unix": _Unix}.get(url.partition(":")[0], _Plain)


def nodes(url: str) -> list[tuple[str, int]]:
    """Return host and port of each node that a cluster's URL names."""
    parsed = [parse_url(node_url) for node_url in redis_urls(url)]
    return [(node.get("host", "localhost"), int(node.get("port", 6379))) for node in parsed]


class Cluster(RedisCluster):
    """A cluster's client that uses our connections and survives changes of the cluster."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """Create a client; it connects when it is first used.

        The class of connections is set in the nodes, because redis-py has no option for it:
        https://github.com/redis/redis-py/issues/3558
        """
        super().__init__(*args, **options)
        options_of_nodes = self.nodes_manager.connection_kwargs
        tls = options_of_nodes["connection_class"] is SSLConnection
        options_of_nodes["connection_class"] = _Tls if tls else _Plain
        for node in self.nodes_manager.startup_nodes.values():
            node.connection_class = options_of_nodes["connection_class"]

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command. Raises redis-py's ConnectionError if the cluster changed meanwhile."""
        try:
            return await super().execute_command(*args, **kwargs)
        except _CLUSTER_CHANGED as error:
            raise LostError(repr(error)) from error

    async def _determine_slot(self, command: str, *args: Any) -> int:
        """Return the slot of a command, without asking a node which argument is the stream.

        Before every XREADGROUP, redis-py asks a node for this, always the first one it knew. If
        that node dies, it never asks another one, so readers of all streams fail from then on. No
        upstream issue is known. This private method is the only place to answer the question.
        """
        if command == "XREADGROUP":  # the service reads one stream each: ... STREAMS name id
            return int(self.keyslot(args[-2]))
        return int(await super()._determine_slot(command, *args))


def cluster(url: str, **options: Any) -> RedisCluster:
    """Build a client of a cluster. User, password and TLS are those of the first URL."""
    first, *_ = redis_urls(url)
    startup_nodes = [ClusterNode(*node) for node in nodes(url)]
    return Cluster.from_url(first, startup_nodes=startup_nodes, **CLUSTER_OPTIONS, **options)


@contextlib.asynccontextmanager
async def borrowed(redis: Redis, stream: str) -> AsyncIterator[Connection]:
    """Lend a connection to the server that has the stream. It is closed if the block fails.

    Raises redis-py's ConnectionError if the cluster changed meanwhile.
    """
    raw: Any = redis
    try:
        if isinstance(redis, RedisCluster):
            pool: Any = redis.get_node_from_key(stream)
            connection = pool.acquire_connection()
        else:
            pool = raw.connection_pool
            connection = await pool.get_connection()
        try:
            yield connection
        except BaseException:
            # Answers that nobody has read must not be taken for those of the next command.
            await connection.disconnect(nowait=True)
            raise
        finally:
            released = pool.release(connection)
            if released is not None:  # a node of a cluster releases at once
                await released
    except _CLUSTER_CHANGED as error:
        raise LostError(repr(error)) from error
