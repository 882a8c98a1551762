"""Entries that were trimmed, deleted or passed over before they were applied."""

import random

import pytest

from service.core.envelope import Entry
from tests.integration.streams.scene import CONSUMER, Scene, covers


async def test_what_was_applied_may_go(scene: Scene) -> None:
    ids = await scene.publish(10)
    await scene.consume(10)
    await scene.look()
    await scene.redis.xdel(scene.stream, ids[3], ids[9])
    assert (await scene.look()).loss is None
    await scene.trim(4)
    assert (await scene.look()).loss is None
    await scene.publish(3)
    await scene.consume(1)
    await scene.trim(2)
    assert (await scene.look()).loss is None
    await scene.consume(2)
    await scene.trim(0)
    seen = await scene.look()
    assert (seen.loss, seen.rolled_back) == (None, False)
    assert await scene.incidents() == []
    assert await scene.service.findings() == []


async def test_a_publisher_trims_what_nobody_has_read(scene: Scene) -> None:
    ids = await scene.publish(10)
    await scene.consume(4)
    await scene.look()
    await scene.trim(2)
    assert (await scene.look()).loss
    (incident,) = await scene.incidents()
    assert (incident.kind, incident.entries) == ("removed", 4)
    assert covers(incident, *ids[4:8])
    assert not any(covers(incident, id_) for id_ in (*ids[:4], *ids[8:]))
    assert (await scene.look()).loss is None
    await scene.consume(10)
    assert (await scene.look()).loss is None
    (incident,) = await scene.incidents()
    assert incident.entries == 4


async def test_one_that_goes_on_trimming_is_one_loss_that_grows(scene: Scene) -> None:
    for round_ in range(5):
        ids = await scene.publish(10)
        await scene.trim(1)
        assert bool((await scene.look()).loss) == (round_ == 0), "it is told once"
        await scene.consume(10)
        await scene.look()
    (incident,) = await scene.incidents()
    assert incident.entries == 45
    assert covers(incident, *ids[:9])
    assert incident.last_noticed_at > incident.noticed_at


async def test_read_on_beyond_the_gap_between_two_looks(scene: Scene) -> None:
    await scene.publish(10)
    await scene.consume(4)
    await scene.look()
    ids = await scene.publish(5)
    await scene.trim(3)
    await scene.publish(5)
    await scene.consume(20)
    assert (await scene.look()).loss
    (incident,) = await scene.incidents()
    assert incident.entries == 8
    assert covers(incident, *ids[:2])


async def test_unread_entries_are_deleted(scene: Scene) -> None:
    ids = await scene.publish(6)
    await scene.consume(2)
    await scene.look()
    await scene.redis.xdel(scene.stream, ids[3], ids[4])
    assert (await scene.look()).loss
    (incident,) = await scene.incidents()
    assert incident.entries == 2


async def test_pending_entries_are_deleted_and_their_reader_is_dead(scene: Scene) -> None:
    ids = await scene.publish(5)
    await scene.consume(1)
    entries = await scene.read(4)
    await scene.look()
    await scene.redis.xdel(scene.stream, ids[2], ids[3])
    assert (await scene.look()).loss is None, "who holds them may yet apply them"
    claimed = await scene.redis.xclaim(
        scene.stream, scene.group, "another", 0, [entry.id for entry in entries]
    )
    assert len(claimed) == 2
    rest = [entry for entry in entries if entry.id not in ids[2:4]]
    await scene.service.ingest(*rest)
    await scene.acknowledge(rest)
    assert (await scene.look()).loss
    (incident,) = await scene.incidents()
    assert incident.entries == 2
    assert covers(incident, ids[2], ids[3])
    assert not covers(incident, ids[0])


async def test_what_is_in_hand_hides_nothing_for_good(scene: Scene) -> None:
    ids = await scene.publish(10)
    held = await scene.read(3)
    await scene.look()
    await scene.trim(3)
    assert (await scene.look()).loss
    (incident,) = await scene.incidents()
    assert incident.entries == 4
    await scene.service.ingest(*held)
    await scene.acknowledge(held)
    await scene.look()
    await scene.consume(2)
    await scene.read(1)
    await scene.redis.xgroup_delconsumer(scene.stream, scene.group, CONSUMER)
    await scene.look()
    (incident,) = await scene.incidents()
    assert incident.entries == 5
    assert covers(incident, *ids[3:7], ids[9])


async def test_a_loss_while_much_is_in_hand_is_told_in_full_in_the_end(scene: Scene) -> None:
    await scene.publish(10)
    held = await scene.read(5)
    await scene.service.ingest(*held)
    await scene.look()
    await scene.trim(1)
    assert (await scene.look()).loss is None, "five may yet be counted"
    await scene.acknowledge(held)
    await scene.look()
    (incident,) = await scene.incidents()
    assert incident.entries == 4


@pytest.mark.parametrize("way", ["foreign ack", "group moved", "consumer deleted"])
async def test_passed_over(scene: Scene, way: str) -> None:
    ids = await scene.publish(5)
    await scene.consume(2)
    await scene.look()
    if way == "group moved":
        await scene.redis.xgroup_setid(scene.stream, scene.group, ids[4])
    else:
        entries = await scene.read(3)
        await scene.look()
        if way == "foreign ack":
            await scene.acknowledge(entries)
        else:
            await scene.redis.xgroup_delconsumer(scene.stream, scene.group, CONSUMER)
    assert (await scene.look()).loss
    (incident,) = await scene.incidents()
    assert incident.entries == 3
    assert covers(incident, *ids[2:])


async def test_the_database_is_older_than_redis(scene: Scene) -> None:
    await scene.publish(5)
    await scene.consume(5)
    await scene.look()
    await scene.publish(4)
    await scene.consume(4)
    await scene.service.execute(
        "UPDATE ingest_counters SET read = read - 4, applied = applied - 4"
        " WHERE slot = (SELECT slot FROM ingest_counters WHERE read >= 4 LIMIT 1)"
    )
    assert (await scene.look()).loss
    (incident,) = await scene.incidents()
    assert incident.entries == 4


async def test_what_was_gone_before_we_came_is_not_ours(scene: Scene) -> None:
    await scene.service.empty()
    await scene.publish(10)
    await scene.trim(4)
    await scene.begin()
    await scene.consume(10)
    assert (await scene.look()).loss is None


class Harmless:
    """Things that happen, in any order, and lose nothing."""

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

    async def look(self) -> None:
        assert (await self._scene.look()).loss is None

    async def finish(self) -> None:
        while self._held:
            await self.apply()
        while self._applied:
            await self.acknowledge()
        await self._scene.consume(1000)


@pytest.mark.parametrize("seed", range(6))
async def test_no_order_of_harmless_things_is_a_loss(scene: Scene, seed: int) -> None:
    chance = random.Random(seed)
    do = Harmless(scene, chance)
    things = (do.publish, do.read, do.apply, do.apply_again, do.acknowledge, do.trim, do.look)
    for _ in range(80):
        await chance.choice(things)()
    await do.finish()
    await do.look()
    ids = await scene.publish(3)
    await scene.trim(1)
    assert (await scene.look()).loss, "and a loss still is one"
    (incident,) = await scene.incidents()
    assert incident.entries == 2
    assert covers(incident, *ids[:2])
