"""Connections to one Redis or to the nodes of a cluster; losing one raises what redis-py retries.

redis-py tries again only after errors that it knows, such as its own ConnectionError. Two kinds of
lost connections show up as other errors, and workers died of both:

* uvloop answers a write to a connection that the other side has reset with a bare RuntimeError
  (https://github.com/MagicStack/uvloop/issues/685), asyncio with an AttributeError
  (https://github.com/redis/redis-py/issues/4287).
* When a cluster changes, redis-py closes connections that are in use, and looks up nodes that it
  has just forgotten: an AttributeError or a LookupError
  (https://github.com/redis/redis-py/issues/3835).
"""

from collections.abc import Iterable
from typing import Any

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
    """Turns the event loop's errors into redis-py's ConnectionError. There is no hook for that."""

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
    parts = [parse_url(each) for each in redis_urls(url)]
    return [(part.get("host", "localhost"), int(part.get("port", 6379))) for part in parts]


class Cluster(RedisCluster):
    """A cluster's client that uses our connections and survives changes of the cluster."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """Create a client; it connects when it is first used.

        The class of connections is set in the nodes, because redis-py has no option for it:
        https://github.com/redis/redis-py/issues/3558
        """
        super().__init__(*args, **options)
        tls = self.nodes_manager.connection_kwargs["connection_class"] is SSLConnection
        ours = self.nodes_manager.connection_kwargs["connection_class"] = _Tls if tls else _Plain
        for node in self.nodes_manager.startup_nodes.values():
            node.connection_class = ours

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command. Raises redis-py's ConnectionError if the cluster changed meanwhile."""
        try:
            return await super().execute_command(*args, **kwargs)
        except _CLUSTER_CHANGED as error:
            raise LostError(repr(error)) from error

    async def _determine_slot(self, command: str, *args: Any) -> int:
        """Return the slot of a command, without asking a node which argument is the stream.

        Before every XREADGROUP redis-py asks that, and always the node that it met first. When that
        node dies, it never asks another one, so readers of all streams fail for good. No upstream
        issue is known; the private method is the only place to answer the question.
        """
        if command == "XREADGROUP":  # the service reads one stream each: ... STREAMS name id
            return int(self.keyslot(args[-2]))
        return int(await super()._determine_slot(command, *args))


def cluster(url: str, **options: Any) -> RedisCluster:
    """Build a client of a cluster; the first URL gives user, password and TLS."""
    first, *_ = redis_urls(url)
    startup_nodes = [ClusterNode(*node) for node in nodes(url)]
    return Cluster.from_url(first, startup_nodes=startup_nodes, **CLUSTER_OPTIONS, **options)
