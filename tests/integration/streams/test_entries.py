"""Reads, claims and waits stay within their bytes, on Valkey and on Redis 7."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from service.core.envelope import ENTRY_BYTES, KEPT_BYTES, MOST_FIELDS, Entry
from service.core.partitions import OrdersStream
from service.core.stream_ids import NO_ID, parse
from service.local.folder import DataFolder
from service.local.supervise import Supervisor
from service.streams import entries, groups, redis_client
from service.streams.doorbell import Doorbell
from service.streams.entries import Limits, Member
from service.streams.snapshot import take_snapshot
from service.streams.stream_info import count_after
from service.streams.trim import Keep, trim
from tests.conftest import Service
from tests.system.chaos.servers import debian_redis, redis_child

STREAM, GROUP = "sized", "crm"
ME = Member(OrdersStream(STREAM, 3), GROUP, "me")
DEAD = Member(OrdersStream(STREAM, 3), GROUP, "dead")
LARGE = 10_000_000
LITTLE = 100_000
"""Bytes that an answer without content certainly stays below."""


@pytest.fixture(params=["valkey", "redis 7"])
async def redis(
    request: pytest.FixtureRequest, service: Service, tmp_path: Path
) -> AsyncIterator[Any]:
    """Yield a client of either server, with an empty group on an empty stream."""
    if request.param == "valkey":
        await _begin(service.redis)
        yield service.redis
        await service.redis.delete(STREAM)
        return
    binary = debian_redis()
    if binary is None:
        pytest.skip("redis-server is not installed (apt-get install redis-server)")
    folder = DataFolder(tmp_path, lambda _: None)
    child, url = redis_child(folder, binary)
    supervisor = Supervisor(tmp_path, lambda _: None)
    await supervisor.start(child)
    async with redis_client.connect(url) as client:
        await _begin(client)
        yield client
    await supervisor.stop()
    folder.close()


async def _begin(redis: Any) -> None:
    await redis.delete(STREAM)
    await groups.ensure_group(redis, STREAM, GROUP)


async def _publish(redis: Any, *sizes: int) -> list[str]:
    """Publish entries with so many bytes in the field `data`; return their ids."""
    return [
        (await redis.xadd(STREAM, {"data": str(place).ljust(size, "x")})).decode()
        for place, size in enumerate(sizes)
    ]


def _weight(entry: Entry) -> int:
    return ENTRY_BYTES + entry.size - entry.missing


async def test_entries_of_any_size_are_read_once_and_within_the_limits(redis: Any) -> None:
    rng = random.Random(1)
    sizes = [rng.choice((10, 700, 20_000, 90_000, 250_000)) for _ in range(150)]
    ids = await _publish(redis, *sizes)
    limits = Limits(20, 300_000, 100_000)
    read: list[Entry] = []
    while (page := await entries.read(redis, ME, limits)).entries:
        assert len(page.entries) <= limits.entries
        assert page.weight == sum(map(_weight, page.entries)) <= limits.bytes
        read += page.entries
    assert [entry.id for entry in read] == ids
    assert {entry.partition for entry in read} == {3}
    for entry, size in zip(read, sizes, strict=True):
        assert entry.size == size + len("data")
        assert (entry.missing > 0) == (entry.size > limits.largest)
        if entry.missing:
            assert entry.size - entry.missing == KEPT_BYTES
    assert len(await groups.pending(redis, STREAM, GROUP, count=1000)) == len(ids)


async def test_an_entry_heavier_than_all_the_bytes_is_read_by_itself(redis: Any) -> None:
    await _publish(redis, 50_000, 50_000)
    for _ in range(2):
        assert len((await entries.read(redis, ME, Limits(10, 1000, 100_000))).entries) == 1


async def test_a_cut_entry_has_the_beginning_of_its_first_fields(redis: Any) -> None:
    await redis.xadd(STREAM, {"a" * 500: "b" * 100, "c": "d" * LARGE, "late": "x"})
    (entry,) = (await entries.read(redis, ME, Limits(10))).entries
    assert entry.fields == {b"a" * 500: b"b" * 100, b"c": b"d" * 423}
    assert entry.size == 600 + 1 + LARGE + 5


async def test_an_entry_with_many_fields_is_cut(redis: Any) -> None:
    await redis.xadd(STREAM, {str(number): "" for number in range(MOST_FIELDS)})
    await redis.xadd(STREAM, {str(number): "" for number in range(MOST_FIELDS + 1)})
    whole, cut = (await entries.read(redis, ME, Limits(10))).entries
    assert (len(whole.fields), whole.missing) == (MOST_FIELDS, 0)
    assert len(cut.fields) == MOST_FIELDS
    assert cut.missing


async def test_the_last_delivered_entry_is_told_if_there_is_no_new_one(redis: Any) -> None:
    assert await entries.read(redis, ME, Limits(10)) == ([], 0, "0-0")
    (id_,) = await _publish(redis, 10)
    assert (await entries.read(redis, ME, Limits(10))).last_delivered is None
    assert await entries.read(redis, ME, Limits(10)) == ([], 0, id_)


async def test_claims_stay_within_the_bytes_and_set_the_deliveries(redis: Any) -> None:
    ids = await _publish(redis, *[40_000] * 6, LARGE, *[40_000] * 3)
    await entries.read(redis, DEAD, Limits(20, 1 << 30))
    await redis.xdel(STREAM, ids[1])
    wanted = [(id_, 7) for id_ in ids]
    claimed: list[Entry] = []
    while wanted:
        found, weight, tried = await entries.claim(
            redis, ME, 0, wanted, Limits(20, 200_000, 100_000)
        )
        assert weight == sum(map(_weight, found)) <= 200_000
        wanted = wanted[tried:]
        claimed += found
    assert [entry.id for entry in claimed] == ids[:1] + ids[2:]
    assert [entry.id for entry in claimed if entry.missing] == [ids[6]]
    assert {
        (each.id, each.deliveries, each.consumer)
        for each in await groups.pending(redis, STREAM, GROUP, count=20)
    } == {(entry.id, 7, "me") for entry in claimed}


async def test_entries_that_are_not_idle_are_not_claimed(redis: Any) -> None:
    ids = await _publish(redis, 10, 10)
    await entries.read(redis, DEAD, Limits(1))
    claimed = await entries.claim(redis, ME, 60_000, [(id_, 2) for id_ in ids], Limits(10))
    assert claimed == ([], 0, 2)


async def test_own_pending_entries_are_read_page_by_page_without_deleted_ones(redis: Any) -> None:
    ids = await _publish(redis, *[90_000] * 12)
    await entries.read(redis, ME, Limits(20, 1 << 30))
    await redis.xdel(STREAM, *ids[:5], ids[8])
    found: list[str] = []
    after = "0"
    while page := (
        await entries.read(redis, ME, Limits(20, 200_000, 100_000), after=after)
    ).entries:
        assert len(page) <= 2
        found += [entry.id for entry in page]
        after = found[-1]
    assert found == ids[5:8] + ids[9:]


async def test_a_range_is_read_page_by_page(redis: Any) -> None:
    ids = await _publish(redis, *[90_000] * 5, LARGE, *[90_000] * 2)
    found: list[Entry] = []
    start = "-"
    while page := await entries.read_range(redis, STREAM, start, "+", Limits(20, 200_000, 100_000)):
        assert sum(map(_weight, page)) <= 200_000
        found += page
        start = f"({found[-1].id}"
    assert [entry.id for entry in found] == ids
    assert [entry.id for entry in found if entry.missing] == [ids[5]]


async def _sent(redis: Any) -> int:
    """Return how many bytes the server has sent to all its clients."""
    return int((await redis.info("stats"))["total_net_output_bytes"])


async def test_nobody_is_sent_a_large_entry_to_learn_about_its_stream(redis: Any) -> None:
    first, *_, last = await _publish(redis, LARGE, 10, LARGE)
    before = await _sent(redis)
    assert (await groups.backlog(redis, STREAM, GROUP)).lag == 3
    assert await groups.last_number(redis, STREAM) == parse(last)[0]
    snapshot = await take_snapshot(redis, STREAM, GROUP)
    assert (snapshot.first, snapshot.last) == (parse(first), parse(last))
    assert await count_after(redis, STREAM, NO_ID) == 3
    assert (await trim(redis, STREAM, Keep(None, 1), group=GROUP)).left == 3
    assert await _sent(redis) - before < LITTLE


async def test_unread_entries_are_not_counted_if_that_takes_too_many_bytes(redis: Any) -> None:
    await _publish(redis, *[900_000] * 10)
    await entries.read(redis, ME, Limits(1))
    assert (await take_snapshot(redis, STREAM, GROUP)).unread is None
    await entries.read(redis, ME, Limits(7, 1 << 30))
    assert (await take_snapshot(redis, STREAM, GROUP)).unread == 2


async def test_a_doorbell_rings_for_an_entry_that_it_is_not_sent(redis: Any) -> None:
    bell = Doorbell(redis, STREAM)
    before = await _sent(redis)
    waiting = asyncio.create_task(bell.wait("0-0", 600))
    while not any(client["cmd"] == "xread" for client in await redis.client_list()):
        assert not waiting.done()
    await _publish(redis, LARGE)
    await asyncio.wait_for(waiting, 60)
    await bell.wait("0-0", 600)  # the entry is there already
    assert await _sent(redis) - before < LITTLE + 4000 * len(await redis.client_list())


async def test_a_doorbell_ends_its_wait_without_an_entry(redis: Any) -> None:
    started = asyncio.get_running_loop().time()
    await Doorbell(redis, STREAM).wait("0-0", 0.2)
    assert asyncio.get_running_loop().time() - started >= 0.2


@pytest.mark.parametrize("forbidden", ["-client|reply", "-xread"])
async def test_where_waiting_is_forbidden_a_doorbell_pauses(redis: Any, forbidden: str) -> None:
    await redis.execute_command("ACL", "SETUSER", "bell", "on", ">secret", "~*", "+@all", forbidden)
    address = redis.connection_pool.connection_kwargs
    url = f"redis://bell:secret@{address['host']}:{address['port']}/{address.get('db', 0)}"
    limited: Any = redis_client.connect(url)
    try:
        bell = Doorbell(limited, STREAM)
        loop = asyncio.get_running_loop()
        started = loop.time()
        for _ in range(8):
            await bell.wait("0-0", 60)
        assert 0.1 < loop.time() - started < 50
    finally:
        await limited.aclose()
        await redis.execute_command("ACL", "DELUSER", "bell")
