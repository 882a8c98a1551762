"""Redis connections that call a loss by its name, to one server or to the nodes of a cluster.

uvloop answers a write to a connection that the other side has reset with a bare RuntimeError.
redis-py takes that for nobody's fault in particular and does not try again: workers died of it.
And where a cluster changes, redis-py closes connections under those who use them, and looks for
nodes that it has just forgotten: that ends in an AttributeError or a LookupError.
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
    # Slots that nobody has stop nothing that is in others.
    "require_full_coverage": False,
}

_ASTRAY = (AttributeError, LookupError)


class _Named:
    """Mixed into redis-py's connections."""

    async def send_packed_command(
        self,
        command: bytes | str | Iterable[bytes],
        check_health: bool = True,  # noqa: FBT001, FBT002  redis-py's signature
    ) -> None:
        """Send a command. Raises redis-py's ConnectionError, which it retries, on a loss."""
        connection: Any = super()
        try:
            await connection.send_packed_command(command, check_health)
        except (RuntimeError, AttributeError) as error:
            raise LostError(str(error)) from error


class _Plain(_Named, Connection):
    pass


class _Tls(_Named, SSLConnection):
    pass


class _Unix(_Named, UnixDomainSocketConnection):
    pass


def connection_class(url: str) -> Any:
    """Give the class of connections to a ``redis://``, ``rediss://`` or ``unix://`` URL."""
    return {"rediss": _Tls, "unix": _Unix}.get(url.partition(":")[0], _Plain)


def nodes(url: str) -> list[tuple[str, int]]:
    """Give host and port of each node that a cluster's URL names."""
    found = [parse_url(one) for one in redis_urls(url)]
    return [(one.get("host", "localhost"), int(one.get("port", 6379))) for one in found]


class Cluster(RedisCluster):
    """A cluster's client that finds its way again."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """Declare it, with connections of ours: there is no option for that."""
        super().__init__(*args, **options)
        tls = self.nodes_manager.connection_kwargs["connection_class"] is SSLConnection
        ours = self.nodes_manager.connection_kwargs["connection_class"] = _Tls if tls else _Plain
        for node in self.nodes_manager.startup_nodes.values():
            node.connection_class = ours

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command. Raises redis-py's ConnectionError where it went astray."""
        try:
            return await super().execute_command(*args, **kwargs)
        except _ASTRAY as error:
            raise LostError(repr(error)) from error

    async def _determine_slot(self, command: str, *args: Any) -> int:
        """Find the slot of a command, without asking which of its words is the stream.

        redis-py asks that of one node before every XREADGROUP, and, when that node has died, never
        looks for another: readers of all streams fail for good.
        """
        if command == "XREADGROUP":  # of one stream: ... STREAMS name id
            return int(self.keyslot(args[-2]))
        return int(await super()._determine_slot(command, *args))


def cluster(url: str, **options: Any) -> RedisCluster:
    """Make a client of a cluster; user, password and TLS are those of the first URL."""
    first, *_ = redis_urls(url)
    found = [ClusterNode(*node) for node in nodes(url)]
    return Cluster.from_url(first, startup_nodes=found, **CLUSTER_OPTIONS, **options)
