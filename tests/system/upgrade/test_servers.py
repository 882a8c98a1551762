"""Everything that the service needs of Redis, on each server that docs/support.md lists."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from consumers import chores
from service.local.folder import DataFolder
from service.local.supervise import Supervisor
from service.streams import groups, redis_client
from tests.conftest import Service
from tests.events import fields
from tests.integration.streams.scene import Scene, all_checked
from tests.integration.worker.scene import (
    all_applied,
    all_published,
    in_order_without_holes,
    publish_all,
    working,
)
from tests.system.chaos.servers import REDIS, VALKEY, debian_redis, redis_child
from tests.wait import until

_VERSIONS = {REDIS: "7.", VALKEY: "9."}


@pytest.fixture(params=_VERSIONS)
async def on_server(
    request: pytest.FixtureRequest, empty_service: Service, tmp_path: Path
) -> AsyncIterator[Service]:
    """Yield an empty service on a Redis of that kind, started for it."""
    binary = debian_redis() if request.param == REDIS else None
    if request.param == REDIS and binary is None:
        pytest.skip("redis-server is not installed (apt-get install redis-server)")
    folder = DataFolder(tmp_path, lambda _: None)
    child, url = redis_child(folder, binary)
    supervisor = Supervisor(tmp_path, lambda _: None)
    await supervisor.start(child)
    async with redis_client.connect(url) as client:
        info: Any = await client.info("server")
        found = info.get("valkey_version") or info["redis_version"]
        if not found.startswith(_VERSIONS[request.param]):
            pytest.skip(f"this {request.param} is {found}")
        yield dataclasses.replace(
            empty_service,
            config=empty_service.config.model_copy(update={"redis_url": url}),
            redis=client,
            servers=dataclasses.replace(empty_service.servers, redis_url=url, redis=None),
        )
    await supervisor.stop()
    folder.close()


async def test_orders_are_read_taken_over_trimmed_and_losses_noticed(
    on_server: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chores, "_TRIM_SECONDS", 0.05)
    service, scene = on_server, Scene(on_server)
    orders, group = service.config.orders_stream, service.config.orders_group

    # A group begins with entries published before it; entries of a dead consumer are taken over.
    await publish_all(service, [fields(f"OLD-{n}", email=f"c{n}@x.org") for n in range(300)])
    await groups.ensure_group(service.redis, orders, group)
    assert len(await scene.read(40)) == 40
    short = {"orders_keep_entries": 100, "reclaim_idle_seconds": 0.3}
    async with working(service, **short):
        await all_applied(service, 300)
        await all_published(service)
        await in_order_without_holes(service)

        async def is_trimmed() -> bool:
            return int(await scene.redis.xlen(orders)) <= 200  # trimmed by whole nodes of a hundred

        await until(is_trimmed)
        await all_checked(service)
    assert await service.findings() == []

    # Entries removed unread, while no worker runs, are noticed.
    await scene.publish(10)
    await scene.trim(4)
    async with working(service):
        await all_applied(service, 304)
        await all_checked(service)
    (incident,) = await scene.losses()
    assert incident.entries == 6
    assert [finding.number for finding in await service.findings()] == [2]
