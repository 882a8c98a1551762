"""Redis comes back empty, or as it was before."""

import pytest

from tests.integration.streams.scene import Scene, covers


async def _back_to(scene: Scene, copy: bytes) -> None:
    """Make the stream and its group what they were."""
    await scene.redis.restore(scene.stream, 0, copy, replace=True)


async def _wipe(scene: Scene) -> None:
    """Wipe everything; the worker creates its group again."""
    await scene.redis.flushall()


async def test_wiped_when_all_was_applied(scene: Scene) -> None:
    await scene.publish(5)
    await scene.consume(5)
    await scene.look()
    await _wipe(scene)
    seen = await scene.look()
    assert (seen.loss, seen.rolled_back) == (None, True)
    assert not (await scene.look()).rolled_back
    await scene.begin()
    await scene.publish(3)
    await scene.consume(3)
    assert (await scene.look()).loss is None
    assert await scene.incidents() == []


async def test_wiped_when_all_seen_was_applied_since(scene: Scene) -> None:
    await scene.publish(5)
    await scene.consume(2)
    await scene.look()
    entries = await scene.read(3)
    await scene.service.ingest(*entries)
    await _wipe(scene)
    await scene.begin()
    assert await scene.incidents() == []


async def test_wiped_with_unread_entries(scene: Scene) -> None:
    ids = await scene.publish(8)
    await scene.consume(5)
    await scene.look()
    await scene.consume(1)
    await _wipe(scene)
    assert (await scene.look()).loss
    (incident,) = await scene.incidents()
    assert (incident.kind, incident.entries) == ("rolled_back", 2)
    assert covers(incident, *ids[6:])
    assert not any(covers(incident, id_) for id_ in ids[:5])
    await scene.look()
    assert len(await scene.incidents()) == 1


async def test_wiped_and_filled_again_beyond_what_was_there(scene: Scene) -> None:
    ids = await scene.publish(3)
    await scene.consume(1)
    await scene.look()
    await _wipe(scene)
    new = await scene.publish(30)
    await scene.begin()
    await scene.consume(30)
    await scene.look()
    (incident,) = await scene.incidents()
    assert (incident.kind, incident.entries) == ("rolled_back", 2)
    assert covers(incident, *ids[1:])
    assert new


async def test_wiped_while_entries_came_that_no_look_saw(scene: Scene) -> None:
    await scene.publish(2)
    await scene.consume(2)
    await scene.look()
    unseen = await scene.publish(9)
    await scene.consume(4)
    await _wipe(scene)
    assert (await scene.look()).loss
    (incident,) = await scene.incidents()
    assert incident.entries is None, "nobody can know of the five"
    assert covers(incident, *unseen[4:])


@pytest.mark.parametrize("listening", [True, False])
async def test_wiped_when_nobody_had_looked_for_long(scene: Scene, *, listening: bool) -> None:
    await scene.publish(2)
    await scene.consume(2)
    await scene.look()
    if listening:
        await scene.forget_looking("1 hour")
    else:
        await scene.service.execute("UPDATE sightings SET listening = false")
    await _wipe(scene)
    assert (await scene.look()).loss
    (incident,) = await scene.incidents()
    assert incident.entries is None
    assert (incident.last_noticed_at - incident.since).total_seconds() > 3600 * listening


async def test_only_the_stream_is_deleted(scene: Scene) -> None:
    await scene.publish(3)
    await scene.look()
    await scene.redis.delete(scene.stream)
    assert (await scene.look()).loss
    (incident,) = await scene.incidents()
    assert incident.entries == 3


async def test_an_older_copy(scene: Scene) -> None:
    await scene.publish(5)
    await scene.consume(3)
    copy = await scene.redis.dump(scene.stream)
    lost = await scene.publish(4)
    await scene.look()
    await _back_to(scene, copy)
    assert (await scene.look()).loss
    (incident,) = await scene.incidents()
    assert (incident.kind, incident.entries) == ("rolled_back", 4)
    assert covers(incident, *lost)
    await scene.consume(100)
    await scene.look()
    assert len(await scene.incidents()) == 1


async def test_an_older_copy_that_has_already_grown_beyond(scene: Scene) -> None:
    await scene.publish(3)
    await scene.consume(3)
    copy = await scene.redis.dump(scene.stream)
    lost = await scene.publish(2)
    await scene.look()
    await _back_to(scene, copy)
    await scene.publish(50)
    await scene.consume(50)
    assert (await scene.look()).loss
    (incident,) = await scene.incidents()
    assert incident.entries == 2
    assert covers(incident, *lost)


async def test_an_older_copy_when_all_was_applied(scene: Scene) -> None:
    await scene.publish(3)
    await scene.consume(2)
    copy = await scene.redis.dump(scene.stream)
    await scene.consume(1)
    await scene.publish(2)
    await scene.consume(2)
    await scene.look()
    await _back_to(scene, copy)
    seen = await scene.look()
    assert (seen.loss, seen.rolled_back) == (None, True)
    await scene.consume(1)
    assert (await scene.look()).loss is None
    await scene.publish(3)
    await scene.trim(0)
    assert (await scene.look()).loss, "a loss after that still is one"
