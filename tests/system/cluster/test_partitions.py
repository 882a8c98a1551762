"""Partitions on one Redis: stream and id together identify an entry; all else works as before."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from consumers import chores
from service import metrics
from service.core.envelope import Entry
from service.db.operations import losses
from service.streams import groups, redis_client
from tests.conftest import Service
from tests.events import fields
from tests.integration.cli.conftest import Crm
from tests.integration.db.ingest.test_model import stored
from tests.integration.worker.scene import (
    all_applied,
    all_published,
    in_order_without_holes,
    totals,
    working,
)
from tests.model import world
from tests.reading import deliver
from tests.system.cluster.conftest import with_partitions
from tests.system.cluster.scene import Shop, all_read
from tests.wait import until


async def test_orders_in_any_partition_are_applied_once(
    partitioned: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order's events are in any partition and in the plain stream, and some come twice."""
    monkeypatch.setattr(chores, "_TRIM_SECONDS", 0.05)
    service, shop = partitioned, Shop(partitioned)
    await shop.send(shop.next() for _ in range(600))
    async with working(service, orders_keep_entries=10):
        await shop.send(shop.next() for _ in range(300))
        await shop.send_again(shop.sent[-100].at)
        await all_read(service)
        await all_published(service)
        names = {stream.name for stream in service.config.orders_streams}
        assert await service.findings() == []

        async def trimmed() -> bool:
            return all([await service.redis.xlen(name) <= 110 for name in names])

        await until(trimmed)
    assert {sent.stream for sent in shop.sent} == names
    assert (await totals(service)).read == len(shop.sent)
    assert await stored(service) == world([sent.document for sent in shop.sent], datetime.now(UTC))
    await in_order_without_holes(service)
    assert await service.rows("SELECT * FROM losses") == []


async def test_status_and_metrics_report_each_stream_and_the_total(
    partitioned: Service, tmp_path: Path
) -> None:
    service = partitioned
    raw: Any = service.redis
    for partition in (0, 3, 3):
        await raw.xadd(f"orders:{{{partition}}}", fields("ORD-1"))
    await service.publish(fields("ORD-2"))
    crm = Crm(service.servers, tmp_path)
    settings = {"orders_partitions": service.config.orders_partitions}
    document = (await crm("status", "--json", **settings)).document
    assert (document["lag"], document["pending"]) == (4, 0)
    assert document["lagOf"] == {"orders": 1, "orders:{0}": 1, "orders:{3}": 2}
    text = (await metrics.render(service.config, service.engine, service.redis)).decode()
    assert "crm_lag_entries 4.0" in text
    assert 'crm_stream_lag_entries{stream="orders:{3}"} 2.0' in text
    async with working(service):
        await all_read(service)
        assert (await crm("verify", **settings)).status == 0
    assert "lagOf" not in (await crm("status", "--json")).document


async def test_the_same_id_and_bytes_in_two_partitions_are_two_dead_letters(
    partitioned: Service,
) -> None:
    service = partitioned
    raw: Any = service.redis
    for name in ("orders:{1}", "orders:{2}", "orders"):
        await raw.xadd(name, {b"data": b"not JSON"}, id="7-1")
    async with working(service):
        await all_applied(service, 3)
        await all_read(service)
    letters = await service.rows(
        "SELECT stream_id, partition, attempts FROM dead_letters ORDER BY partition"
    )
    assert letters == [
        {"stream_id": "7-1", "partition": 1, "attempts": 1},
        {"stream_id": "7-1", "partition": 2, "attempts": 1},
        {"stream_id": "7-1", "partition": None, "attempts": 1},
    ]


async def test_a_dead_workers_entries_of_several_partitions_are_taken_over(
    partitioned: Service,
) -> None:
    """The ids are the same in each partition, and a pending entry must not hide another one."""
    service = partitioned
    raw: Any = service.redis
    for stream in service.config.orders_streams:
        order = fields(f"ORD-{stream.partition}", email=f"c{stream.partition}@x.org")
        await raw.xadd(stream.name, order, id="7-1")
        await groups.ensure_group(service.redis, stream.name, service.config.orders_group)
        await deliver(service.redis, stream.name, service.config.orders_group, "dead", count=1)
    entries = len(service.config.orders_streams)
    # On a slow machine an entry may wait in the inbox for longer than a shorter limit. It would be
    # reclaimed, and counted, twice.
    async with working(service, reclaim_idle_seconds=1) as worker:
        worker.applier.being_applied.add((3, "7-1"))
        await _all_applied_but_one(service, entries - 1)
        worker.applier.being_applied.discard((3, "7-1"))
        await all_read(service)

        async def dead_consumer_is_gone() -> bool:
            each = await groups.backlogs(
                service.redis, service.config.orders_streams, service.config.orders_group
            )
            return [member.name for member in groups.add_up(each).consumers] == [worker.name]

        await until(dead_consumer_is_gone)
    assert (await totals(service)).applied == entries


async def _all_applied_but_one(service: Service, entries: int) -> None:
    async def done() -> bool:
        return (await totals(service)).read == entries

    await until(done)
    (group,) = [redis_client.texts(info) for info in await service.redis.xinfo_groups("orders:{3}")]
    assert group["pending"] == 1


@pytest.mark.parametrize("partition", [None, 2])
async def test_a_loss_in_one_stream_is_not_hidden_by_another(
    empty_service: Service, partition: int | None
) -> None:
    service = with_partitions(empty_service, 4)
    raw: Any = service.redis
    stream = next(
        each.name for each in service.config.orders_streams if each.partition == partition
    )
    async with working(service):
        for number, each in enumerate(service.config.orders_streams * 4):
            await raw.xadd(each.name, fields(f"ORD-{number}", email=f"c{number}@x.org"))
        await all_applied(service, 20)
        await all_read(service)
    for number in range(5):
        await raw.xadd(stream, fields(f"ORD-{number}", email=f"c{number}@x.org"))
    await raw.xtrim(stream, maxlen=2, approximate=False)
    # Entries that another stream delivers twice raise the total. That must not hide the loss.
    again = fields("ORD-1", email="c1@x.org")
    await service.ingest(*(Entry(f"{number}-0", again, 1) for number in range(5)))
    (finding,) = await service.findings()
    assert [(loss["stream"], loss["lost"]) for loss in finding.offenders] == [(stream, 3)]
    async with working(service):
        await until(lambda: _losses(service))
        await all_read(service)
    (loss,) = await _losses(service)
    assert (loss.stream, loss.entries) == (stream, 3)


async def _losses(service: Service) -> list[losses.RecordedLoss]:
    async with service.engine.connect() as connection:
        return list(await losses.recorded_losses(connection))


async def test_changing_the_number_of_partitions_loses_nothing(
    service: Service, tmp_path: Path
) -> None:
    """From one stream to two partitions, then to five: nothing is lost or reported as lost."""
    crm = Crm(service.servers, tmp_path)
    sent = []
    for partitions in (1, 2, 5):
        now = with_partitions(service, partitions)
        shop = Shop(now, seed=partitions)
        await shop.send(shop.next() for _ in range(60)) if partitions > 1 else None
        for number in range(20):
            await service.publish(fields(f"PLAIN-{partitions}-{number}", email="plain@x.org"))
        sent += shop.sent
        async with working(now):
            await all_read(now)
            await all_published(now)
            assert (await crm("verify", orders_partitions=partitions)).status == 0
    assert (await totals(service)).read == len(sent) + 60
    assert await service.rows("SELECT * FROM losses") == []


async def test_orders_of_all_partitions_are_replayed(partitioned: Service, tmp_path: Path) -> None:
    service, shop = partitioned, Shop(partitioned)
    crm = Crm(service.servers, tmp_path)
    settings = {"orders_partitions": service.config.orders_partitions}
    await shop.send(shop.next() for _ in range(80))
    async with working(service):
        await all_read(service)
    # To a database that never checked partition 5, all of its entries are new.
    await service.execute("DELETE FROM sightings WHERE stream = 'orders:{5}'")
    in_five = sum(sent.stream == "orders:{5}" for sent in shop.sent)
    replayed = await crm("replay", **settings)
    assert f"orders:{{5}}: {in_five} entries after 0-0 will be read again" in replayed.out
    assert "orders:{4}: 0 entries" in replayed.out
    async with working(service):
        await all_applied(service, 80 + in_five)
    replayed = await crm("replay", "--all", **settings)
    assert replayed.status == 0, replayed.err
    async with working(service):
        await all_applied(service, 160 + in_five)
        await all_read(service)
    counted = await totals(service)
    assert counted.duplicate + counted.stale >= 80 + in_five
