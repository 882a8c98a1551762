"""FastStream's broker, which reads through a `Reader` of ours instead of with plain XREADGROUP.

FastStream builds redis-py's own clients and has no option for others; cluster support came with
https://github.com/ag2ai/faststream/pull/2854. No upstream issue asks for the option. So the state
of the connection, which FastStream makes in a private method, is replaced.
"""

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from faststream.redis import RedisBroker, RedisClusterBroker
from faststream.redis.configs.state import RedisClusterConnectionState, RedisConnectionState
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from consumers.reader import Reader
from service.config import Config, redis_urls
from service.streams import connections, redis_client


class _PlainState(RedisConnectionState):
    __slots__ = ("reader",)

    reader: Reader

    async def connect(self) -> Any:
        """Return a client that reads through our reader; it connects when it is first used."""
        client: Any = await super().connect()
        client.xreadgroup = partial(_read, self.reader, client)
        return client


class _ClusterState(RedisClusterConnectionState):
    __slots__ = ("reader",)

    reader: Reader

    async def connect(self) -> RedisCluster:
        """Return a client of ours that reads through our reader; it connects when first used."""
        if self._client is None:
            options = {name: value for name, value in self._options.items() if value is not None}
            client: Any = connections.Cluster(**options)
            client.xreadgroup = partial(_read, self.reader, client)
            self._client, self._connected = client, True
        return self._client


async def _read(
    reader: Reader, redis: Redis, *, streams: Mapping[str, str], block: int, **_: object
) -> list[tuple[bytes, list[tuple[bytes, Any]]]]:
    """Return new entries of one stream as FastStream expects them of redis-py: stream, id, fields.

    A whole page stands in place of one entry's fields, because FastStream only passes it on. Group
    and consumer are known to the reader, and its own limits hold.
    """
    (stream,) = streams
    page = await reader.read(redis, stream, block / 1000)
    return [(stream.encode(), [(page[-1].id.encode(), page)])] if page else []


class _PlainBroker(RedisBroker):
    def _make_connection_state(
        self, connection_options: dict[str, Any], kwargs: dict[str, Any]
    ) -> _PlainState:
        del kwargs
        return _PlainState(connection_options)


class _ClusterBroker(RedisClusterBroker):
    def _make_connection_state(
        self, connection_options: dict[str, Any], kwargs: dict[str, Any]
    ) -> _ClusterState:
        del kwargs
        return _ClusterState(connection_options)


def make_broker(config: Config, reader: Reader) -> RedisBroker:
    """Build FastStream's broker for one Redis or a cluster. It connects when it is started."""
    url, *_ = redis_urls(config.redis_url or "")
    options: dict[str, Any] = {
        "apply_types": False,
        "graceful_timeout": config.drain_seconds,
        "logger": logging.getLogger("faststream"),
        "log_level": logging.DEBUG,
        **redis_client.connection_options(),
    }
    broker: RedisBroker
    if config.redis_cluster:
        nodes = connections.nodes(config.redis_url or "")
        broker = _ClusterBroker(url, startup_nodes=nodes, **connections.CLUSTER_OPTIONS, **options)
    else:
        broker = _PlainBroker(url, connection_class=connections.connection_class(url), **options)
    state: Any = broker.config.broker_config.connection
    state.reader = reader
    return broker
