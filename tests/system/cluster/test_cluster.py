"""On a cluster slots move, masters die and replicas take over; each order is applied or lost."""

import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from service.core.loss_arithmetic import LossKind
from service.db.operations import losses
from service.streams import groups, redis_client
from tests.conftest import Service
from tests.integration.db.ingest.test_model import stored
from tests.integration.worker.scene import (
    acknowledge_losses,
    all_published,
    in_order_without_holes,
    open_losses,
    totals,
    working,
)
from tests.model import world
from tests.processes import Process, Processes, processes
from tests.system.cluster.conftest import OnCluster
from tests.system.cluster.nodes import disconnect
from tests.system.cluster.scene import Shop, all_read
from tests.wait import until

pytestmark = pytest.mark.timeout(400)
_SLOW = 120.0
_REPLICATED = 5.0
"""Seconds. What a master accepted longer than this before its death, its replica has too; what it
accepted later is published again."""


async def _applied(service: Service, entries: int) -> None:
    async def done() -> bool:
        return (await totals(service)).read >= entries

    await until(done, _SLOW)


async def _worker(crm: Processes, service: Service) -> Process:
    return await crm.worker(
        redis_cluster="true",
        orders_partitions=service.config.orders_partitions,
        reclaim_idle_seconds=2,
    )


async def test_orders_survive_moving_slots_and_a_dead_master(
    on_cluster: OnCluster, tmp_path: Path
) -> None:
    service, cluster = on_cluster
    shop = Shop(service)
    names = [stream.name for stream in service.config.orders_streams]
    async with processes(service.servers, tmp_path) as crm:
        worker = await _worker(crm, service)
        async with shop.publishing():
            await _applied(service, 200)
            for stream in (names[1], names[2], service.config.changes_stream):
                await cluster.move(stream)
                await shop.more(50)
            await _applied(service, 400)

            victim = await cluster.owner(names[2])
            victim.kill()
            died = time.monotonic()
            await cluster.taken_over(victim, names[2])
            await shop.more(200)
        assert shop.refusals, "no publisher noticed the death"
        await shop.send_again(died - _REPLICATED)
        await all_read(service)
        await all_published(service, _SLOW)
        assert worker.status is None, worker.output

        expected = world([sent.document for sent in shop.sent], datetime.now(UTC))
        assert await stored(service) == expected
        await in_order_without_holes(service)

        # If the replica was behind, that is a loss of streams on this master, and it was published
        # again.
        for loss in await open_losses(service):
            assert loss.kind is LossKind.ROLLED_BACK
        await acknowledge_losses(service)
        assert await service.findings() == []
        assert await worker.terminate() == 0


async def test_entries_that_a_replica_lacked_are_a_loss_and_can_be_published_again(
    on_cluster: OnCluster,
) -> None:
    service, cluster = on_cluster
    shop = Shop(service)
    stream = service.config.orders_streams[1].name
    master = await cluster.owner(stream)
    replica = await cluster.replica_of(master)
    await cluster.move(service.config.changes_stream, master)
    await shop.send(shop.next() for _ in range(40))
    async with working(service):
        await all_read(service)
        await all_published(service, _SLOW)
        replica.send(signal.SIGSTOP)
        await master.command("CLIENT", "KILL", "TYPE", "replica")
        await shop.send(shop.next() for _ in range(40))
        await all_read(service)
        await all_published(service, _SLOW)
    assert await service.findings() == []

    # Everything so far is applied. Nobody reads the next entries before the master dies.
    before = len(shop.sent)
    for _ in range(5):
        await shop.put(stream, shop.next())
    async with service.engine.begin() as connection:
        await losses.check_and_record(
            connection,
            service.redis,
            service.config.orders_streams,
            service.config.orders_group,
        )
    master.kill()
    replica.send(signal.SIGCONT)
    assert await cluster.taken_over(master, stream) is replica

    async with working(service):
        await until(lambda: _has_open_losses(service), _SLOW)
        found = {loss.stream: (loss.kind, loss.entries) for loss in await open_losses(service)}
        assert found.pop(stream) == (LossKind.ROLLED_BACK, 5)
        assert {kind for kind, _ in found.values()} <= {LossKind.ROLLED_BACK}
        for sent in shop.sent[before:]:
            await shop.put(sent.stream, sent.document)
        await all_read(service)
        await all_published(service, _SLOW)
    expected = world([sent.document for sent in shop.sent], datetime.now(UTC))
    assert await stored(service) == expected
    await in_order_without_holes(service)
    await acknowledge_losses(service)
    assert await service.findings() == []


async def _has_open_losses(service: Service) -> bool:
    return bool(await open_losses(service))


async def test_other_partitions_are_read_while_a_master_and_its_replica_are_dead(
    on_cluster: OnCluster, tmp_path: Path
) -> None:
    service, cluster = on_cluster
    plain, *partitions = (stream.name for stream in service.config.orders_streams)
    shop = Shop(service)
    async with processes(service.servers, tmp_path) as crm:
        worker = await _worker(crm, service)
        for name in partitions:
            await shop.put(name, shop.next())
        await _applied(service, len(partitions))
        gone = await cluster.owner(partitions[0])
        left = [name for name in (plain, *partitions) if await cluster.owner(name) is not gone]
        (await cluster.replica_of(gone)).kill()
        gone.kill()
        for name in left:
            await shop.put(name, shop.next())
        await _applied(service, len(partitions) + len(left))
        status, health = await worker.ask("/readyz")
        assert status == 503, health


async def test_a_reader_outlives_the_node_that_it_asked_first(on_cluster: OnCluster) -> None:
    """A client that only reads: no other command makes it find another node."""
    service, cluster = on_cluster
    group, names = (
        service.config.orders_group,
        [stream.name for stream in service.config.orders_streams],
    )
    reader: Any = redis_client.connect(cluster.url, cluster=True)
    try:
        await groups.ensure_group(reader, names[0], group)
        first = reader.get_default_node().port
        node = next(node for node in cluster.nodes if node.port == first)
        stream, *_ = [name for name in names if await cluster.owner(name) is not node]
        await groups.ensure_group(reader, stream, group)
        await reader.xreadgroup(group, "me", {stream: ">"}, count=1)
        node.kill()
        for _ in range(3):
            assert await reader.xreadgroup(group, "me", {stream: ">"}, count=1) == []
    finally:
        await disconnect(reader)


async def test_a_slot_without_a_master_stops_nothing_else(on_cluster: OnCluster) -> None:
    service, cluster = on_cluster
    await cluster.abandon(key_slot(b"of no stream"))
    newcomer = redis_client.connect(cluster.url, cluster=True)
    try:
        for stream in service.config.orders_streams:
            await groups.ensure_group(newcomer, stream.name, service.config.orders_group)
    finally:
        await disconnect(newcomer)


async def test_the_settings_of_every_master_are_checked(on_cluster: OnCluster) -> None:
    service, cluster = on_cluster
    assert await redis_client.warn_of_unsafe_settings(service.redis) == []
    await cluster.nodes[1].command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    await cluster.nodes[2].command("CONFIG", "SET", "cluster-require-full-coverage", "yes")
    warnings = await redis_client.warn_of_unsafe_settings(service.redis)
    assert ["allkeys-lru" in warnings[0], "require-full-coverage" in warnings[1]] == [True, True]
