"""Streams stay as short as configured, and keep what any group still needs."""

import asyncio
from typing import Any

import pytest

from consumers import chores
from consumers.relay import Relay
from consumers.tasks import end
from service.core.stream_ids import parse
from service.db.operations import trimming
from service.db.operations.out_streams import out_streams
from service.db.operations.trimming import TrimResult
from service.streams import groups
from service.streams.entries import read_range
from service.streams.trim import Keep, trim
from tests.conftest import Service
from tests.events import fields
from tests.integration.streams.scene import Scene, all_checked
from tests.integration.worker.scene import (
    all_applied,
    all_published,
    in_order_without_holes,
    out_stream,
    publish_all,
    working,
)
from tests.reading import deliver
from tests.wait import until

KEPT = 200
NODE = 100
DAY = 86_400.0


async def _trim(scene: Scene, keep: Keep) -> TrimResult:
    async with scene.service.engine.begin() as connection:
        result = await trimming.trim_orders(
            connection, scene.service.redis, scene.stream, scene.group, keep
        )
    assert result is not None
    return result


async def _trim_changes(service: Service, entries: int) -> None:
    async with service.engine.begin() as connection:
        changes, _ = out_streams(service.config)
        await trimming.trim_published(connection, service.redis, changes, Keep(None, entries))


async def _held(service: Service) -> list[str | None]:
    return [row["held_by"] for row in await service.rows("SELECT held_by FROM trims")]


async def test_memory_stays_bounded_under_steady_load(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chores, "_TRIM_SECONDS", 0.05)
    raw: Any = service.redis
    orders, changes = service.config.orders_stream, service.config.changes_stream
    sizes: list[int] = []
    async with working(service, orders_keep_entries=KEPT, changes_keep_entries=KEPT):
        for round_ in range(1, 11):
            # Each order has a customer of its own, so every entry in causes an entry out.
            first = round_ * 500
            await publish_all(
                service,
                [fields(f"ORD-{n}", email=f"c{n}@x.org") for n in range(first, first + 500)],
            )
            await all_applied(service, round_ * 500)
            await all_published(service)  # while a slow relay still adds, no size is final

            async def is_short() -> bool:
                lengths = [await raw.xlen(stream) for stream in (orders, changes)]
                return all(KEPT <= length <= KEPT + NODE for length in lengths)

            await until(is_short)
            sizes.append(
                sum([await raw.memory_usage(stream, samples=0) for stream in (orders, changes)])
            )
        await all_published(service)
        await all_checked(service)
    assert max(sizes) < 2 * min(sizes) + 50_000
    trimmed = await service.rows(
        "SELECT entries FROM trims WHERE stream IN (:orders, :changes)",
        orders=orders,
        changes=changes,
    )
    assert min(row["entries"] for row in trimmed) >= 5000 - 2 * (KEPT + NODE)
    assert await service.rows("SELECT * FROM losses") == []


@pytest.mark.parametrize("by", ["age", "number"])
async def test_a_group_that_lags_prevents_trimming_and_is_named(scene: Scene, by: str) -> None:
    keep = Keep(0.001, 10**6) if by == "age" else Keep(DAY, 10)
    await groups.ensure_group(scene.service.redis, scene.stream, "others")
    ids = await scene.publish(400)
    await scene.consume(400)
    await asyncio.sleep(0.002)
    assert await _trim(scene, keep) == TrimResult(0, "others", ids[0])
    assert (await _trim(scene, keep)).held_by is None, "it is reported once"
    assert await _held(scene.service) == ["others"]
    first = [
        entry.id
        for entry in await deliver(scene.service.redis, scene.stream, "others", "slow", count=300)
    ]
    assert await _trim(scene, keep) == TrimResult(0, None, None), "pending is not acknowledged"
    await scene.redis.xack(scene.stream, "others", *first[:250])
    assert (await _trim(scene, keep)).entries >= 250 - NODE
    (left, *_) = await scene.redis.xrange(scene.stream, count=1)
    assert parse(left[0]) <= parse(first[250])
    await scene.redis.xgroup_destroy(scene.stream, "others")
    while (await _trim(scene, keep)).entries:
        pass
    assert await _held(scene.service) == [None]
    assert await scene.redis.xlen(scene.stream) <= 10 + NODE
    assert (await scene.check()).loss is None
    assert await scene.service.findings() == []


async def test_entries_that_are_not_applied_stay(scene: Scene) -> None:
    await scene.publish(400)
    await scene.consume(50)
    held = await scene.read(100)
    await asyncio.sleep(0.002)
    result = await _trim(scene, Keep(0.001, 1))
    assert result.held_by == scene.group
    assert result.entries <= 50
    assert await scene.redis.xlen(scene.stream) >= 350
    assert (await scene.redis.xrange(scene.stream, held[0].id, held[0].id)) != []
    await scene.service.ingest(*held)
    await scene.acknowledge(held)
    await scene.consume(400)
    await _trim(scene, Keep(0.001, 1))
    assert 1 <= await scene.redis.xlen(scene.stream) <= NODE
    assert (await scene.check()).loss is None


async def test_only_old_entries_are_trimmed(scene: Scene) -> None:
    old = int((await scene.redis.time())[0]) * 1000 - 3_600_000
    for number in range(300):
        await scene.redis.xadd(
            scene.stream, fields(f"OLD-{number}", email="a@x.org"), id=f"{old + number}-0"
        )
    await scene.publish(300)
    await scene.consume(600)
    assert (await _trim(scene, Keep(7200, 10**6))).entries == 0
    assert 300 - NODE <= (await _trim(scene, Keep(1800, 10**6))).entries <= 300
    assert await scene.redis.xlen(scene.stream) <= 300 + NODE


async def test_nothing_is_trimmed_without_our_group(scene: Scene) -> None:
    await scene.publish(300)
    await scene.redis.xgroup_destroy(scene.stream, scene.group)
    await groups.ensure_group(scene.service.redis, scene.stream, "others")
    await deliver(scene.service.redis, scene.stream, "others", "them", count=300)
    assert await _trim(scene, Keep(0.001, 1)) == TrimResult(0, None, None)
    assert await scene.redis.xlen(scene.stream) == 300
    await scene.redis.delete(scene.stream)
    assert await _trim(scene, Keep(0.001, 1)) == TrimResult(0, None, None)


async def test_ids_beyond_the_precision_of_a_float_are_compared_exactly(scene: Scene) -> None:
    """Publishers may choose ids. Lua's numbers are exact to 53 bits, and an id's halves have 64."""
    others = f"{scene.group}-later"
    await groups.ensure_group(scene.service.redis, scene.stream, others)
    await scene.redis.config_set("stream-node-max-entries", 1)
    try:
        for number in (9, 2**53, 2**53 + 1, 2**64 - 1):
            await scene.redis.xadd(scene.stream, fields(f"ORD-{number}"), id=f"{number}-0")
        for group, acknowledged in ((scene.group, 1), (others, 2)):
            entries = await deliver(scene.service.redis, scene.stream, group, "slow", count=4)
            ids = [entry.id for entry in entries]
            await scene.redis.xack(scene.stream, group, *ids[:acknowledged])
        await _trim(scene, Keep(None, 1))
        left = [id_.decode() for id_, _ in await scene.redis.xrange(scene.stream)]
        assert left == ids[1:], "our group still needs the second, the other group the third"
    finally:
        await scene.redis.config_set("stream-node-max-entries", 100)


async def test_the_last_entry_stays(scene: Scene) -> None:
    await scene.redis.config_set("stream-node-max-entries", 1)
    try:
        ids = await scene.publish(5)
        await scene.consume(5)
        await asyncio.sleep(0.002)
        done = await trim(scene.service.redis, scene.stream, Keep(0.001, 1), group=scene.group)
    finally:
        await scene.redis.config_set("stream-node-max-entries", 100)
    assert (done.entries, done.left, done.first_id) == (4, 1, ids[4])


async def test_changes_lost_after_they_were_trimmed_are_not_published_again(
    service: Service,
) -> None:
    scene = Scene(service)
    await scene.begin()
    stream = service.config.changes_stream
    relay = asyncio.create_task(Relay(service.engine, service.redis, service.config).run())
    try:
        for number in range(600):
            await service.publish(fields(f"ORD-{number}", email=f"c{number}@x.org"))
        await scene.consume(600)
        await all_published(service)
        await _trim_changes(service, 100)
        before = await out_stream(service)
        assert 100 <= len(before) <= 100 + NODE
        assert await service.findings() == []
        await service.redis.delete(stream)

        async def is_back() -> bool:
            return len(await out_stream(service)) >= len(before)

        await until(is_back)
        assert await out_stream(service) == before
        await service.publish(fields("ORD-last", email="c1@x.org"))
        await scene.consume(1)
        await all_published(service)
        after = await out_stream(service)
        assert [change.number for change in after] == list(range(after[0].number, 602))
    finally:
        await end([relay])


async def test_a_subscriber_that_lags_keeps_its_changes(service: Service) -> None:
    scene = Scene(service)
    await scene.begin()
    stream = service.config.changes_stream
    raw: Any = service.redis
    await raw.xgroup_create(stream, "analytics", id="0", mkstream=True)
    relay = asyncio.create_task(Relay(service.engine, service.redis, service.config).run())
    try:
        for number in range(300):
            await service.publish(fields(f"ORD-{number}", email=f"c{number}@x.org"))
        await scene.consume(300)
        await all_published(service)
        await _trim_changes(service, 50)
        assert len(await out_stream(service)) == 300
        assert await _held(service) == ["analytics"]
        await in_order_without_holes(service)
    finally:
        await end([relay])


async def test_verify_accepts_a_stream_that_is_trimmed_meanwhile(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(service)
    await scene.begin()
    stream = service.config.changes_stream
    relay = asyncio.create_task(Relay(service.engine, service.redis, service.config).run())
    for number in range(60):
        await service.publish(fields(f"ORD-{number}", email=f"c{number % 20}@x.org"))
    await scene.consume(60)
    await all_published(service)
    await end([relay])
    monkeypatch.setattr("service.db.operations.verify.out_stream._PAGE", 10)
    left = iter((45, 20, 19, 5, 5, 0))

    async def trimmed_first(*arguments: Any) -> Any:
        await service.redis.xtrim(stream, maxlen=next(left, 0), approximate=False)
        return await read_range(*arguments)

    monkeypatch.setattr("service.db.operations.verify.out_stream.read_range", trimmed_first)
    assert await service.findings() == []
