"""FastStream's broker, of one Redis or of a cluster, on connections of ours."""

import logging
from typing import Any

from faststream.redis import RedisBroker, RedisClusterBroker
from faststream.redis.configs.state import RedisClusterConnectionState
from redis.asyncio.cluster import RedisCluster

from service.config import Config, redis_urls
from service.streams import connections, redis_client


class _ClusterState(RedisClusterConnectionState):
    async def connect(self) -> RedisCluster:
        """Make a client of ours."""
        if self._client is None:
            options = {name: value for name, value in self._options.items() if value is not None}
            self._client = connections.Cluster(**options)
            self._connected = True
        return self._client


class _ClusterBroker(RedisClusterBroker):
    def _make_connection_state(
        self, connection_options: dict[str, Any], kwargs: dict[str, Any]
    ) -> _ClusterState:
        del kwargs
        return _ClusterState(connection_options)


def make_broker(config: Config) -> RedisBroker:
    """Make the broker; it connects when it is started."""
    url, *_ = redis_urls(config.redis_url or "")
    options: dict[str, Any] = {
        "apply_types": False,
        "graceful_timeout": config.drain_seconds,
        "logger": logging.getLogger("faststream"),
        "log_level": logging.DEBUG,
        **redis_client.connection_options(),
    }
    if config.redis_cluster:
        nodes = connections.nodes(config.redis_url or "")
        return _ClusterBroker(url, startup_nodes=nodes, **connections.CLUSTER_OPTIONS, **options)
    return RedisBroker(url, connection_class=connections.connection_class(url), **options)
