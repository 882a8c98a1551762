"""What any client of Redis can write into it stops no worker and forges no line of a log."""

from typing import Any

import pytest

from service.db.operations import foreign_entries
from service.db.operations.status import database_backlog
from service.streams import groups, trim
from service.streams.trim import Keep
from tests.conftest import Service
from tests.events import fields
from tests.integration.http.conftest import client
from tests.integration.streams.scene import Scene
from tests.integration.worker.scene import all_applied, change, relaying, working
from tests.wait import until

NAMES = {
    "not UTF-8": b"\xff\xfe",
    "a forged line": b"x\n2026-11-22 ERROR all is lost",
    "a terminal's commands": b"\x1b[2J\x07",
    "NUL": b"a\x00b",
    "long": b"n" * 10_000,
}
GREATEST = f"{2**64 - 1}-{2**64 - 1}"
IDS = [f"{2**53 + 1}-0", f"{2**63}-0", GREATEST]


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
async def test_no_name_of_a_consumer_or_group_stops_a_worker(
    service: Service, name: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    raw: Any = service.redis
    config = service.config
    for stream in (config.orders_stream, config.changes_stream):
        await raw.xgroup_create(stream, name, id="0", mkstream=True)
    await groups.ensure_group(service.redis, config.orders_stream, config.orders_group)
    await raw.xgroup_createconsumer(config.orders_stream, config.orders_group, name)
    await change(service, *range(5))
    keep = {"changes_keep_entries": 1, "orders_keep_entries": 1}
    async with working(service, reclaim_idle_seconds=0.2, **keep), client(service) as http:
        await service.publish(fields("ORD-1", email="a@x.org"))
        await all_applied(service, 1)

        async def is_removed() -> bool:
            members = await groups.consumers(
                service.redis, config.orders_stream, config.orders_group
            )
            return name not in {member.raw_name for member in members}

        await until(is_removed)
        assert (await http.get("/metrics")).status_code == 200
        assert (await http.get("/operations")).status_code == 200
    assert "could not" not in caplog.text
    assert "put off" not in caplog.text
    assert all(line.isprintable() for line in caplog.text.splitlines())
    assert "\nall is lost" not in caplog.text
    await raw.delete(config.changes_stream)
    async with relaying(service):

        async def is_back() -> bool:
            return bool(await raw.xlen(config.changes_stream))

        await until(is_back)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
async def test_a_group_that_never_reads_is_named_whatever_its_name(
    empty_service: Service, name: bytes
) -> None:
    service = empty_service
    raw: Any = service.redis
    stream = service.config.changes_stream
    pipeline = raw.pipeline(transaction=False)
    for number in range(1, 301):
        pipeline.xadd(stream, {b"__data__": b"{}"}, id=f"{number}-0")
    await pipeline.execute()
    await raw.xgroup_create(stream, name, id="0")
    held = await trim.trim(service.redis, stream, Keep(None, 1))
    assert held.entries == 0
    assert held.held_by
    assert held.held_by.isprintable()


@pytest.mark.parametrize("last", IDS)
async def test_a_last_id_in_the_future_is_reported(scene: Scene, last: str) -> None:
    await scene.publish(3)
    await scene.consume(3)
    await scene.check()
    await scene.redis.execute_command("XSETID", scene.stream, last)
    assert (await scene.check()).is_ahead
    assert not (await scene.check()).is_ahead, "it is reported once"
    async with scene.service.engine.connect() as connection:
        (record,) = await foreign_entries.records(connection)
    assert (record.kind, record.stream, record.last_id) == ("ahead", scene.stream, last)


@pytest.mark.parametrize("id_", IDS)
async def test_an_entry_with_any_id_is_applied(service: Service, id_: str) -> None:
    raw: Any = service.redis
    config = service.config
    await raw.xadd(config.orders_stream, fields("ORD-1", email="a@x.org"), id=id_)
    async with working(service, orders_keep_entries=1) as worker:
        await all_applied(service, 1)
        assert await worker.reclaimer.reclaim(config.orders_streams[0]) == 0
        backlog = await groups.backlog(service.redis, config.orders_stream, config.orders_group)
        assert (backlog.lag, backlog.pending) == (0, 0)
    async with service.engine.begin() as connection:
        assert (await database_backlog(connection)).dead_letters == 0
        for record in await foreign_entries.records(connection):
            await foreign_entries.acknowledge(connection, record.id, "test")


async def test_no_number_that_redis_claims_breaks_the_checks(scene: Scene) -> None:
    await scene.publish(3)
    await scene.consume(3)
    await scene.check()
    last = (await scene.redis.xinfo_stream(scene.stream))["last-generated-id"]
    for claimed in (2**63 - 1, 3, 2**63 - 1, 3, 2**63 - 1):
        await scene.redis.execute_command(
            "XSETID", scene.stream, last, "ENTRIESADDED", claimed, "MAXDELETEDID", "0-0"
        )
        await scene.check()
    assert await scene.losses()
    await scene.service.findings()
    async with client(scene.service) as http:
        assert (await http.get("/metrics")).status_code == 200
