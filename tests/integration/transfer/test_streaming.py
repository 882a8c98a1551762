"""``export.csv`` as a stream: its memory, slow readers, readers that leave, a failing database."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import psutil
import pytest

from service.http.budgets import EXPORTS
from service.http.middleware import time_limits
from service.http.state import web_state
from tests.conftest import Service
from tests.integration.http.activity.conftest import serving
from tests.processes import HOST, Process, processes
from tests.wait import PATIENCE, until

EXPORT = "/api/v1/customers/export.csv"
REQUEST = f"GET {EXPORT} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
MANY = 50_000
COPYING = "SELECT wait_event FROM pg_stat_activity WHERE query LIKE 'COPY%' AND state = 'active'"


@pytest.fixture(scope="module")
async def large(
    migrated: Service, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Process]:
    """Return a web process whose export has about 40 MB. No test changes the data."""
    await migrated.empty()
    await migrated.execute(
        "INSERT INTO customers (email, email_key, name, notes, date_created)"
        " SELECT 'c' || n || '@x.org', 'c' || n || '@x.org', 'C ' || n, repeat('word ', 160), now()"
        f" FROM generate_series(1, {MANY}) n"
    )
    await migrated.execute("INSERT INTO customer_search SELECT id, lower(name) FROM customers")
    async with processes(migrated.servers, tmp_path_factory.mktemp("web")) as started:
        yield await started.web(rate_limit_burst=1_000_000)


async def _ask(web: Process) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Begin an export as soon as those that an earlier test broke off have ended."""
    begun: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def begins() -> bool:
        reader, writer = await asyncio.open_connection(HOST, web.port)
        writer.write(REQUEST)
        status = await reader.readline()
        if status.startswith(b"HTTP/1.1 429"):
            writer.close()
            return False
        assert status.startswith(b"HTTP/1.1 200")
        begun.append((reader, writer))
        return True

    await until(begins, every=0.1)
    return begun[0]


async def _stalled(service: Service) -> bool:
    """Return whether Postgres waits for the reader."""
    return [row["wait_event"] for row in await service.rows(COPYING)] == ["ClientWrite"]


async def _nothing_runs(service: Service) -> bool:
    return not await service.rows(COPYING)


async def test_memory_stays_constant_and_a_slow_reader_slows_postgres_down(
    large: Process, migrated: Service
) -> None:
    process = psutil.Process(large.pid)
    await large.ask(f"{EXPORT.removesuffix('export.csv')}CUST-1")
    before = process.memory_info().rss
    reader, writer = await _ask(large)
    await until(lambda: _stalled(migrated))
    most, size = process.memory_info().rss, 0
    while piece := await reader.read(1 << 20):
        most = max(most, process.memory_info().rss)
        size += len(piece)
        if piece.endswith(b"0\r\n\r\n"):
            break
    writer.close()
    assert size > 30_000_000
    assert most - before < 12_000_000


async def test_a_client_that_leaves_gives_the_connection_back(
    large: Process, migrated: Service
) -> None:
    for _ in range(EXPORTS.each + 1):
        _, writer = await _ask(large)
        await until(lambda: _stalled(migrated))
        writer.transport.abort()
        await until(lambda: _nothing_runs(migrated))
    (idle,) = await migrated.rows(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'crm web' AND state LIKE 'idle in transaction%'"
    )
    assert idle["count"] == 0
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as http:
        url = f"http://{HOST}:{large.port}{EXPORT}?search=CUST-33333"
        assert len((await http.get(url)).text.splitlines()) == 2


async def test_a_broken_export_does_not_look_complete(large: Process, migrated: Service) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        await _read_while_the_database_fails(large, migrated)


async def _read_while_the_database_fails(web: Process, service: Service) -> None:
    failed = False
    async with (
        httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as http,
        http.stream("GET", f"http://{HOST}:{web.port}{EXPORT}") as answer,
    ):
        async for _ in answer.aiter_bytes():
            if not failed:
                await until(lambda: _stalled(service))
                await service.rows(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE query LIKE 'COPY%' AND state = 'active'"
                )
                failed = True


async def test_of_fifty_exports_at_once_all_but_two_are_refused(
    large: Process, migrated: Service
) -> None:
    _, first = await _ask(large)  # so that no export of an earlier test runs any more
    first.transport.abort()
    await until(lambda: _nothing_runs(migrated))
    opened = [await asyncio.open_connection(HOST, large.port) for _ in range(50)]
    for _, writer in opened:
        writer.write(REQUEST)
    lines = [await reader.readline() for reader, _ in opened]
    for _, writer in opened:
        writer.transport.abort()
    assert Counter(lines) == {
        b"HTTP/1.1 200 OK\r\n": EXPORTS.each,
        b"HTTP/1.1 429 Too Many Requests\r\n": 50 - EXPORTS.each,
    }
    await until(lambda: _nothing_runs(migrated))


@pytest.mark.usefixtures("large")
async def test_a_client_that_reads_too_slowly_is_cut_off(
    migrated: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_limits, "PATIENCE_SECONDS", 0.5)
    async with serving(migrated) as web:
        reader, writer = await asyncio.open_connection(HOST, web.http.base_url.port)
        writer.write(REQUEST)
        read = await reader.readline()
        assert read.startswith(b"HTTP/1.1 200")
        await until(lambda: _nothing_runs(migrated))

        async def freed() -> bool:
            return web_state(web.app).budgets.running(EXPORTS) == 0

        await until(freed)
        with suppress(ConnectionError):
            while piece := await reader.read(1 << 20):
                read = (read + piece)[-100:]
        assert not read.endswith(b"\r\n0\r\n\r\n"), "the file looks complete"
        writer.close()
