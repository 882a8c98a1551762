"""``/livez``, ``/readyz`` and ``/metrics``, with all parts running and with each one away."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.core.removal_event import RemovalReason
from service.db import migrate
from service.db.customers import removals
from service.streams import groups
from service.streams.redis_client import connection_options
from tests.conftest import Service
from tests.events import entry, fields
from tests.integration.http.conftest import client
from tests.reading import deliver
from tests.wait import until

Samples = dict[tuple[str, str], float]


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Return a port that nobody listens on, and keep it from others."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


async def metrics(http: httpx.AsyncClient) -> Samples:
    response = await http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


async def test_livez_answers(web: httpx.AsyncClient) -> None:
    response = await web.get("/livez")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_a_probe_may_ask_for_the_head_only(
    service: Service, web: httpx.AsyncClient, path: str
) -> None:
    assert (await web.head(path)).status_code == 200
    async with client(service, redis_url="redis://127.0.0.1:1") as without_redis:
        status = (await without_redis.head(path)).status_code
    assert status == (503 if path == "/readyz" else 200)


@pytest.mark.timeout(300)
async def test_a_redis_that_hangs_delays_no_page_and_no_probe(
    service: Service, web: httpx.AsyncClient
) -> None:
    """Each answer comes before the client of Redis would give up for the first time."""
    valkey = service.servers.redis
    if valkey is None:
        pytest.skip("only a server of our own can be made to hang")
    patience = connection_options()["socket_timeout"]
    paths = ("/operations", "/readyz", "/metrics")
    for path in paths:
        assert (await web.get(path)).status_code == 200
    valkey.kill(signal.SIGSTOP)
    try:
        async with asyncio.timeout(patience):
            page, ready, scraped = [await web.get(path) for path in paths]
    finally:
        valkey.kill(signal.SIGCONT)
    assert page.status_code == 200
    assert "Redis does not answer" in page.text
    assert "Dead letters" in page.text
    parts = ready.json()["parts"]
    assert (ready.status_code, parts["redis"]) == (503, "not ready: it does not answer in time")
    assert parts["database"] == "ok"
    assert 'crm_up{part="redis"} 0.0' in scraped.text
    assert 'crm_up{part="database"} 1.0' in scraped.text

    async def answers_again() -> bool:
        return (await web.get("/readyz")).status_code == 200

    await until(answers_again)


async def test_livez_answers_while_database_and_redis_are_away(
    migrated: Service, closed_port: int
) -> None:
    async with client(
        migrated,
        database_url=f"postgresql+asyncpg://crm:x@127.0.0.1:{closed_port}/crm",
        redis_url=f"redis://127.0.0.1:{closed_port}",
    ) as http:
        assert (await http.get("/livez")).status_code == 200


async def test_the_service_is_ready_without_a_worker_and_readyz_reports_it(
    web: httpx.AsyncClient,
) -> None:
    response = await web.get("/readyz")
    assert response.status_code == 200
    body = response.json()
    assert body["status"] == "ok"
    assert body["parts"].pop("worker").startswith("not ready: no worker has joined")
    assert body["parts"] == dict.fromkeys(("database", "schema", "redis"), "ok")


async def test_the_service_is_ready_with_a_worker(service: Service, web: httpx.AsyncClient) -> None:
    config = service.config
    await groups.ensure_group(service.redis, config.orders_stream, config.orders_group)
    await deliver(service.redis, config.orders_stream, config.orders_group, "w-1", count=1)
    response = await web.get("/readyz")
    assert response.json() == {
        "status": "ok",
        "parts": dict.fromkeys(("database", "schema", "redis", "worker"), "ok"),
    }


@pytest.mark.parametrize("revision", [None, "0000"])
async def test_the_service_is_not_ready_while_the_schema_is_missing_or_older(
    service: Service, web: httpx.AsyncClient, revision: str | None
) -> None:
    await service.execute("DELETE FROM alembic_version")
    try:
        if revision:
            await service.execute(
                "INSERT INTO alembic_version VALUES (:revision)", revision=revision
            )
        response = await web.get("/readyz")
        assert response.status_code == 503
        body = response.json()
        assert (body["status"], body["parts"]["database"]) == ("not ready", "ok")
        assert body["parts"]["schema"] == (
            f"not ready: at {revision}, needs {migrate.head()}; run `crm migrate`"
        )
    finally:
        await service.execute("DELETE FROM alembic_version")
        await service.execute(
            "INSERT INTO alembic_version VALUES (:revision)", revision=migrate.head()
        )


async def test_the_service_is_ready_after_the_next_release_has_migrated(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.execute("UPDATE alembic_version SET version_num = '9999'")
    try:
        assert (await web.get("/readyz")).status_code == 200
    finally:
        await service.execute(
            "UPDATE alembic_version SET version_num = :revision", revision=migrate.head()
        )


async def test_the_service_is_not_ready_while_redis_is_away(
    service: Service, closed_port: int
) -> None:
    async with client(service, redis_url=f"redis://127.0.0.1:{closed_port}") as http:
        response = await http.get("/readyz")
        assert response.status_code == 503
        parts = response.json()["parts"]
        assert parts["redis"].startswith("not ready: ")
        assert (parts["database"], parts["schema"], parts["worker"]) == ("ok", "ok", "unknown")
        assert (await http.get("/api/v1/statistics")).status_code == 200
        samples = await metrics(http)
        assert (samples["crm_up", "database"], samples["crm_up", "redis"]) == (1, 0)


async def test_the_service_is_not_ready_while_the_database_is_away(
    service: Service, closed_port: int
) -> None:
    url = f"postgresql+asyncpg://crm:x@127.0.0.1:{closed_port}/crm"
    async with client(service, database_url=url) as http:
        response = await http.get("/readyz")
        assert response.status_code == 503
        parts = response.json()["parts"]
        assert parts["database"].startswith("not ready: ")
        assert (parts["schema"], parts["redis"]) == ("unknown", "ok")
        samples = await metrics(http)
        assert (samples["crm_up", "database"], samples["crm_up", "redis"]) == (0, 1)
        assert ("crm_customers", "new") not in samples
        answer = await http.get("/api/v1/statistics")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] == "5"
        assert answer.json()["title"] == "Database unavailable"


async def test_metrics_equal_what_was_ingested(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    first = entry("ORD-1", email="a@x.org", created=now, event_id="one")
    batches = [
        [first, first, entry("ORD-2", email="b@x.org", created=now - timedelta(days=70))],
        [
            entry("ORD-1", email="a@x.org", created=now, version=0),
            entry("ORD-1", email="a@x.org", created=now, event_id="two", total="1"),
            entry("ORD-3", status="lost"),
            entry("ORD-4", currency="euros"),
        ],
        [entry(f"ORD-{number}", email="c@x.org", created=now) for number in range(10, 22)],
    ]
    for batch in batches:
        await service.ingest(*batch)
    async with service.engine.begin() as connection:
        await removals.add(connection, [1, 2], RemovalReason.NOT_A_PERSON)
    samples = await metrics(web)
    expected = {
        ("crm_up", "database"): 1,
        ("crm_up", "redis"): 1,
        ("crm_entries_read_total", ""): 19,
        ("crm_entries_applied_total", ""): 15,
        ("crm_entries_stale_total", ""): 1,
        ("crm_entries_duplicate_total", ""): 1,
        ("crm_entries_conflict_total", ""): 1,
        ("crm_entries_dead_lettered_total", ""): 2,
        ("crm_customers", "new"): 1,
        ("crm_customers", "returning"): 0,
        ("crm_customers", "vip"): 1,
        ("crm_customers", "at_risk"): 1,
        ("crm_customers", "inactive"): 0,
        ("crm_dead_letters", "invalid_field"): 1,
        ("crm_dead_letters", "invalid_currency"): 1,
        ("crm_dead_letters", "not_json"): 0,
        ("crm_unpublished_changes", ""): 3,
        ("crm_unpublished_removals", ""): 2,
        ("crm_sweep_overdue_seconds", ""): 0,
        ("crm_batch_entries_count", ""): 3,
        ("crm_batch_entries_sum", ""): 19,
        ("crm_batch_entries_bucket", "1.0"): 0,
        ("crm_batch_entries_bucket", "10.0"): 2,
        ("crm_batch_entries_bucket", "100.0"): 3,
        ("crm_batch_entries_bucket", "+Inf"): 3,
        ("crm_batch_seconds_count", ""): 3,
        ("crm_batch_seconds_bucket", "+Inf"): 3,
    }
    assert {name: samples.get(name) for name in expected} == expected
    assert 0 < samples["crm_batch_seconds_sum", ""] < 60
    assert 0 <= samples["crm_oldest_unpublished_seconds", ""] < 60


async def test_metrics_show_the_backlog(service: Service, web: httpx.AsyncClient) -> None:
    config = service.config
    await groups.ensure_group(service.redis, config.orders_stream, config.orders_group)
    for number in range(5):
        await service.publish(fields(f"ORD-{number}"))
    samples = await metrics(web)
    assert (samples["crm_lag_entries", ""], samples["crm_pending_entries", ""]) == (5, 0)
    assert ("crm_last_read_seconds", "") not in samples
    taken = await deliver(service.redis, config.orders_stream, config.orders_group, "w-1", count=2)
    samples = await metrics(web)
    assert (samples["crm_lag_entries", ""], samples["crm_pending_entries", ""]) == (3, 2)
    assert samples["crm_consumers", ""] == 1
    assert 0 <= samples["crm_last_read_seconds", ""] < 30
    await service.redis.xack(
        config.orders_stream, config.orders_group, *(read.id for read in taken)
    )
    await service.redis.flushall()  # read and never applied: the invariants would rightly object


async def test_metrics_of_an_empty_service_are_zeros(web: httpx.AsyncClient) -> None:
    of_others = ("process_", "crm_build_info", "crm_wal_bytes")
    samples = {
        name: value
        for name, value in (await metrics(web)).items()
        if not name[0].startswith(of_others)
    }
    assert samples.pop(("crm_up", "database")) == samples.pop(("crm_up", "redis")) == 1
    assert not any(samples.values())
    assert {name for name, _ in samples} >= {"crm_lag_entries", "crm_entries_read_total"}
