"""Entries of erased people leave the streams, and nothing else that looks at a stream notices."""

from datetime import UTC, datetime, timedelta

import pytest

from service.core.stream_ids import before, parse, write
from service.db.customers import editing
from service.db.operations import stream_erasure
from service.db.operations.trimming import trim_orders
from service.streams import groups
from service.streams.groups import backlog
from service.streams.trim import Keep
from tests.conftest import Service
from tests.events import fields
from tests.integration.streams.scene import Scene
from tests.reading import deliver

JANE = "jane@example.com"


async def _erase(service: Service, email: str = JANE) -> None:
    (row,) = await service.rows("SELECT id FROM customers WHERE email_key = :email", email=email)
    async with service.engine.begin() as connection:
        await editing.delete(connection, "a test", row["id"])


async def _search(scene: Scene) -> int:
    """Search until nothing is left to do; return how many entries were deleted."""
    deleted = 0
    stream = scene.service.config.orders_streams[0]
    while True:
        async with scene.service.engine.begin() as connection:
            more = await stream_erasure.search_page(
                connection,
                scene.service.redis,
                stream,
                scene.group,
                scene.service.config.terms,
            )
        if more is None:
            return deleted
        deleted += more


async def _ids(scene: Scene) -> list[str]:
    return [id_.decode() for id_, _ in await scene.redis.xrange(scene.stream)]


async def _jane(scene: Scene, order_id: str = "ORD-JANE", **order: object) -> str:
    return await scene.service.publish(fields(order_id, email=JANE, name="Jane Smith", **order))


async def test_her_entries_are_deleted_and_those_of_others_stay(scene: Scene) -> None:
    first = await _jane(scene)
    others = await scene.publish(1200)
    refused = await _jane(scene, "ORD-BAD", total="-1")
    nobody = await scene.service.publish(fields("ORD-JANE", version=2, customer=None))
    last = await scene.publish(1)
    while await scene.consume(500):
        pass
    assert await _search(scene) == 0, "nobody was erased yet"
    assert (await scene.service.rows("SELECT 1 FROM stream_searches")) == []
    await _erase(scene.service)
    assert await _search(scene) == 3
    assert await _ids(scene) == [*others, *last]
    assert {first, refused, nobody}.isdisjoint(await _ids(scene))
    assert (await scene.check()).loss is None
    assert await scene.service.findings() == []


async def test_an_entry_that_a_group_still_needs_stays_until_it_has_read_it(scene: Scene) -> None:
    await groups.ensure_group(scene.service.redis, scene.stream, "others")
    mine, pending = await _jane(scene), await _jane(scene, "ORD-HERS")
    await scene.publish(3)
    await scene.consume(1)
    held = await scene.read(1)
    await scene.service.ingest(*held)
    await _erase(scene.service)
    assert await _search(scene) == 0, "the other group has read nothing"
    theirs = await deliver(scene.service.redis, scene.stream, "others", "them", count=5)
    assert await _search(scene) == 0, "the other group has acknowledged nothing"
    await scene.redis.xack(scene.stream, "others", *(entry.id for entry in theirs))
    assert await _search(scene) == 1
    assert mine not in await _ids(scene)
    assert pending in await _ids(scene), "our group has not acknowledged it"
    await scene.acknowledge(held)
    await scene.consume(3)
    assert await _search(scene) == 1
    assert pending not in await _ids(scene)


async def test_the_last_entry_that_was_read_stays_until_another_one_was(scene: Scene) -> None:
    await scene.publish(2)
    hers = await _jane(scene)
    await scene.consume(3)
    await _erase(scene.service)
    assert await _search(scene) == 0
    await scene.publish(1)
    assert await _search(scene) == 0
    await scene.consume(1)
    assert await _search(scene) == 1
    assert hers not in await _ids(scene)


async def test_lag_and_losses_are_told_as_before(scene: Scene) -> None:
    """Redis tells no lag if an entry was deleted at or after the last one that a group received."""
    await scene.publish(5)
    await _jane(scene)
    await scene.publish(2)
    await scene.consume(8)
    await scene.check()
    await _erase(scene.service)
    assert await _search(scene) == 1
    for unread in (0, 3):
        await scene.publish(unread)
        (info,) = await scene.redis.xinfo_groups(scene.stream)
        assert info["lag"] == unread
        told = await backlog(scene.service.redis, scene.stream, scene.group)
        assert (told.lag, told.pending, told.entries_read) == (unread, 0, 8)
    await scene.redis.xtrim(scene.stream, maxlen=1, approximate=False)
    assert (await scene.check()).loss, "two unread entries are lost, beside the one deleted"
    (loss,) = await scene.losses()
    assert loss.entries == 2


async def test_without_her_entries_the_stream_is_still_the_same_one(scene: Scene) -> None:
    """A check compares the stream with what the last check saw, its last entry included."""
    await scene.publish(1)
    await _jane(scene)
    await scene.consume(2)
    await scene.check()
    await scene.publish(1)
    await scene.consume(1)
    await _erase(scene.service)
    assert await _search(scene) == 1
    assert (await scene.check()).loss is None


async def test_a_group_that_is_set_back_reads_the_rest_again(scene: Scene) -> None:
    """`crm replay` does this. What was deleted is not read again, and not counted as a loss."""
    await scene.publish(3)
    await _jane(scene)
    await scene.publish(3)
    await scene.consume(7)
    await scene.check()
    await _erase(scene.service)
    assert await _search(scene) == 1
    first, *_ = await _ids(scene)
    await scene.redis.xgroup_setid(
        scene.stream, scene.group, write(before(parse(first))), entries_read=1
    )
    told = await backlog(scene.service.redis, scene.stream, scene.group)
    assert told.lag is None, "Redis cannot tell; status and metrics say so"
    assert len(await scene.consume(10)) == 6
    told = await backlog(scene.service.redis, scene.stream, scene.group)
    assert (told.lag, told.entries_read) == (0, 7)
    assert (await scene.check()).loss is None
    assert await scene.service.findings() == []


async def test_an_old_event_that_arrives_after_the_erasure_is_deleted_too(scene: Scene) -> None:
    placed = datetime.now(UTC) - timedelta(days=3)
    await _jane(scene, created=placed)
    await scene.publish(2)
    await scene.consume(3)
    await _erase(scene.service)
    assert await _search(scene) == 1
    await scene.publish(2)
    await scene.consume(2)
    assert await _search(scene) == 0, "it ends behind the last entry that there was"
    late = await _jane(scene, "ORD-LATE", created=placed)
    await scene.publish(1)
    await scene.consume(2)
    assert await _search(scene) == 1
    assert late not in await _ids(scene)
    again = await _jane(scene, "ORD-NEW")
    await scene.publish(1)
    await scene.consume(2)
    await _search(scene)
    assert again in await _ids(scene), "she is a customer again"
    assert await scene.service.findings() == []


async def test_an_entry_that_names_her_beside_somebody_else_is_deleted_too(scene: Scene) -> None:
    placed = datetime.now(UTC) - timedelta(days=3)
    await _jane(scene, created=placed)
    await scene.publish(2)
    await scene.consume(3)
    await _erase(scene.service)
    assert await _search(scene) == 1
    both = await scene.service.publish(
        fields("ORD-BOTH", customer={"id": 7, "email": JANE}, created=placed)
    )
    await scene.publish(1)
    await scene.consume(2)
    assert await _search(scene) == 1
    assert both not in await _ids(scene)
    (order,) = await scene.service.rows(
        "SELECT customer_id, identifier, other_identifier FROM orders WHERE id = 'ORD-BOTH'"
    )
    assert order["customer_id"]
    assert order["identifier"].startswith("external:")
    assert order["other_identifier"] is None
    assert await scene.service.findings() == []


async def test_trimming_goes_on_below_deleted_entries(scene: Scene) -> None:
    await _jane(scene)
    await scene.publish(400)
    await _jane(scene, "ORD-HERS")
    await scene.publish(1)
    await scene.consume(500)
    await _erase(scene.service)
    assert await _search(scene) == 2
    async with scene.service.engine.begin() as connection:
        trimmed = await trim_orders(
            connection, scene.service.redis, scene.stream, scene.group, Keep(None, 10)
        )
    assert trimmed
    assert trimmed.entries >= 300
    assert (await scene.check()).loss is None


@pytest.mark.parametrize("missing", ["group", "stream"])
async def test_nothing_is_deleted_without_our_group(scene: Scene, missing: str) -> None:
    await _jane(scene)
    await scene.publish(1)
    await scene.consume(2)
    await _erase(scene.service)
    if missing == "group":
        await scene.redis.xgroup_destroy(scene.stream, scene.group)
    else:
        await scene.redis.delete(scene.stream)
    assert await _search(scene) == 0
    assert await scene.redis.xlen(scene.stream) == (2 if missing == "group" else 0)


async def test_a_search_begins_again_with_every_erasure(scene: Scene) -> None:
    await _jane(scene)
    await scene.publish(7)
    await scene.consume(8)
    await _erase(scene.service)
    assert await _search(scene) == 1
    await _erase(scene.service, "c1@x.org")
    assert await _search(scene) == 1
    assert await scene.service.rows("SELECT erasures, entries FROM stream_searches") == [
        {"erasures": 2, "entries": 2}
    ]
