"""A worker waits for the servers that are away at its start, and says for which and why."""

from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx
import pytest
from redis.exceptions import RedisError

from consumers.applier import Inbox
from consumers.orders import OrdersConsumer
from service.db.grants import WORKER
from tests.conftest import Service
from tests.events import fields
from tests.integration.worker.scene import all_applied, backlog
from tests.processes import Process, Processes, free_port
from tests.servers import Embedded
from tests.system.chaos.proxy import Proxy
from tests.wait import until


async def _waits(worker: Process, server: str, why: str) -> None:
    """Wait until the worker's log has this line, and nothing else about it."""

    async def says_so() -> bool:
        assert worker.status is None, worker.output
        return f"waiting for {server}: {why}" in worker.output

    await until(says_so)
    assert "Traceback" not in worker.output
    assert worker.output.count(f"waiting for {server}") == 1


def _changed(url: str, **parts: object) -> str:
    """Return a URL with another password, host, port or path."""
    old = urlsplit(url)
    values = {"password": old.password, "host": old.hostname, "port": old.port, "path": old.path}
    new = {**values, **parts}
    place = f"{old.username}:{new['password']}@{new['host']}:{new['port']}"
    return old._replace(netloc=place, path=str(new["path"])).geturl()


async def test_a_worker_waits_for_a_redis_that_is_away(
    service: Service, crm: Processes, valkey: Embedded
) -> None:
    valkey.stop()
    try:
        worker = crm.start_worker()
        await _waits(worker, "Redis", "nobody listens at its address (CRM_REDIS_URL)")
        status, answer = await worker.ask("/readyz")
        assert status == httpx.codes.SERVICE_UNAVAILABLE
        assert answer["parts"]["redis"] == "not ready: nobody listens at its address"
        assert (await worker.ask("/livez"))[0] == httpx.codes.OK
    finally:
        valkey.start()
    await worker.ready()
    await service.publish(fields("ORD-1", email="ann@example.org"))
    await all_applied(service, 1)
    assert await worker.terminate() == 0


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"password": "wrong"}, "it refuses this user or the password"),
        ({"host": "no-such-host.invalid"}, "its host name cannot be resolved"),
        ({"port": 1}, "nobody listens at its address"),
    ],
)
@pytest.mark.parametrize("server", ["the database", "Redis"])
async def test_a_wrong_url_is_a_line_and_sigterm_ends_the_wait(
    service: Service, crm: Processes, server: str, parts: Mapping[str, object], why: str
) -> None:
    name = "redis_url" if server == "Redis" else "database_url"
    url = service.servers.redis_url if server == "Redis" else service.servers.url_of(WORKER)
    worker = crm.start_worker(**{name: _changed(url, **parts)})
    await _waits(worker, server, f"{why} (CRM_{name.upper()})")
    assert await worker.terminate() == 0
    assert "Traceback" not in worker.output


async def test_a_database_that_does_not_exist_is_named(service: Service, crm: Processes) -> None:
    url = _changed(service.servers.url_of(WORKER), path="/nothing")
    worker = crm.start_worker(database_url=url)
    await _waits(worker, "the database", "it has no database of that name (CRM_DATABASE_URL)")
    assert await worker.terminate() == 0


async def test_reading_can_be_started_again_after_it_failed(empty_service: Service) -> None:
    """Redis goes away between the creation of the group and the first read."""
    service = empty_service
    target, port = urlsplit(service.config.redis_url or "").port or 0, free_port()
    url = _changed(service.config.redis_url or "", host="127.0.0.1", port=port)
    config = service.config.model_copy(update={"redis_url": url})
    consumer = OrdersConsumer(config, service.redis, "me", Inbox(config))
    with pytest.raises((RedisError, OSError)):
        await consumer.start()
    async with Proxy(target, port):
        await consumer.start()
        try:
            await service.publish(fields("ORD-1", email="ann@example.org"))

            async def is_read() -> bool:
                return (await backlog(service)).pending == 1

            await until(is_read)
        finally:
            await consumer.stop()
