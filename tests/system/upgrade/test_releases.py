"""The previous release and this one run on one database while it is migrated."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from service.config import asyncpg_url
from service.db.engine import create_engine
from service.streams import redis_client
from tests.events import fields
from tests.integration.cli.conftest import Crm
from tests.processes import Process, Processes, processes
from tests.servers import Servers
from tests.wait import until

_SLOW = 120.0


class Shop:
    """Publishes orders, and waits until they have taken effect."""

    def __init__(self, engine: AsyncEngine, redis: Any) -> None:
        self._engine = engine
        self._redis = redis
        self._published = 0

    async def order(self, *customers: str) -> None:
        """Publish an order for each customer."""
        for name in customers:
            self._published += 1
            email = f"{name}@example.org"
            entry = fields(f"ORD-{self._published}", email=email, name=name.title(), total="90")
            await self._redis.xadd("orders", entry)

    async def all_applied(self) -> None:
        """Wait until every order is applied and every segment change published."""

        async def done() -> bool:
            async with self._engine.connect() as connection:
                row = (await connection.execute(text(_DONE))).one()
            return tuple(row) == (self._published, 0)

        await until(done, _SLOW)


_DONE = """
SELECT (SELECT count(*) FROM orders),
       (SELECT count(*) FROM segment_changes WHERE publish_number IS NULL)
         + (SELECT numbered - published FROM relay)
"""


@asynccontextmanager
async def shop(servers: Servers) -> AsyncIterator[Shop]:
    engine = create_engine(asyncpg_url(servers.database_url), application="test")
    redis: Any = redis_client.connect(servers.redis_url)
    try:
        yield Shop(engine, redis)
    finally:
        await redis.aclose()
        await engine.dispose()


async def _customers(web: Process) -> dict[str, int]:
    """Return the number of orders per customer, from a web process whose figures must agree."""
    status, body = await web.ask("/api/v1/customers")
    assert status == 200, body
    status, figures = await web.ask("/api/v1/statistics")
    assert (status, figures["totalCustomers"]) == (200, body["total"])
    return {it["email"].partition("@")[0]: it["totalOrders"] for it in body["items"]}


async def _until_parts(process: Process, part: str, expected: str) -> None:
    async def says() -> bool:
        assert process.status is None, process.output
        status, body = await process.ask("/readyz")
        return status == 503 and expected in body["parts"].get(part, "")

    await until(says, _SLOW)


async def _end(process: Process) -> None:
    assert await process.terminate() == 0, process.output


async def _migrate_as(release: Processes) -> None:
    """Run ``crm migrate``."""
    assert await release.start(["-m", "service.cli", "migrate"], 0).ended() == 0


@pytest.mark.timeout(900)
async def test_a_release_replaces_the_previous_one_while_orders_come(
    own_servers: Servers, previous_release: Path, tmp_path: Path
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    async with (
        processes(own_servers, before, previous_release) as previous,
        processes(own_servers, after) as this,
        shop(own_servers) as orders,
    ):
        await _migrate_as(previous)
        old_worker, old_web = await previous.worker(), await previous.web()
        await orders.order("ann", "bob")
        await orders.all_applied()

        # Processes of this release wait for the schema, read no entry, and say so.
        worker, web = this.start_worker(), this.start_web()
        behind = "not ready: at 0002, needs"
        await _until_parts(worker, "database", behind)
        await _until_parts(worker, "subscriber", "not in the consumer group")
        await _until_parts(web, "schema", behind)
        assert (await worker.ask("/livez"))[0] == (await web.ask("/livez"))[0] == 200
        assert "waiting for the database: at 0002" in worker.output
        command = Crm(own_servers, after)
        verdict = await command("verify")
        assert (verdict.status, verdict.out) == (1, "")
        assert "run `crm migrate`" in verdict.err
        await orders.order("bob", "cat")
        await orders.all_applied()

        # The schema is migrated while processes of both releases run.
        await _migrate_as(this)
        await worker.ready()
        await web.ready()
        await orders.order("ann", "dan")
        await orders.all_applied()
        known = {"ann": 2, "bob": 2, "cat": 1, "dan": 1}
        assert await _customers(old_web) == await _customers(web) == known

        # The worker of the previous release alone applies orders.
        await _end(worker)
        await orders.order("ann", "eve")
        await orders.all_applied()
        known |= {"ann": 3, "eve": 1}
        assert await _customers(old_web) == await _customers(web) == known

        # The previous release ends. It did not keep daily figures; a rebuild adds what is missing.
        await _end(old_worker)
        await old_web.terminate()
        worker = await this.worker()
        await orders.order("eve")
        await orders.all_applied()
        report = await command("rebuild", "--json")
        assert (report.status, report.document["customers"]) == (1, 0), report.out
        assert _kinds(report.document) <= {"side", "changedOnNoDay"}
        assert (await command("rebuild", "--apply")).status == 0
        verdict = await command("verify")
        assert verdict.status == 0, verdict.out
        assert await _customers(web) == known | {"eve": 2}


def _kinds(report: dict[str, Any]) -> set[str]:
    """Return the kinds of statistics that differ; those by segment have neither key."""
    statistics = report["statistics"]
    assert statistics, json.dumps(report)
    return {next((k for k in ("side", "changedOnNoDay") if k in it), "other") for it in statistics}


async def test_this_release_runs_on_a_later_schema(own_servers: Servers, tmp_path: Path) -> None:
    async with processes(own_servers, tmp_path) as this, shop(own_servers) as orders:
        await _migrate_as(this)
        engine = create_engine(asyncpg_url(own_servers.database_url), application="test")
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        await engine.dispose()
        worker, web = await this.worker(), await this.web()
        await orders.order("ann")
        await orders.all_applied()
        assert await _customers(web) == {"ann": 1}
        await _migrate_as(this)
        await _end(worker)
