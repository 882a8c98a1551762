"""A Redis before 7.2, such as Debian's, does not count a read that returned nothing as activity."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from service.local.folder import DataFolder
from service.local.supervise import Supervisor
from service.streams import groups, redis_client
from tests.system.chaos.servers import debian_redis, redis_child
from tests.wait import until

STREAM, GROUP, ME = "orders", "crm", "me"
QUIET_SECONDS = 1.0
"""Longer than a loaded machine takes for two commands."""


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Any]:
    """Yield a client of Debian's Redis."""
    binary = debian_redis()
    if binary is None:
        pytest.skip("redis-server is not installed (apt-get install redis-server)")
    folder = DataFolder(tmp_path, lambda _: None)
    child, url = redis_child(folder, binary)
    supervisor = Supervisor(tmp_path, lambda _: None)
    await supervisor.start(child)
    async with redis_client.connect(url) as client:
        yield client
    await supervisor.stop()
    folder.close()


async def test_a_waiting_worker_is_seen_as_active_and_given_no_entry(redis: Any) -> None:
    if await redis_client.records_idle_readers(redis):
        pytest.skip("this redis-server notes them: it is 7.2 or later")
    await groups.ensure_group(redis, STREAM, GROUP)
    assert not await redis.xreadgroup(GROUP, ME, {STREAM: ">"}, block=10)
    assert await groups.consumers(redis, STREAM, GROUP) == []
    await groups.show_presence(redis, STREAM, GROUP, ME)
    await redis.xadd(STREAM, {"data": "x"})
    await redis.xreadgroup(GROUP, ME, {STREAM: ">"})

    async def is_quiet() -> bool:
        (member,) = await groups.consumers(redis, STREAM, GROUP)
        return member.idle_seconds > QUIET_SECONDS

    await until(is_quiet)
    await redis.xreadgroup(GROUP, ME, {STREAM: ">"}, block=10)
    assert await is_quiet()
    await groups.show_presence(redis, STREAM, GROUP, ME)
    assert not await is_quiet()
    ((_, deliveries, _),) = await groups.pending(redis, STREAM, GROUP, count=10)
    assert deliveries == 1
