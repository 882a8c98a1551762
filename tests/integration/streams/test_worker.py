"""Real workers notice losses and report them everywhere."""

import asyncio
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from consumers import chores
from tests.conftest import Service
from tests.events import fields
from tests.integration.cli.conftest import Crm
from tests.integration.http.conftest import client
from tests.integration.http.test_health_and_metrics import metrics
from tests.integration.streams.scene import Scene, all_checked, covers
from tests.integration.worker.scene import all_applied, all_published, publish_all, working
from tests.wait import until


@pytest.fixture
def crm(empty_service: Service, tmp_path: Path) -> Crm:
    return Crm(empty_service.servers, tmp_path)


def _orders(count: int, first: int = 0) -> list[dict[bytes, bytes]]:
    return [fields(f"ORD-{n}", email=f"c{n % 9}@x.org") for n in range(first, first + count)]


async def _noticed(service: Service) -> None:
    async def recorded() -> bool:
        return bool(await service.rows("SELECT id FROM losses"))

    await until(recorded)


async def test_a_loss_while_no_worker_ran_is_logged_measured_and_listed(
    empty_service: Service, crm: Crm, caplog: pytest.LogCaptureFixture
) -> None:
    service = empty_service
    scene = Scene(service)
    async with working(service):
        await publish_all(service, _orders(20))
        await all_applied(service, 20)
        await all_published(service)
    ids = await scene.publish(10)
    await scene.trim(4)
    finding = next(each for each in await service.findings() if each.number == 2)
    assert finding.offenders[0]["lost"] == 6, "`crm verify` finds it without a worker"
    async with working(service), working(service):
        await _noticed(service)
        await all_applied(service, 24)
        await all_published(service)
        await all_checked(service)
    (loss,) = await scene.losses()
    assert loss.entries == 6
    assert covers(loss, *ids[:6])
    assert not covers(loss, ids[6])
    (logged,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert f"{service.config.orders_stream} lost entries" in logged.getMessage()

    async with client(service) as http:
        await _expect(http, total=1, open_=1, entries=6)
        status, verify = await asyncio.gather(crm("status", "--json"), crm("verify"))
        assert (status.document["losses"], status.document["lostEntries"]) == (1, 6)
        assert verify.status == 1
        assert "lost=6, how=removed" in verify.out
        listed = json.loads((await crm("losses", "--json")).out)
        assert [(each["id"], each["entries"], each["afterId"]) for each in listed] == [
            (loss.id, 6, loss.after_id)
        ]
        acknowledged = await crm("losses", "--acknowledge", str(loss.id))
        assert (acknowledged.status, acknowledged.out) == (0, "No open losses.\n")
        assert (await crm("losses", "--acknowledge", str(loss.id))).status == 1
        assert "acknowledged by cli:" in (await crm("losses", "--all")).out
        await _expect(http, total=1, open_=0, entries=0)
    assert 2 not in {finding.number for finding in await service.findings()}
    (audited,) = await service.rows("SELECT action, details FROM audit")
    assert audited == {"action": "loss.acknowledged", "details": {"loss": loss.id}}


async def _expect(http: httpx.AsyncClient, *, total: int, open_: int, entries: int) -> None:
    values = await metrics(http)
    names = ("crm_losses_total", "crm_open_losses", "crm_lost_entries")
    assert [values[name, ""] for name in names] == [total, open_, entries]


async def test_a_wipe_is_reported_although_everything_seen_was_applied(
    empty_service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service = empty_service
    async with working(service):
        await publish_all(service, _orders(20))
        await all_applied(service, 20)
        await all_published(service)
        await all_checked(service)
        await service.redis.flushall()
        await _noticed(service)
        await publish_all(service, _orders(20, first=20))
        await all_applied(service, 40)
        await all_published(service)
        await all_checked(service)
    assert "nobody knows how many, if any" in caplog.text
    (loss,) = await Scene(service).losses()
    assert (loss.kind, loss.entries) == ("rolled_back", None)


async def test_unread_entries_that_redis_forgot_are_a_loss(
    empty_service: Service,
) -> None:
    service = empty_service
    valkey = service.servers.redis
    if valkey is None:
        pytest.skip("the Redis was given from outside, so the test must not empty it")
    scene = Scene(service)
    async with working(service):
        await publish_all(service, _orders(20))
        await all_applied(service, 20)
        await all_checked(service)
    ids = await scene.publish(5)
    await scene.check()
    await asyncio.to_thread(valkey.stop)
    await asyncio.to_thread(shutil.rmtree, valkey.data / "appendonlydir")
    await asyncio.to_thread(valkey.start)
    async with working(service):
        await _noticed(service)
        await all_published(service)
    (loss,) = await scene.losses()
    assert (loss.kind, loss.entries) == ("rolled_back", 5)
    assert covers(loss, *ids)


async def test_each_entry_under_a_publishers_maxlen_is_applied_or_lost(
    empty_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With MAXLEN on every XADD and a slow worker, each entry is applied or counted as lost."""
    service = empty_service
    monkeypatch.setattr(chores, "_TRIM_SECONDS", 0.05)
    raw: Any = service.redis
    async with working(service, batch_size=5):
        await all_checked(service)
        for start in range(0, 2000, 200):
            pipeline = raw.pipeline(transaction=False)
            for entry in _orders(200, first=start):
                pipeline.xadd(service.config.orders_stream, entry, maxlen=20, approximate=False)
            await pipeline.execute()
        await all_applied(service, 1)
        await all_published(service)
        await all_checked(service)
    (applied,) = await service.rows("SELECT sum(read)::int AS n FROM ingest_counters")
    (lost,) = await service.rows("SELECT count(*) AS losses, sum(entries)::int AS n FROM losses")
    assert lost["losses"] == 1
    assert applied["n"] + lost["n"] == 2000
