"""A worker reads, judges, acknowledges, reclaims and stops."""

import asyncio
import signal
import time
from decimal import Decimal
from typing import Any

from consumers.applier import LANES
from service.core.envelope import KEPT_BYTES
from service.streams import groups
from tests.conftest import Service
from tests.events import fields
from tests.integration.worker.scene import (
    all_applied,
    all_published,
    backlog,
    order_count,
    publish_all,
    totals,
    working,
)
from tests.processes import Processes
from tests.reading import deliver
from tests.wait import until

DRAIN_SECONDS = 5
MOST_LAG = 2000
"""The test publishes no more while so many entries are unread."""


def _orders(count: int, first: int = 0, customers: int = 50) -> list[dict[bytes, bytes]]:
    return [
        fields(f"ORD-{n}", email=f"c{n % customers}@x.org", total="1.00")
        for n in range(first, first + count)
    ]


async def _read_as(service: Service, consumer: str, count: int) -> list[str]:
    """Read entries and leave them pending, like a worker that hangs; return their ids."""
    stream, group = service.config.orders_stream, service.config.orders_group
    await groups.ensure_group(service.redis, stream, group)
    entries = await deliver(service.redis, stream, group, consumer, count=count)
    return [entry.id for entry in entries]


async def _delivered(
    service: Service, ids: list[str], times: int, *, to: str = "crashed-alone"
) -> None:
    """Make entries look as if they had been delivered that often, the last time long ago.

    By default, the worker that died held no other entry.
    """
    raw: Any = service.redis
    await raw.xclaim(
        service.config.orders_stream,
        service.config.orders_group,
        to,
        0,
        ids,
        idle=3_600_000,
        retrycount=times,
    )


async def test_entries_published_before_the_first_start_are_read(service: Service) -> None:
    await publish_all(service, _orders(250))
    async with working(service, batch_size=100):
        await all_applied(service, 250)
    counted = await totals(service)
    assert (counted.read, counted.applied) == (250, 250)
    assert await order_count(service) == 250
    assert 3 <= counted.batches <= 3 * LANES


async def test_bad_entries_are_kept_whole_and_hurt_no_neighbour(service: Service) -> None:
    bad: dict[str, dict[bytes, bytes]] = {
        "not_json": {b"data": b"{", b"empty": b"", b"trace": b"\x00\xff"},
        "no_data_field": {b"other": b"1", b"": b"nameless"},
        "invalid_utf8": {b"data": b'{"id": "\xff"}'},
        "not_an_object": {b"data": b"[]"},
        "missing_field": fields("ORD-B", dateCreated=None) | {b"data": b'{"type":"order-created"}'},
        "invalid_amount": fields("ORD-C", total="NaN"),
        "invalid_currency": fields("ORD-D", currency="euros"),
        "too_large": {b"data": b"x" * (service.config.max_event_bytes + 1)},
    }
    published = {}
    for number, (reason, entry) in enumerate(bad.items()):
        await service.publish(fields(f"ORD-{number}", email="a@x.org"))
        published[await service.publish(entry)] = (reason, entry)
        if reason == "too_large":  # only its first kilobyte is ever read
            entry[b"data"] = entry[b"data"][: KEPT_BYTES - len(b"data")]
    async with working(service):
        await all_applied(service, 2 * len(bad))
    assert await order_count(service) == len(bad)
    letters = await service.rows("SELECT * FROM dead_letters ORDER BY id")
    kept = {
        letter["stream_id"]: (
            letter["reason"],
            dict(zip(letter["field_names"], letter["field_values"], strict=True)),
        )
        for letter in letters
    }
    (large,) = [id_ for id_, (reason, _) in published.items() if reason == "too_large"]
    beginning = {b"data": published[large][1][b"data"][: KEPT_BYTES - len(b"data")]}
    assert kept == published | {large: ("too_large", beginning)}
    assert all(len(letter["error"].split()) >= 3 for letter in letters)
    assert all(letter["attempts"] == 1 for letter in letters)


async def test_an_entry_published_twice_counts_once(service: Service) -> None:
    order = fields("ORD-1", email="a@x.org", total="10.00")
    await publish_all(service, [order, order, fields("ORD-2", email="a@x.org", total="5.00")])
    async with working(service, batch_size=1):
        await publish_all(service, [order])
        await all_applied(service, 4)
    (customer,) = await service.rows("SELECT total_orders, total_spent FROM customers")
    assert customer == {"total_orders": 2, "total_spent": Decimal("15.00")}
    counted = await totals(service)
    assert (counted.applied, counted.duplicate) == (2, 2)


async def test_two_workers_share_the_work(service: Service) -> None:
    settings = {"batch_size": 50}
    async with working(service, **settings) as one, working(service, **settings) as other:

        async def both_read() -> bool:
            members = {member.name for member in (await backlog(service)).consumers}
            return members == {one.name, other.name}

        await until(both_read)
        await publish_all(service, _orders(1000, customers=7))
        await all_applied(service, 1000)
        assert [one.relay.leading, other.relay.leading].count(True) == 1
    counted = await totals(service)
    assert (counted.read, counted.applied) == (1000, 1000)
    spent = await service.rows("SELECT sum(total_spent) AS spent FROM customers")
    assert spent == [{"spent": Decimal("1000.00")}]


async def test_sigterm_under_load_leaves_nothing_behind(service: Service, crm: Processes) -> None:
    worker = await crm.worker(batch_size=50, reclaim_idle_seconds=60)
    published = 0
    enough = asyncio.Event()

    async def publish() -> None:
        nonlocal published
        while not enough.is_set():
            if ((await backlog(service)).lag or 0) < MOST_LAG:
                await publish_all(service, _orders(100, published))
                published += 100

    async def is_busy() -> bool:
        return (await totals(service)).read > 500

    load = asyncio.create_task(publish())
    try:
        await until(is_busy)
        asked = time.monotonic()
        assert await worker.terminate() == 0, worker.output
        assert time.monotonic() - asked < DRAIN_SECONDS
        left = await backlog(service)
    finally:
        enough.set()
        await load
    assert left.pending == 0
    assert left.consumers == []
    assert left.lag, "it was not under load"
    assert "Traceback" not in worker.output
    async with working(service):
        await all_applied(service, published)
    assert await order_count(service) == published
    assert (await totals(service)).read == published


async def test_kill_9_while_entries_are_pending_loses_nothing(
    service: Service, crm: Processes
) -> None:
    await publish_all(service, _orders(3000))
    worker = crm.start_worker(batch_size=20)

    async def stopped_in_the_middle() -> bool:
        worker.send(signal.SIGSTOP)
        if (await totals(service)).read > 100 and (await backlog(service)).pending:
            return True
        worker.send(signal.SIGCONT)
        return False

    await until(stopped_in_the_middle)
    await worker.kill()
    assert (await totals(service)).read < 3000
    assert (await backlog(service)).pending > 0
    async with working(service, reclaim_idle_seconds=0.5):
        await all_applied(service, 3000)
        await all_published(service)

        async def dead_consumer_is_gone() -> bool:
            return len((await backlog(service)).consumers) == 1

        await until(dead_consumer_is_gone)
    assert await order_count(service) == 3000
    (spent,) = await service.rows("SELECT sum(total_spent) AS spent FROM customers")
    assert spent["spent"] == Decimal("3000.00")
    counted = await totals(service)
    assert (counted.applied, counted.dead_lettered) == (3000, 0)


async def test_an_entry_that_kills_every_worker_becomes_a_dead_letter(service: Service) -> None:
    await publish_all(service, _orders(4))
    ids = await _read_as(service, "crashed", 4)
    await _delivered(service, ids[:2], 10)
    await _delivered(service, ids[2:], 9)
    async with working(service):
        await all_applied(service, 4)
    letters = await service.rows("SELECT stream_id, reason, error FROM dead_letters ORDER BY id")
    assert [(letter["stream_id"], letter["reason"]) for letter in letters] == [
        (ids[0], "too_many_deliveries"),
        (ids[1], "too_many_deliveries"),
    ]
    assert "delivered 11 times" in letters[0]["error"]
    assert await order_count(service) == 2


async def test_entries_delivered_often_in_company_are_tried_alone_and_not_given_up(
    service: Service,
) -> None:
    await publish_all(service, _orders(5))
    ids = await _read_as(service, "crashed", 5)
    await _delivered(service, ids, 23, to="crashed")
    async with working(service):
        await all_applied(service, 5)
    counted = await totals(service)
    assert (counted.applied, counted.dead_lettered, counted.batches) == (5, 0, 5)


async def test_entries_delivered_often_are_applied_one_by_one(service: Service) -> None:
    await publish_all(service, _orders(6))
    ids = await _read_as(service, "crashed", 6)
    await _delivered(service, ids[:3], 3)
    await _delivered(service, ids[3:], 2)
    async with working(service):
        await all_applied(service, 6)
    counted = await totals(service)
    assert counted.applied == 6
    assert 3 + 1 <= counted.batches <= 3 + LANES


async def test_more_than_a_page_of_orphans_is_taken_over(service: Service) -> None:
    await publish_all(service, _orders(1200))
    ids = await _read_as(service, "crashed", 1200)
    await _delivered(service, ids, 1)
    async with working(service):
        await all_applied(service, 1200, seconds=5)
    counted = await totals(service)
    assert (counted.read, counted.applied) == (1200, 1200)
    assert 3 <= counted.batches <= 3 * LANES


async def test_entries_deleted_while_pending_are_reported(empty_service: Service) -> None:
    service = empty_service
    await publish_all(service, _orders(3))
    ids = await _read_as(service, "crashed", 3)
    await service.redis.xdel(service.config.orders_stream, ids[0], ids[1])
    await _delivered(service, ids[2:], 1)
    async with working(service, reclaim_idle_seconds=0.3):
        await all_applied(service, 1)
        await all_published(service)
    assert await order_count(service) == 1
    (finding,) = await service.findings()
    assert finding.number == 2
    assert finding.offenders[0] == {
        "stream": service.config.orders_stream,
        "entriesReadByGroup": 3,
        "pending": 0,
        "counted": 1,
    }


async def test_only_empty_consumers_are_removed(service: Service) -> None:
    await publish_all(service, _orders(1))
    (id_,) = await _read_as(service, "holding", 1)
    raw: Any = service.redis
    stream, group = service.config.orders_stream, service.config.orders_group
    await raw.xgroup_createconsumer(stream, group, "empty")
    async with working(service) as worker:
        assert not await worker.reclaimer.remove_consumer("holding")
        assert await worker.reclaimer.remove_consumer("empty")
    assert [member.name for member in (await backlog(service)).consumers] == ["holding"]
    waiting = await groups.pending(service.redis, stream, group, count=10)
    assert [entry.id for entry in waiting] == [id_]
    async with working(service, reclaim_idle_seconds=0.3) as worker:

        async def only_this_worker_is_left() -> bool:
            members = (await backlog(service)).consumers
            return [member.name for member in members] == [worker.name]

        await all_applied(service, 1)
        await until(only_this_worker_is_left)
    assert await order_count(service) == 1


async def test_a_stopped_worker_has_stopped_reading(service: Service) -> None:
    for _ in range(5):
        async with working(service):
            pass  # it is stopped while it still connects, when a cancellation is easily lost
        readers = [
            task
            for task in asyncio.all_tasks()
            if "_consume" in getattr(task.get_coro(), "__qualname__", "")
        ]
        assert not readers
    await publish_all(service, _orders(3))
    left = await backlog(service)
    assert (left.lag, left.pending, left.consumers) == (3, 0, [])


async def test_a_stopping_worker_applies_entries_that_it_was_given_but_had_not_handled(
    service: Service,
) -> None:
    await publish_all(service, _orders(3))
    ids = await _read_as(service, "other", 3)
    raw: Any = service.redis
    stream, group = service.config.orders_stream, service.config.orders_group
    async with working(service) as worker:
        await raw.xclaim(stream, group, worker.name, 0, ids)
    left = await backlog(service)
    assert (left.lag, left.pending) == (0, 0)
    assert [member.name for member in left.consumers] == ["other"]
    assert await order_count(service) == 3
