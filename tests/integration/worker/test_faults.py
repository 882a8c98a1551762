"""Servers are killed, hang, lose data or refuse work; the worker recovers, or reports why not."""

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy.exc import DBAPIError

from service.streams import groups, redis_client
from tests.conftest import Service
from tests.events import fields
from tests.integration.streams.scene import all_checked
from tests.integration.worker.scene import (
    acknowledge_losses,
    all_applied,
    all_published,
    backlog,
    in_order_without_holes,
    order_count,
    out_stream,
    publish_all,
    totals,
    working,
)
from tests.processes import HOST, Process, Processes, free_port
from tests.redis_users import SERVICE
from tests.servers import Embedded, send_to_all
from tests.wait import PATIENCE, until

MEASURED_SECONDS = 2.0


def _orders(count: int, first: int = 0) -> list[dict[bytes, bytes]]:
    return [
        fields(f"ORD-{n}", email=f"c{n % 20}@x.org", total="1.00")
        for n in range(first, first + count)
    ]


@pytest.fixture
async def replica(service: Service, valkey: Embedded) -> AsyncIterator[Any]:
    """Return a client of a Valkey that the test makes a replica; make it a master afterwards."""
    assert valkey.pid
    raw: Any = service.redis
    yield raw
    await raw.replicaof("NO", "ONE")


async def _postgres_answers(service: Service) -> bool:
    try:
        return bool(await service.rows("SELECT 1"))
    except (DBAPIError, OSError):
        return False


async def _redis_answers(service: Service) -> bool:
    try:
        return bool(await service.redis.ping())
    except redis_client.REDIS_ERRORS:
        return False


async def test_orders_survive_a_killed_postgres(service: Service, postgres: Embedded) -> None:
    async with working(service, batch_size=20, reclaim_idle_seconds=0.5) as worker:
        await publish_all(service, _orders(200))
        await all_applied(service, 20)
        await publish_all(service, _orders(400, first=200))
        postgres.kill()

        async def noticed() -> bool:
            return worker.applier.waiting_since is not None

        await until(noticed)
        await publish_all(service, _orders(400, first=600))
        waiting = await groups.pending(
            service.redis, service.config.orders_stream, service.config.orders_group, count=1000
        )
        assert 0 < len(waiting) <= 100, "it must not read on while it cannot apply anything"
        assert max(entry.deliveries for entry in waiting) <= 2
        await until(lambda: _postgres_answers(service))
        await all_applied(service, 1000)
        assert worker.applier.waiting_since is None
        await all_published(service)
    assert await order_count(service) == 1000
    counted = await totals(service)
    assert (counted.applied, counted.dead_lettered) == (1000, 0)
    await in_order_without_holes(service)


async def test_a_terminated_backend_is_replaced(service: Service) -> None:
    async with working(service, batch_size=20, reclaim_idle_seconds=0.5):
        await publish_all(service, _orders(300))
        await all_applied(service, 20)
        ended = await service.rows(
            "SELECT pg_terminate_backend(pid) AS ended FROM pg_stat_activity"
            " WHERE application_name = 'crm worker'"
        )
        assert ended
        await publish_all(service, _orders(300, first=300))
        await all_applied(service, 600)
        await all_published(service)
    counted = await totals(service)
    assert (counted.applied, counted.dead_lettered) == (600, 0)
    await in_order_without_holes(service)


async def test_orders_survive_a_killed_valkey(service: Service, valkey: Embedded) -> None:
    async with working(service, batch_size=20, reclaim_idle_seconds=0.5):
        await publish_all(service, _orders(300))
        await all_applied(service, 20)
        killed = valkey.pid
        valkey.kill()

        async def is_back() -> bool:
            return valkey.pid not in {None, killed} and await _redis_answers(service)

        await until(is_back)
        await publish_all(service, _orders(300, first=300))
        await all_applied(service, 600)
        await all_published(service)
    assert await order_count(service) == 600
    counted = await totals(service)
    assert (counted.applied, counted.dead_lettered) == (600, 0)
    await in_order_without_holes(service)


async def test_a_wiped_redis_is_filled_again(service: Service) -> None:
    async with working(service, batch_size=20) as worker:
        await publish_all(service, _orders(100))
        await all_applied(service, 100)
        await all_published(service)
        await all_checked(service)
        before = await out_stream(service)
        await service.redis.flushall()
        await publish_all(service, _orders(100, first=100))
        await all_applied(service, 200)

        async def is_back() -> bool:
            return len(await out_stream(service)) >= len(before)

        await until(is_back)
        await all_published(service)
        assert [member.name for member in (await backlog(service)).consumers] == [worker.name]
    assert (await out_stream(service))[: len(before)] == before
    assert await order_count(service) == 200
    await in_order_without_holes(service)
    await acknowledge_losses(service)


async def _cpu_share(process: Process, seconds: float) -> float:
    """Return how much of one core a process uses."""
    watched = psutil.Process(process.pid)
    before = watched.cpu_times()
    await asyncio.sleep(seconds)
    after = watched.cpu_times()
    return (after.user + after.system - before.user - before.system) / seconds


async def test_a_worker_waits_while_its_master_is_a_replica(
    service: Service, crm: Processes, replica: Any
) -> None:
    worker = await crm.worker()
    await publish_all(service, _orders(50))
    await all_applied(service, 50)
    await all_published(service)
    await replica.replicaof("127.0.0.1", str(free_port()))
    assert await _cpu_share(worker, MEASURED_SECONDS) < 0.5
    await replica.replicaof("NO", "ONE")
    await publish_all(service, _orders(50, first=50))
    await all_applied(service, 100)
    await worker.ready()
    assert await order_count(service) == 100
    assert await worker.terminate() == 0


async def test_a_key_that_is_no_stream_does_not_make_a_worker_spin(
    service: Service, crm: Processes
) -> None:
    worker = await crm.worker()
    await service.redis.delete(service.config.orders_stream)
    await service.redis.set(service.config.orders_stream, "not a stream")

    async def is_not_ready() -> bool:
        status, _ = await worker.ask("/readyz")
        return status == 503

    await until(is_not_ready)
    assert await _cpu_share(worker, MEASURED_SECONDS) < 0.5
    await service.redis.delete(service.config.orders_stream)


_IMPATIENT = """
import consumers.orders
consumers.orders._WATCH_SECONDS = 0.02
from service.cli.main import main
main()
"""


async def test_a_subscriber_that_cannot_come_back_ends_the_process(
    service: Service, crm: Processes
) -> None:
    if service.servers.redis is None:
        pytest.skip("the Redis was given from outside, so the test must not harm it")
    port = free_port()
    worker = crm.start(["-c", _IMPATIENT, "worker"], port, worker_port=port)
    await worker.ready()
    raw: Any = service.redis
    await raw.execute_command("ACL", "SETUSER", SERVICE, "-xgroup|create")
    try:
        await raw.xgroup_destroy(service.config.orders_stream, service.config.orders_group)
        assert await worker.ended() == 1
    finally:
        await raw.execute_command("ACL", "SETUSER", SERVICE, "+xgroup|create")
    assert "the subscriber to orders did not come back after 5 attempts" in worker.output
    assert "consumers.orders.SubscriberDiedError" in worker.output


async def _parts(worker: Process) -> dict[str, str]:
    assert (await worker.ask("/livez")) == (200, {"status": "ok"})
    status, body = await worker.ask("/readyz")
    parts: dict[str, str] = body["parts"]
    ready = all(part == "ok" for part in parts.values())
    assert (status, body["status"]) == ((200, "ok") if ready else (503, "not ready"))
    return parts


async def test_readiness_names_the_part_that_is_away(
    service: Service, crm: Processes, postgres: Embedded, valkey: Embedded
) -> None:
    worker = await crm.worker()
    assert set(await _parts(worker)) == {"database", "redis", "subscriber"}
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{worker.port}", trust_env=False) as http:
        for path in ("/livez", "/readyz"):
            assert (await http.head(path, timeout=PATIENCE)).status_code == 200
    try:
        send_to_all(postgres.pid, signal.SIGSTOP)
        parts = await _parts(worker)
        assert parts["database"].startswith("not ready")
        assert parts["redis"] == parts["subscriber"] == "ok"
    finally:
        send_to_all(postgres.pid, signal.SIGCONT)
    await worker.ready()
    try:
        valkey.kill(signal.SIGSTOP)
        parts = await _parts(worker)
        assert parts["redis"].startswith("not ready")
        assert parts["database"] == "ok"
    finally:
        valkey.kill(signal.SIGCONT)
    await worker.ready()
    await publish_all(service, _orders(10))
    await all_applied(service, 10)
    assert await worker.terminate() == 0


async def test_only_the_entries_that_the_database_refuses_become_dead_letters(
    service: Service,
) -> None:
    await service.execute(
        "ALTER TABLE orders ADD CONSTRAINT refused CHECK (id NOT IN ('ORD-17', 'ORD-44'))"
    )
    try:
        await publish_all(service, _orders(64))
        async with working(service, batch_size=64):
            await all_applied(service, 64)
    finally:
        await service.execute("ALTER TABLE orders DROP CONSTRAINT refused")
    letters = await service.rows("SELECT reason, error, field_values FROM dead_letters")
    assert [letter["reason"] for letter in letters] == ["not_applicable"] * 2
    assert all("the database refused it" in letter["error"] for letter in letters)
    refused = {
        name
        for name in (b"ORD-17", b"ORD-44")
        for letter in letters
        if name in letter["field_values"][0]
    }
    assert refused == {b"ORD-17", b"ORD-44"}
    assert await order_count(service) == 62
    counted = await totals(service)
    assert (counted.read, counted.applied, counted.dead_lettered) == (64, 62, 2)
