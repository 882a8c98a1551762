"""Measure predictions in a large shop: a fit, a refresh, lists, and ingestion beside it.

`reads` runs this after it has filled the shop.
"""

import asyncio
import contextlib
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from math import ceil
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.core.outlook import TEST_DAYS, FitCause
from service.core.work_lists import WorkList
from service.db.customers.customer_filter import CustomerFilter
from service.db.customers.customer_list import Page, count, find
from service.db.customers.customer_row import read
from service.db.customers.filters import Filter
from service.db.customers.narrowing import narrowed
from service.db.customers.sorting import Sort
from service.db.engine import in_transaction
from service.db.outlook import work_lists
from service.db.outlook.facts import draw
from service.db.outlook.fit import fit
from service.db.outlook.refresh import refresh_chunk
from service.db.outlook.work_lists import members
from service.db.store_clock import read_store_clock
from service.http.api.customer_outlook import outlook_document
from tests.conftest import Service
from tests.paths import ROOT
from tests.processes import environment
from tests.wait import until

_CHOSEN: dict[str, dict[str, Any]] = {
    "VIPs with a chance of 30 % at most": {"segment": ["vip"], "chanceTo": "0.3"},
    "overdue": {"overdue": "yes"},
    "lapsing in 14 days": {"lapsesWithin": "14"},
    "champions": {"rfm": "champions"},
}
_ROWS = text("SELECT count(*) FROM customer_outlook")
_ANEW = text("UPDATE insight_refresh SET completed_at = NULL, begun_at = NULL, next_id = 0")
_BEGUN = text("SELECT begun_at IS NOT NULL FROM insight_refresh")
_WAL = text("SELECT pg_current_wal_lsn() - '0/0'")
_MEBIBYTE = 1024**2
_WITHOUT_PAUSES = 5.0
"""A circle works without pauses for some seconds. After that it takes one percent of a core."""

Read = Callable[[AsyncConnection], Awaitable[None]]
Apply = Callable[[float], Awaitable[float]]
"""Applies events for so many seconds; returns how many in each."""


async def fit_and_refresh(worker: AsyncEngine) -> list[str]:
    """Fit a model, complete three circles, and return what they took as lines."""
    now = datetime.now(UTC)
    started = time.perf_counter()
    async with worker.begin() as connection:
        drawn = await draw(connection, now, now - timedelta(days=TEST_DAYS))
    reading = time.perf_counter() - started
    started, cpu = time.perf_counter(), time.process_time()
    async with worker.connect() as connection:
        model = await fit(connection, FitCause.HAND)
    cpu, took = time.process_time() - cpu, time.perf_counter() - started
    lines = [
        (
            f"* fit with its test, {len(drawn.now):,} of {drawn.everybody:,} customers:"
            f" {took:.1f} s, {cpu:.1f} s of CPU (goal 4); reading them alone"
            f" {reading:.1f} s (goal 3); {model.state}, {model.verdict}"
        )
    ]
    for name, at in (
        ("first", now),
        ("20 minutes later", now + timedelta(minutes=20)),
        ("a day later", now + timedelta(days=1)),
    ):
        lines.append(await _circle(worker, name, at))
    await in_transaction(worker, partial(_execute, text("ANALYZE customer_outlook")))
    return lines


async def _circle(worker: AsyncEngine, name: str, now: datetime) -> str:
    """Complete a circle without pauses, as of a moment."""
    model, times, written = None, [time.perf_counter()], 0
    before = await _scalar(worker, _WAL)
    while True:
        async with worker.begin() as connection:
            step, model = await refresh_chunk(connection, model, now=now)
        times.append(time.perf_counter())
        written += step.written
        if step.done:
            break
    chunks = sorted(end - begin for begin, end in pairwise(times))
    p99 = chunks[ceil(0.99 * len(chunks)) - 1]
    rows = max(int(await _scalar(worker, _ROWS)), 1)
    wal = (await _scalar(worker, _WAL) - before) / _MEBIBYTE
    return (
        f"* circle, {name}: {sum(chunks):.1f} s of work (goal 30), {len(chunks)} chunks, mean"
        f" {1000 * sum(chunks) / len(chunks):.0f} ms, p99 {1000 * p99:.0f} ms (goal 150), worst"
        f" {1000 * chunks[-1]:.0f} ms; {written:,} of {rows:,} rows written"
        f" ({100 * written / rows:.1f} %{', goal 30 %' if 'day' in name else ''}),"
        f" {wal:,.0f} MB of WAL"
    )


def lists() -> list[tuple[str, float, Read]]:
    """Return what is read of predictions: a name, a goal in milliseconds, and how."""
    return [
        *(
            (f"page, {name}, by {sort}", 100.0, partial(_page, written, sort))
            for name, written in _CHOSEN.items()
            for sort in (Sort.EXPECTED_VALUE, Sort.CHANCE)
        ),
        *(
            (f"count, {name}, {whom}", 300, partial(_count, written, sort))
            for name, written in _CHOSEN.items()
            for whom, sort in (("all", Sort.DATE_CREATED), ("with an outlook", Sort.CHANCE))
        ),
        *(
            (f"page and count, {name}, by value", 400, partial(_both, written))
            for name, written in _CHOSEN.items()
        ),
        ("count, everybody with an outlook", 300, partial(_count, {}, Sort.CHANCE)),
        ("work lists and RFM groups, computed", 2000, _overview),
        *((f"work list, {name}", 300, partial(_members, name)) for name in WorkList),
        ("outlook of a customer", 5, _one),
    ]


async def _chosen(written: dict[str, Any], connection: AsyncConnection) -> Filter:
    return CustomerFilter.model_validate(written).chosen(await read_store_clock(connection))


async def _page(written: dict[str, Any], sort: Sort, connection: AsyncConnection) -> None:
    await find(connection, await _chosen(written, connection), Page(sort, limit=50), total=0)


async def _count(written: dict[str, Any], sort: Sort, connection: AsyncConnection) -> None:
    await count(connection, await _chosen(written, connection), None, sort)


async def _both(written: dict[str, Any], connection: AsyncConnection) -> None:
    """Read what the API reads for a list."""
    chosen = await narrowed(connection, await _chosen(written, connection))
    await find(connection, chosen, Page(Sort.EXPECTED_VALUE, limit=50))


async def _overview(connection: AsyncConnection) -> None:
    await work_lists.compute(connection, datetime.now(UTC))


async def _members(name: WorkList, connection: AsyncConnection) -> None:
    top = (await work_lists.overview(connection)).top
    await members(connection, name, datetime.now(UTC), top, 50)


async def _one(connection: AsyncConnection) -> None:
    customer = await read(connection, 1001)
    assert customer is not None
    await outlook_document(connection, customer, await read_store_clock(connection))


async def beside_refresh(service: Service, apply: Apply, alone: float) -> str:
    """Return how fast events are applied while the process that predicts completes a circle."""

    async def begun() -> bool:
        return bool(await _scalar(service.engine, _BEGUN))

    await service.execute(_ANEW.text)
    async with _predicting(service):
        await until(begun)
        await asyncio.sleep(_WITHOUT_PAUSES)
        beside = await apply(10)
    return (
        f"* ingestion beside a refresh: {beside:,.0f} events/s, {100 * beside / alone:.0f} % of"
        f" {alone:,.0f} alone (goal 97 %)"
    )


@contextlib.asynccontextmanager
async def _predicting(service: Service) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service.predictions"),
        stdin=PIPE,
        env=environment(service.servers, database_url=service.servers.database_url),
        cwd=ROOT,
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _scalar(engine: AsyncEngine, statement: Any) -> Any:
    async with engine.connect() as connection:
        return (await connection.execute(statement)).scalar_one()


async def _execute(statement: Any, connection: AsyncConnection) -> None:
    await connection.execute(statement)
