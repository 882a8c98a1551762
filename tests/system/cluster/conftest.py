"""A service with partitions, on the Redis of this run or on a cluster of its own."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from service.streams import redis_client
from tests.conftest import Service
from tests.system.cluster.nodes import Cluster, cluster, disconnect

PARTITIONS = 8


class OnCluster(NamedTuple):
    """An empty service and the cluster that it uses."""

    service: Service
    cluster: Cluster


@pytest.fixture
async def partitioned(service: Service) -> Service:
    """Return an empty service with partitions, whose invariants must hold after the test."""
    return with_partitions(service, PARTITIONS)


def with_partitions(service: Service, partitions: int) -> Service:
    """Return the same service with another number of partitions."""
    changed = service.config.model_copy(update={"orders_partitions": partitions})
    return dataclasses.replace(service, config=changed)


@pytest.fixture
async def on_cluster(empty_service: Service, tmp_path: Path) -> AsyncIterator[OnCluster]:
    """Return an empty service with partitions on a cluster that is started for the test."""
    async with cluster(tmp_path) as formed:
        settings = {
            "redis_url": formed.url,
            "redis_cluster": True,
            "orders_partitions": PARTITIONS,
        }
        config = empty_service.config.model_copy(update=settings)
        redis = redis_client.connect(formed.url, cluster=True)
        servers = dataclasses.replace(
            empty_service.servers, redis_url=formed.url, service_redis_url=None, redis=None
        )
        service = dataclasses.replace(empty_service, config=config, redis=redis, servers=servers)
        try:
            yield OnCluster(service, formed)
        finally:
            await disconnect(redis)
