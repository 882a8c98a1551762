"""Redis comes back empty or with an older copy."""

from tests.integration.streams.scene import Scene, covers


async def _back_to(scene: Scene, copy: bytes) -> None:
    """Restore the stream and its group from a copy."""
    await scene.redis.restore(scene.stream, 0, copy, replace=True)


async def _wipe(scene: Scene) -> None:
    """Delete everything, the group included; `Scene.begin` creates it again, as a worker does."""
    await scene.redis.flushall()


async def test_a_wipe_after_everything_was_applied_is_a_loss_of_unknown_size(scene: Scene) -> None:
    """Entries may have been added after the last check, and only their publisher knows."""
    seen = await scene.publish(5)
    await scene.consume(5)
    await scene.check()
    unseen = await scene.publish()
    await _wipe(scene)
    assert (await scene.check()).loss
    (loss,) = await scene.losses()
    assert (loss.kind, loss.entries) == ("rolled_back", None)
    assert covers(loss, *unseen)
    assert not any(covers(loss, id_) for id_ in seen)
    await scene.begin()
    await scene.publish(3)
    await scene.consume(3)
    assert (await scene.check()).loss is None, "it is reported once"


async def test_entries_applied_after_the_last_check_are_not_counted_as_lost(scene: Scene) -> None:
    await scene.publish(5)
    await scene.consume(2)
    await scene.check()
    entries = await scene.read(3)
    await scene.service.ingest(*entries)
    await _wipe(scene)
    await scene.begin()
    (loss,) = await scene.losses()
    assert loss.entries is None


async def test_a_wipe_loses_unread_entries(scene: Scene) -> None:
    ids = await scene.publish(8)
    await scene.consume(5)
    await scene.check()
    await scene.consume(1)
    await _wipe(scene)
    assert (await scene.check()).loss
    (loss,) = await scene.losses()
    assert (loss.kind, loss.entries) == ("rolled_back", 2)
    assert covers(loss, *ids[6:])
    assert not any(covers(loss, id_) for id_ in ids[:5])
    await scene.check()
    assert len(await scene.losses()) == 1


async def test_a_wipe_is_noticed_after_the_stream_has_outgrown_its_old_length(scene: Scene) -> None:
    ids = await scene.publish(3)
    await scene.consume(1)
    await scene.check()
    await _wipe(scene)
    new = await scene.publish(30)
    await scene.begin()
    await scene.consume(30)
    await scene.check()
    (loss,) = await scene.losses()
    assert (loss.kind, loss.entries) == ("rolled_back", 2)
    assert covers(loss, *ids[1:])
    assert new


async def test_a_wipe_may_lose_entries_that_no_check_saw(scene: Scene) -> None:
    await scene.publish(2)
    await scene.consume(2)
    await scene.check()
    unseen = await scene.publish(9)
    await scene.consume(4)
    await _wipe(scene)
    assert (await scene.check()).loss
    (loss,) = await scene.losses()
    assert loss.entries is None, "no check saw the five that were not applied"
    assert covers(loss, *unseen[4:])


async def test_a_deleted_stream_loses_its_unread_entries(scene: Scene) -> None:
    await scene.publish(3)
    await scene.check()
    await scene.redis.delete(scene.stream)
    assert (await scene.check()).loss
    (loss,) = await scene.losses()
    assert loss.entries == 3


async def test_an_older_copy_loses_what_came_after_it(scene: Scene) -> None:
    await scene.publish(5)
    await scene.consume(3)
    copy = await scene.redis.dump(scene.stream)
    lost = await scene.publish(4)
    await scene.check()
    await _back_to(scene, copy)
    assert (await scene.check()).loss
    (loss,) = await scene.losses()
    assert (loss.kind, loss.entries) == ("rolled_back", 4)
    assert covers(loss, *lost)
    await scene.consume(100)
    await scene.check()
    assert len(await scene.losses()) == 1


async def test_an_older_copy_is_noticed_after_it_has_grown(scene: Scene) -> None:
    await scene.publish(3)
    await scene.consume(3)
    copy = await scene.redis.dump(scene.stream)
    lost = await scene.publish(2)
    await scene.check()
    await _back_to(scene, copy)
    await scene.publish(50)
    await scene.consume(50)
    assert (await scene.check()).loss
    (loss,) = await scene.losses()
    assert loss.entries == 2
    assert covers(loss, *lost)


async def test_an_older_copy_is_noticed_although_everything_seen_was_applied(scene: Scene) -> None:
    await scene.publish(3)
    await scene.consume(2)
    copy = await scene.redis.dump(scene.stream)
    await scene.consume(1)
    await scene.publish(2)
    await scene.consume(2)
    await scene.check()
    await _back_to(scene, copy)
    assert (await scene.check()).loss
    (loss,) = await scene.losses()
    assert loss.entries is None
    await scene.consume(1)
    assert (await scene.check()).loss is None
    await scene.publish(3)
    await scene.trim(0)
    assert (await scene.check()).loss, "a loss after that is still noticed"
