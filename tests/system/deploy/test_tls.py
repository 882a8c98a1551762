"""Both servers are reached by TLS, and one whose certificate does not prove it is refused."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from service.db import migrate
from service.db.engine import DATABASE_AWAY, create_engine, create_patient_engine
from service.db.grants import WEB, WORKER
from service.server_trouble import why_away
from service.streams import redis_client
from tests.conftest import Service
from tests.events import fields
from tests.integration.cli.conftest import Crm
from tests.processes import Processes
from tests.tls import ADDRESS, HOST, Tls, tls
from tests.wait import until

UNTRUSTED = "its certificate is not accepted (unable to get local issuer certificate"
OTHER_NAME = "its certificate is not accepted (IP address mismatch"


@pytest.fixture
async def encrypted(service: Service, tmp_path: Path) -> AsyncIterator[Tls]:
    async with tls(service.servers.database_url, service.servers.redis_url, tmp_path) as running:
        yield running


def _verified(authority: Path) -> str:
    return f"sslmode=verify-full&sslrootcert={authority}"


@pytest.mark.parametrize("make", [create_engine, create_patient_engine])
async def test_postgres_must_prove_itself(
    service: Service, encrypted: Tls, make: Callable[..., AsyncEngine]
) -> None:
    async def trouble(parameters: str, host: str = HOST) -> str:
        url = encrypted.postgres(service.servers.url_of(WORKER), parameters, host)
        engine = make(url, application="crm tests")
        try:
            async with engine.connect():
                return ""
        except DATABASE_AWAY as error:
            return why_away(error)
        finally:
            await engine.dispose()

    proven = _verified(encrypted.authority)
    assert await trouble(proven) == ""
    assert (await trouble(_verified(encrypted.stranger))).startswith(UNTRUSTED)
    assert (await trouble(proven, ADDRESS)).startswith(OTHER_NAME)
    of_authority = proven.replace("verify-full", "verify-ca")
    assert await trouble(of_authority, ADDRESS) == "", "verify-ca does not look at the name"
    assert await trouble("sslmode=require") == "", "encrypted, but not verified"
    assert await trouble("sslmode=disable") != "", "this server takes no plain connection"


async def test_redis_must_prove_itself(service: Service, encrypted: Tls) -> None:
    async def trouble(authority: Path, host: str = HOST) -> str:
        url = encrypted.redis(service.servers.redis_url, authority, host)
        async with aclosing(redis_client.connect(url, retries=0)) as redis:
            try:
                await redis.xlen("orders")
            except redis_client.REDIS_ERRORS as error:
                return why_away(error)
        return ""

    assert await trouble(encrypted.authority) == ""
    assert (await trouble(encrypted.stranger)).startswith(UNTRUSTED)
    assert (await trouble(encrypted.authority, ADDRESS)).startswith(OTHER_NAME)


async def test_every_process_works_through_tls(
    service: Service, encrypted: Tls, crm: Processes, tmp_path: Path
) -> None:
    servers, proven = service.servers, _verified(encrypted.authority)
    redis_url = encrypted.redis(servers.redis_url, encrypted.authority)
    as_worker = encrypted.postgres(servers.url_of(WORKER), proven)
    owner = encrypted.postgres(servers.database_url, proven)
    assert await migrate.upgrade(owner) == migrate.head()
    run = Crm(servers, tmp_path)
    migrated = await run("migrate", database_url=owner, redis_url=redis_url)
    assert migrated.status == 0, migrated.err
    status = await run("status", "--json", database_url=as_worker, redis_url=redis_url)
    assert status.document["ok"], status.document
    await crm.worker(database_url=as_worker, redis_url=redis_url)
    as_web = encrypted.postgres(servers.url_of(WEB), proven)
    web = await crm.web(database_url=as_web, redis_url=redis_url, database_read_url=as_web)
    await service.publish(fields("ORD-1", email="ann@example.org"))

    async def is_seen() -> bool:
        _, statistics = await web.ask("/api/v1/statistics")
        return bool(statistics.get("totalCustomers") == 1)

    await until(is_seen)


async def test_commands_and_workers_say_that_a_certificate_is_not_accepted(
    service: Service, encrypted: Tls, crm: Processes, tmp_path: Path
) -> None:
    wrong = {
        "database_url": encrypted.postgres(
            service.servers.url_of(WORKER), _verified(encrypted.stranger)
        ),
        "redis_url": encrypted.redis(service.servers.redis_url, encrypted.stranger),
    }
    ended = await Crm(service.servers, tmp_path)("status", "--json", **wrong)
    assert ended.status == 1
    assert ended.document["database"].startswith(f"away: {UNTRUSTED}")
    assert ended.document["redis"].startswith(f"away: {UNTRUSTED}")
    worker = crm.start_worker(**wrong)

    async def says_why() -> bool:
        return f"waiting for the database: {UNTRUSTED}" in worker.output

    await until(says_why)
    assert await worker.terminate() == 0
