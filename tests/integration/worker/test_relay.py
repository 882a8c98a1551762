"""The out-stream has every change once and in order, even if workers die and Redis loses data."""

import asyncio
import contextlib
import shutil
import signal
from pathlib import Path

import pytest

from tests.conftest import Service
from tests.events import fields
from tests.integration.streams.scene import all_checked
from tests.integration.worker.scene import (
    acknowledge_losses,
    all_applied,
    all_published,
    change,
    database_backlog,
    in_order_without_holes,
    out_stream,
    publish_all,
    relaying,
    working,
)
from tests.processes import Processes
from tests.wait import until


async def test_another_worker_takes_over_when_the_leader_is_killed(
    service: Service, crm: Processes
) -> None:
    leader = await crm.worker(batch_size=100)

    async def leads() -> bool:
        return "this worker relays now" in leader.output

    await until(leads)
    other = await crm.worker(batch_size=100)
    assert "this worker relays now" not in other.output
    await publish_all(
        service, [fields(f"ORD-{n}", email=f"c{n % 500}@x.org", total="1") for n in range(1500)]
    )

    async def stopped_in_the_middle() -> bool:
        leader.send(signal.SIGSTOP)
        if len(await out_stream(service)) > 50 and (await database_backlog(service)).unpublished:
            return True
        leader.send(signal.SIGCONT)
        return False

    await until(stopped_in_the_middle)
    await leader.kill()
    await all_applied(service, 1500)
    await all_published(service)
    assert "this worker relays now" in other.output
    assert len(await out_stream(service)) >= 500
    await in_order_without_holes(service)


async def test_a_wiped_stream_is_published_again_to_the_byte(service: Service) -> None:
    await change(service, *range(1, 1201))
    await change(service, 1, 2, 3)
    async with relaying(service):
        await all_published(service)
        before = await out_stream(service)
        assert len(before) == 1203
        await service.redis.delete(service.config.changes_stream)

        async def is_back() -> bool:
            return len(await out_stream(service)) == len(before)

        await until(is_back)
    assert await out_stream(service) == before


async def test_changes_are_published_again_after_redis_was_emptied_without_a_relay(
    service: Service,
) -> None:
    await change(service, 1, 2)
    async with relaying(service):
        await all_published(service)
    before = await out_stream(service)
    await service.redis.flushall()
    await change(service, 1, 3)
    async with relaying(service):

        async def all_there() -> bool:
            return len(await out_stream(service)) == 4

        await until(all_there)
        await all_published(service)
    assert (await out_stream(service))[:2] == before
    await in_order_without_holes(service)


async def test_changes_are_published_again_when_redis_has_an_older_copy(
    service: Service, tmp_path: Path
) -> None:
    valkey = service.servers.redis
    if valkey is None:
        pytest.skip("the Redis was given from outside, so the test must not roll it back")
    async with working(service):
        await publish_all(service, [fields(f"ORD-A{n}", email=f"c{n}@x.org") for n in range(20)])
        await all_applied(service, 20)
        await all_published(service)
        await asyncio.to_thread(valkey.stop)
        await asyncio.to_thread(shutil.copytree, valkey.data, tmp_path / "older")
        await asyncio.to_thread(valkey.start)
        await publish_all(service, [fields(f"ORD-B{n}", email=f"c{n}@x.org") for n in range(20)])
        await all_applied(service, 40)
        await all_published(service)
        await all_checked(service)
        before = await out_stream(service)
        assert len(before) == 40
        await asyncio.to_thread(valkey.stop)
        await asyncio.to_thread(shutil.rmtree, valkey.data)
        await asyncio.to_thread(shutil.copytree, tmp_path / "older", valkey.data)
        await asyncio.to_thread(valkey.start)

        async def is_back() -> bool:
            return len(await out_stream(service)) == len(before)

        await until(is_back)
        assert await out_stream(service) == before
        await publish_all(service, [fields("ORD-C", email="c1@x.org")])
        await all_applied(service, 41)
        await all_published(service)
    await in_order_without_holes(service)
    await acknowledge_losses(service)


async def test_a_crash_between_xadd_and_marking_it_duplicates_no_change(service: Service) -> None:
    await change(service, 1, 2, 3, 4)
    async with relaying(service):
        await all_published(service)
    before = await out_stream(service)
    await service.execute("UPDATE relay SET published = 1")
    async with relaying(service):
        await all_published(service)
        await change(service, 1)
        await all_published(service)
    after = await out_stream(service)
    assert after[:4] == before
    assert [change.number for change in after] == [1, 2, 3, 4, 5]
    await in_order_without_holes(service)


async def test_a_crash_between_numbering_and_xadd_loses_no_change(service: Service) -> None:
    await change(service, 1, 2)
    await service.execute("UPDATE segment_changes SET publish_number = id")
    await service.execute("UPDATE relay SET numbered = 2")
    await change(service, 3, 1)
    async with relaying(service):
        await all_published(service)
    await in_order_without_holes(service)


@pytest.mark.parametrize("left", [2, 0])
async def test_a_trimmed_stream_is_not_taken_for_a_lost_one(service: Service, left: int) -> None:
    await change(service, 1, 2, 3, 4)
    async with relaying(service):
        await all_published(service)
        await service.redis.xtrim(service.config.changes_stream, maxlen=left, approximate=False)
        assert await service.findings() == []
        await change(service, 1, 5)
        await all_published(service)
    numbers = [change.number for change in await out_stream(service)]
    assert numbers == [3, 4, 5, 6][2 - left :]


async def test_one_relay_leads_also_after_the_leaders_session_ended(service: Service) -> None:
    async with contextlib.AsyncExitStack() as running:
        relays = [await running.enter_async_context(relaying(service)) for _ in range(2)]

        async def one_leads() -> bool:
            return sum(relay.leading for relay in relays) == 1

        await until(one_leads)
        await change(service, *range(50))
        await all_published(service)
        leader = next(relay for relay in relays if relay.leading)
        (other,) = (relay for relay in relays if relay is not leader)
        assert not other.leading
        await service.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        )
        await change(service, *range(50))
        await all_published(service)
        await until(one_leads)  # a former leader notices within a second that it no longer leads
    await in_order_without_holes(service)
