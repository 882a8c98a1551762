"""Measure how long reading takes in a large shop: ``make bench-reads``.

`population` writes a million customers and five million orders in two minutes. A model is fitted,
and their outlooks are refreshed (`outlooks`). Then the functions that the API calls compute every
answer several times, and web processes are asked over HTTP. Answers that use counters, indexes or
COPY are compared with the plain way: scan the tables, or write a CSV row by row. The first time is
without any plan, cache or prepared statement; the caches of the operating system are not emptied.
"""

import argparse
import asyncio
import csv
import io
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from statistics import median
from typing import Any

import httpx
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from consumers.chores import renew_answer_step
from consumers.orders import judge_all
from service.core.envelope import Entry
from service.core.segment_rules import Segment
from service.db.customers.customer_list import Page, find
from service.db.customers.filters import Filter
from service.db.customers.identity import duplicates
from service.db.customers.narrowing import narrowed
from service.db.customers.sorting import Sort
from service.db.engine import BY_INDEX, create_engine, in_transaction
from service.db.ingest.ingest import ingest
from service.db.segments import rule_settings
from service.db.segments.reclassify import advance
from service.db.segments.sweep import sweep
from service.db.statistics.cohorts import cohorts, count_cells
from service.db.statistics.counters import Window, recount_figures
from service.db.statistics.key_figures import (
    PERIODS,
    MedianCache,
    by_segment,
    rolling_window,
    statistics,
    survey,
)
from service.db.statistics.trend import trend
from service.transfer.export import copy_customers
from tests.bench import outlooks
from tests.bench.contenders import FOLDER
from tests.bench.load import events, pages
from tests.bench.population import populate
from tests.bench.runs import measured_service
from tests.conftest import Service
from tests.processes import HOST, processes
from tests.servers import servers

_DUE_AFTER = timedelta(days=2)
"""A time in which about ten thousand of a million customers become at risk or inactive."""

_SEARCHES = (
    "jane chen 12345",
    "555-1234",
    "customer77",
    "customer77@example.com",
    "jane",
    "ja",
    "nobody@x.org",
)
_ADDRESSES = (
    "/",
    "/?sort=-totalSpent",
    "/?span=last-30",
    "/?span=custom&from={year_ago}&to={today}",
    "/customers/CUST-5000",
    "/duplicates",
    "/retention",
    "/insight",
    "/operations",
    "/api/v1/customers",
    "/api/v1/customers?ordersFrom=5",
    "/api/v1/customers?dateFrom={year_ago}&dateTo={today}",
    "/api/v1/customers/CUST-5000",
    "/api/v1/customers/CUST-5000/orders",
    "/api/v1/customers/CUST-5000/timeline",
    "/api/v1/customers/CUST-5000/data",
    "/api/v1/statistics?dateFrom={year_ago}&dateTo={today}",
    "/api/v1/statistics?dateFrom={year_ago}",
    "/api/v1/activity",
    "/api/v1/orders/unattributed",
)
"""What is asked of a web process. The first time is that of a process that has just started."""

Read = Callable[[AsyncConnection], Awaitable[Any]]

_SCANNED_DAYS = text("""
SELECT CAST(date_created AT TIME ZONE 'UTC' AS date), count(*), sum(total - refunded)
FROM orders WHERE counts AND date_created >= clock_timestamp() - interval '90 days' GROUP BY 1
""")
_ROWS = text("""
SELECT id, name, email, phone, segment, date_created, last_order_date, total_orders, total_spent,
       notes FROM customers ORDER BY id
""")


@dataclass(frozen=True)
class Case:
    """An answer to measure; ``otherwise`` computes it the plain way."""

    name: str
    goal: float
    """Milliseconds."""
    read: Read
    otherwise: Read | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--orders", type=int, default=5_000_000)
    # More than five, after which PostgreSQL may choose a plan that fits all parameters.
    parser.add_argument("--rounds", type=int, default=9)
    chosen = parser.parse_args(arguments)
    with servers() as running:
        asyncio.run(_measure(running, chosen))
    return 0


async def _measure(running: Any, chosen: argparse.Namespace) -> None:
    async with measured_service(running) as service:
        await service.empty()
        then = datetime.now(UTC) - _DUE_AFTER
        await populate(service.servers.database_url, chosen.customers, chosen.orders, then)
        _print(f"{chosen.customers:,} customers, {chosen.orders:,} orders\n")
        worker = create_engine(
            service.config.database_url or "", application="crm bench", planner=BY_INDEX
        )
        await _sweeps(worker)
        for line in await outlooks.fit_and_refresh(worker):
            _print(line)
        renew_answer = renew_answer_step()
        while await in_transaction(worker, renew_answer) is not None:
            pass
        _print("\n| answer | first, ms | median, ms | goal | plain way, ms | ratio |")
        _print("|---|--:|--:|--:|--:|--:|")
        for case in _cases():
            await _compare(service, case, chosen.rounds)
        await _over_http(service, chosen.rounds)
        await _exports(service, chosen.rounds)
        await _ingestion(service, worker, chosen.customers)
        await worker.dispose()


def _chosen_year() -> Window:
    today = datetime.now(UTC).date()
    return Window.of_days(today - timedelta(days=364), today, UTC)


async def _listed(connection: AsyncConnection, wanted: Filter, page: Page) -> Any:
    """Read what the API reads for a list."""
    return await find(connection, await narrowed(connection, wanted), page)


def _cases() -> list[Case]:
    medians = MedianCache()

    async def period(connection: AsyncConnection, name: str) -> Any:
        return await statistics(connection, await rolling_window(connection, name), medians)

    async def computed(connection: AsyncConnection, name: str) -> Any:
        now = datetime.now(UTC)
        return await survey(connection, Window(now - PERIODS[name], now))

    async def of_chosen_year(connection: AsyncConnection) -> Any:
        return await statistics(connection, _chosen_year(), medians)

    async def segments_of_chosen_year(connection: AsyncConnection) -> Any:
        return await by_segment(connection, _chosen_year(), medians)

    async def recounted(connection: AsyncConnection) -> Any:
        window = _chosen_year()
        # A window that begins within a day is not added up from what workers keep.
        return await survey(connection, window._replace(start=window.start + timedelta(hours=1)))

    async def everybody(connection: AsyncConnection) -> Any:
        return await statistics(connection, None, medians)

    def listed(goal: float, name: str, wanted: Filter | None = None, **page: Any) -> Case:
        return Case(
            f"list, {name}",
            goal,
            partial(_listed, wanted=wanted or Filter(), page=Page(**page)),
        )

    return [
        Case("statistics of all customers", 10, everybody, recount_figures),
        *(
            Case(
                f"statistics of a {name}",
                300,
                partial(period, name=name),
                partial(computed, name=name),
            )
            for name in PERIODS
        ),
        Case("statistics of a chosen year", 300, of_chosen_year, recounted),
        Case("segments of a chosen year", 300, segments_of_chosen_year),
        Case(
            "cohorts, 12 months",
            300,
            lambda connection: cohorts(connection, 12),
            lambda connection: count_cells(connection, datetime.now(UTC), UTC, 12),
        ),
        Case(
            "likely duplicates",
            100,
            lambda connection: duplicates.duplicates(connection, 50),
            lambda connection: duplicates.find(connection, datetime.now(UTC)),
        ),
        Case(
            "trend, 90 days",
            300,
            lambda connection: trend(connection, 90),
            lambda connection: connection.execute(_SCANNED_DAYS),
        ),
        Case("trend, 731 days", 300, lambda connection: trend(connection, 731)),
        *(
            listed(50, f"by {sort.value}, {name}", sort=sort, descending=descending)
            for sort in Sort
            for name, descending in (("falling", True), ("rising", False))
        ),
        listed(50, "ten by totalSpent, descending", sort=Sort.TOTAL_SPENT, limit=10),
        *(listed(50, f"search for {term!r}", Filter(search=term)) for term in _SEARCHES),
        *(
            listed(
                50,
                f"{segment.value}, by {sort.value}, {name}",
                Filter(segments=(segment,)),
                sort=sort,
                descending=descending,
            )
            for segment in Segment
            for sort in Sort
            for name, descending in (("falling", True), ("rising", False))
        ),
        listed(50, "created in 30 days", Filter(date_from=datetime.now(UTC) - PERIODS["month"])),
        *(Case(*each) for each in outlooks.lists()),
        Case("preview of settings", 3000, _preview),
    ]


async def _preview(connection: AsyncConnection) -> Any:
    now = (await rule_settings.current(connection)).settings
    return await rule_settings.preview(
        connection, rule_settings.merged(now, {"vip_order_count": 2})
    )


async def _compare(service: Service, case: Case, rounds: int) -> None:
    mine, others = [], []
    for _ in range(rounds):
        mine.append(await _timed(service, case.read))
        if case.otherwise:
            others.append(await _timed(service, case.otherwise))
    middle = median(mine)
    row = [case.name, f"{mine[0]:,.1f}", f"{middle:,.1f}", f"{case.goal:,.0f}"]
    other = median(others) if others else 0
    row += [f"{other:,.0f}", f"{other / middle:,.1f} ×"] if others else ["", ""]
    _print(f"| {' | '.join(row)} |")


async def _over_http(service: Service, rounds: int) -> None:
    """Measure pages and answers of a web process, the first of each in a process of its own."""
    today = datetime.now(UTC).date()
    days = {"today": today, "year_ago": today - timedelta(days=364)}
    for address in _ADDRESSES:
        async with processes(service.servers, FOLDER) as started:
            base = f"http://{HOST}:{(await started.web()).port}"
            async with httpx.AsyncClient(base_url=base, timeout=60) as http:
                times = [await _asked(http, address.format(**days)) for _ in range(rounds)]
        row = [
            f"GET {address.format(**days)}",
            f"{times[0]:,.1f}",
            f"{median(times):,.1f}",
            "150",
            "",
            "",
        ]
        _print(f"| {' | '.join(row)} |")


async def _asked(http: httpx.AsyncClient, address: str) -> float:
    started = time.perf_counter()
    answer = await http.get(address, headers={"accept": "text/html, application/json"})
    answer.raise_for_status()
    return (time.perf_counter() - started) * 1000


async def _timed(service: Service, read: Read) -> float:
    async with service.engine.connect() as pooled:
        connection = await pooled.execution_options(isolation_level="REPEATABLE READ")
        await connection.execute(text("SELECT 1"))
        started = time.perf_counter()
        await read(connection)
        return (time.perf_counter() - started) * 1000


async def _exports(service: Service, rounds: int) -> None:
    async def copied() -> None:
        async def away(_piece: bytes) -> None:
            pass

        await copy_customers(service.engine, Filter(), away)

    async def by_row() -> None:
        out = io.StringIO()
        writer = csv.writer(out)
        async with service.engine.connect() as connection:
            async for row in await connection.stream(_ROWS):
                writer.writerow(row)
                out.seek(0)
                out.truncate()

    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(min(rounds, 3)):
        for spent, export in ((ours, copied), (theirs, by_row)):
            started = time.perf_counter()
            await export()
            spent.append((time.perf_counter() - started) * 1000)
    ratio = median(theirs) / median(ours)
    _print(
        f"| export | {ours[0]:,.0f} | {median(ours):,.0f} | | {median(theirs):,.0f} |"
        f" {ratio:.1f} × |"
    )


async def _sweeps(worker: AsyncEngine) -> None:
    for what in ("those due", "nobody due"):
        started, moved = time.perf_counter(), 0
        while not (swept := await in_transaction(worker, sweep)).finished:
            moved += swept.moved
        _print(f"* sweep, {what}: {moved:,} moved in {time.perf_counter() - started:.3f} s")


async def _ingestion(service: Service, worker: AsyncEngine, customers: int) -> None:
    """Measure ingestion alone, beside a refresh, and while new settings reclassify everybody."""
    batches = [
        judge_all([Entry("1-0", {b"data": document}) for document in page], service.config)
        for page in pages(events(250_000, min(customers, 100_000)), 1000)
    ]

    async def applied_until(done: Callable[[], bool]) -> float:
        started, count = time.perf_counter(), 0
        while batches and not done():
            batch = batches.pop(0)
            await in_transaction(worker, partial(ingest, batch=batch))
            count += len(batch)
        return count / (time.perf_counter() - started)

    async def applied_for(seconds: float) -> float:
        end = time.perf_counter() + seconds
        return await applied_until(lambda: time.perf_counter() > end)

    await applied_for(3)  # the first batches find nothing in the caches
    alone = await applied_for(5)
    _print("\n" + await outlooks.beside_refresh(service, applied_for, alone))
    async with service.engine.begin() as connection:
        await rule_settings.save(connection, "bench", {"vip_order_count": 2}, None)
    started = time.perf_counter()

    async def everybody() -> float:
        while await in_transaction(worker, advance):
            pass
        return time.perf_counter() - started

    job = asyncio.create_task(everybody())
    beside = await applied_until(job.done)
    seconds = await job
    _print(
        f"* all customers reclassified in {seconds:.1f} s; ingestion meanwhile"
        f" {beside:,.0f} events/s, {100 * beside / alone:.0f} % of {alone:,.0f} alone"
    )


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
