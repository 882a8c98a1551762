"""Entries that were trimmed, deleted or skipped before they were applied are a loss."""

import random

import pytest

from service.core.envelope import Entry
from tests.integration.streams.scene import CONSUMER, Scene, covers


async def test_removing_applied_entries_is_no_loss(scene: Scene) -> None:
    ids = await scene.publish(10)
    await scene.consume(10)
    await scene.check()
    await scene.redis.xdel(scene.stream, ids[3], ids[9])
    assert (await scene.check()).loss is None
    await scene.trim(4)
    assert (await scene.check()).loss is None
    await scene.publish(3)
    await scene.consume(1)
    await scene.trim(2)
    assert (await scene.check()).loss is None
    await scene.consume(2)
    await scene.trim(0)
    assert (await scene.check()).loss is None
    assert await scene.losses() == []
    assert await scene.service.findings() == []


async def test_a_publisher_that_trims_unread_entries_is_noticed(scene: Scene) -> None:
    ids = await scene.publish(10)
    await scene.consume(4)
    await scene.check()
    await scene.trim(2)
    assert (await scene.check()).loss
    (loss,) = await scene.losses()
    assert (loss.kind, loss.entries) == ("removed", 4)
    assert covers(loss, *ids[4:8])
    assert not any(covers(loss, id_) for id_ in (*ids[:4], *ids[8:]))
    assert (await scene.check()).loss is None
    await scene.consume(10)
    assert (await scene.check()).loss is None
    (loss,) = await scene.losses()
    assert loss.entries == 4


async def test_repeated_trimming_is_recorded_as_one_growing_loss(scene: Scene) -> None:
    for round_ in range(5):
        ids = await scene.publish(10)
        await scene.trim(1)
        assert bool((await scene.check()).loss) == (round_ == 0), "it is reported once"
        await scene.consume(10)
        await scene.check()
    (loss,) = await scene.losses()
    assert loss.entries == 45
    assert covers(loss, *ids[:9])
    assert loss.last_noticed_at > loss.noticed_at


async def test_a_gap_is_noticed_after_the_group_has_read_beyond_it(scene: Scene) -> None:
    await scene.publish(10)
    await scene.consume(4)
    await scene.check()
    ids = await scene.publish(5)
    await scene.trim(3)
    await scene.publish(5)
    await scene.consume(20)
    assert (await scene.check()).loss
    (loss,) = await scene.losses()
    assert loss.entries == 8
    assert covers(loss, *ids[:2])


async def test_deleted_unread_entries_are_noticed(scene: Scene) -> None:
    ids = await scene.publish(6)
    await scene.consume(2)
    await scene.check()
    await scene.redis.xdel(scene.stream, ids[3], ids[4])
    assert (await scene.check()).loss
    (loss,) = await scene.losses()
    assert loss.entries == 2


async def test_deleted_pending_entries_of_a_dead_reader_are_noticed(scene: Scene) -> None:
    ids = await scene.publish(5)
    await scene.consume(1)
    entries = await scene.read(4)
    await scene.check()
    await scene.redis.xdel(scene.stream, ids[2], ids[3])
    assert (await scene.check()).loss is None, "their reader may still apply them"
    claimed = await scene.redis.xclaim(
        scene.stream, scene.group, "another", 0, [entry.id for entry in entries]
    )
    assert len(claimed) == 2
    rest = [entry for entry in entries if entry.id not in ids[2:4]]
    await scene.service.ingest(*rest)
    await scene.acknowledge(rest)
    assert (await scene.check()).loss
    (loss,) = await scene.losses()
    assert loss.entries == 2
    assert covers(loss, ids[2], ids[3])
    assert not covers(loss, ids[0])


async def test_pending_entries_hide_a_loss_only_until_they_are_acknowledged(scene: Scene) -> None:
    ids = await scene.publish(10)
    held = await scene.read(3)
    await scene.check()
    await scene.trim(3)
    assert (await scene.check()).loss
    (loss,) = await scene.losses()
    assert loss.entries == 4
    await scene.service.ingest(*held)
    await scene.acknowledge(held)
    await scene.check()
    await scene.consume(2)
    await scene.read(1)
    await scene.redis.xgroup_delconsumer(scene.stream, scene.group, CONSUMER)
    await scene.check()
    (loss,) = await scene.losses()
    assert loss.entries == 5
    assert covers(loss, *ids[3:7], ids[9])


async def test_a_loss_while_entries_are_pending_is_counted_in_full_once_they_are_acknowledged(
    scene: Scene,
) -> None:
    await scene.publish(10)
    held = await scene.read(5)
    await scene.service.ingest(*held)
    await scene.check()
    await scene.trim(1)
    assert (await scene.check()).loss is None, "five may still be counted"
    await scene.acknowledge(held)
    await scene.check()
    (loss,) = await scene.losses()
    assert loss.entries == 4


@pytest.mark.parametrize("way", ["foreign ack", "group moved", "consumer deleted"])
async def test_entries_that_the_group_skipped_are_noticed(scene: Scene, way: str) -> None:
    ids = await scene.publish(5)
    await scene.consume(2)
    await scene.check()
    if way == "group moved":
        await scene.redis.xgroup_setid(scene.stream, scene.group, ids[4])
    else:
        entries = await scene.read(3)
        await scene.check()
        if way == "foreign ack":
            await scene.acknowledge(entries)
        else:
            await scene.redis.xgroup_delconsumer(scene.stream, scene.group, CONSUMER)
    assert (await scene.check()).loss
    (loss,) = await scene.losses()
    assert loss.entries == 3
    assert covers(loss, *ids[2:])


async def test_a_database_older_than_redis_is_noticed(scene: Scene) -> None:
    await scene.publish(5)
    await scene.consume(5)
    await scene.check()
    await scene.publish(4)
    await scene.consume(4)
    await scene.service.execute(
        "UPDATE ingest_counters SET read = read - 4, applied = applied - 4"
        " WHERE slot = (SELECT slot FROM ingest_counters WHERE read >= 4 LIMIT 1)"
    )
    assert (await scene.check()).loss
    (loss,) = await scene.losses()
    assert loss.entries == 4


async def test_entries_gone_before_the_first_check_are_no_loss(scene: Scene) -> None:
    await scene.service.empty()
    await scene.publish(10)
    await scene.trim(4)
    await scene.begin()
    await scene.consume(10)
    assert (await scene.check()).loss is None


class Harmless:
    """Steps that lose nothing, in whatever order they are done."""

    def __init__(self, scene: Scene, chance: random.Random) -> None:
        self._scene = scene
        self._chance = chance
        self._held: list[list[Entry]] = []
        self._applied: list[list[Entry]] = []

    async def publish(self) -> None:
        await self._scene.publish(self._chance.randint(1, 4))

    async def read(self) -> None:
        if entries := await self._scene.read(self._chance.randint(1, 6)):
            self._held.append(entries)

    async def apply(self) -> None:
        if self._held:
            self._applied.append(self._held.pop(0))
            await self._scene.service.ingest(*self._applied[-1])

    async def apply_again(self) -> None:
        if self._applied:
            await self._scene.service.ingest(*self._applied[0])

    async def acknowledge(self) -> None:
        if self._applied:
            await self._scene.acknowledge(self._applied.pop(0))

    async def trim(self) -> None:
        scene = self._scene
        (group,) = await scene.redis.xinfo_groups(scene.stream)
        pending = await scene.redis.xpending(scene.stream, scene.group)
        oldest = pending["min"] or group["last-delivered-id"]
        await scene.redis.xtrim(scene.stream, minid=oldest, approximate=False)

    async def check(self) -> None:
        assert (await self._scene.check()).loss is None

    async def finish(self) -> None:
        while self._held:
            await self.apply()
        while self._applied:
            await self.acknowledge()
        await self._scene.consume(1000)


@pytest.mark.parametrize("seed", range(6))
async def test_no_order_of_harmless_steps_is_a_loss(scene: Scene, seed: int) -> None:
    chance = random.Random(seed)
    do = Harmless(scene, chance)
    steps = (do.publish, do.read, do.apply, do.apply_again, do.acknowledge, do.trim, do.check)
    for _ in range(80):
        await chance.choice(steps)()
    await do.finish()
    await do.check()
    ids = await scene.publish(3)
    await scene.trim(1)
    assert (await scene.check()).loss, "a loss after that is still noticed"
    (loss,) = await scene.losses()
    assert loss.entries == 2
    assert covers(loss, *ids[:2])
