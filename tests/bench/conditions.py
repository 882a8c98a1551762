"""Other conditions: latency, replay, moves, more workers, full tables, a million customers."""

import asyncio
import json
import subprocess
import time
from datetime import UTC, datetime
from functools import partial
from statistics import median
from typing import Any

import psutil
from redis.asyncio import Redis

from consumers.chores import renew_answer_step
from service.core.stream_ids import parse
from service.db.engine import in_transaction
from tests.bench import runs
from tests.bench.contenders import PEERS, Contender, ours
from tests.bench.load import events, pages
from tests.bench.population import populate
from tests.bench.report import percentiles, spread
from tests.bench.runs import Measured
from tests.conftest import Service
from tests.wait import until

_EVENTS = 100_000
_RUNS = 3


async def latency(service: Service, *, rate: int = 1000, seconds: int = 15) -> str:
    """Publish orders of new customers at an even rate; each changes a segment.

    An event counts as committed when it is acknowledged, which is a little later.
    """
    documents = events(rate * seconds, rate * seconds * 1000, updates=0, duplicates=0, late=0)
    emails = [json.loads(document)["data"]["customer"]["email"] for document in documents]
    await service.empty()
    worker = ours()
    await worker.prepare(service)
    sent: list[float] = []
    ids: list[bytes] = []
    with runs.started(service, worker.commands):
        await runs.fill(service, events(100, 100, seed=2))
        await until(partial(_settled, service, 100))
        watching = asyncio.create_task(_committed(service, ids, len(documents)))
        hearing = asyncio.create_task(_first_changes(service, await _last(service)))
        begun = time.perf_counter() + 0.01
        for number, document in enumerate(documents):
            if (ahead := begun + number / rate - time.perf_counter()) > 0:
                await asyncio.sleep(ahead)
            raw: Any = service.redis
            sent.append(time.perf_counter())
            ids.append(await raw.xadd(service.config.orders_stream, {"data": document}))
        committed = await watching
        await until(partial(runs.all_published, service))
        await asyncio.sleep(0.5)
        hearing.cancel()
        heard = await hearing
    numbers = {
        row["email_key"]: f"CUST-{row['id']}"
        for row in await service.rows("SELECT id, email_key FROM customers")
    }
    until_change = [
        heard[numbers[email]] - at
        for email, at in zip(emails, sent, strict=True)
        if numbers[email] in heard
    ]
    until_commit = [then - at for then, at in zip(committed, sent, strict=True)]
    return (
        f"\nAt {rate:,} events/s: from XADD to commit {percentiles(until_commit)}; "
        f"to the segment event on the out-stream {percentiles(until_change)}."
    )


async def _committed(service: Service, ids: list[bytes], total: int) -> list[float]:
    """Record when each entry is acknowledged: no entry up to it is unread or pending."""
    moments: list[float] = []
    raw: Any = service.redis
    config = service.config
    while len(moments) < total:
        (group,) = await raw.xinfo_groups(config.orders_stream)
        pending = await raw.xpending(config.orders_stream, config.orders_group)
        reached, least = parse(group["last-delivered-id"]), pending["min"]
        now = time.perf_counter()
        while len(moments) < len(ids):
            place = parse(ids[len(moments)])
            if place > reached or (least and place >= parse(least)):
                break
            moments.append(now)
        await asyncio.sleep(0.001)
    return moments


async def _last(service: Service) -> bytes:
    raw: Any = service.redis
    await until(partial(runs.all_published, service))
    entries = await raw.xrevrange(service.config.changes_stream, count=1)
    last: bytes = entries[0][0]
    return last


async def _first_changes(service: Service, position: bytes) -> dict[str, float]:
    """Record when each customer's first change arrives at a consumer of the out-stream."""
    moments: dict[str, float] = {}
    redis: Any = Redis.from_url(service.servers.redis_url)
    try:
        while True:
            found = await redis.xread({service.config.changes_stream: position}, block=100)
            now = time.perf_counter()
            for _, entries in found.items() if isinstance(found, dict) else found:
                for entry_id, fields in entries[0] if isinstance(found, dict) else entries:
                    position = entry_id
                    moments.setdefault(json.loads(fields[b"__data__"])["subject"], now)
    except asyncio.CancelledError:
        return moments
    finally:
        await redis.aclose()


async def _settled(service: Service, count: int) -> bool:
    return await ours().settled(service) >= count


async def replay(service: Service) -> str:
    """Apply a stream, then the same stream again by a group that starts at the beginning."""
    documents = events(_EVENTS, _EVENTS)
    raw: Any = service.redis
    worker = ours()
    first: list[float] = []
    again: list[float] = []
    for _ in range(_RUNS):
        await service.empty()
        await worker.prepare(service)
        await runs.fill(service, documents)
        await runs.checkpoint(service.servers)
        for passes, rates in enumerate((first, again)):
            with runs.started(service, worker.commands) as processes:
                before = passes * len(documents)
                measured = await runs.drain(service, worker, processes, len(documents), before)
            rates.append(measured.rate)
            await raw.xgroup_setid(service.config.orders_stream, service.config.orders_group, "0")
    ratios = [fast / slow for fast, slow in zip(again, first, strict=True)]
    return (
        f"\nA stream that was applied before: {spread(again, ',.0f')} events/s, "
        f"{spread(ratios, '.2f')} × the first pass."
    )


async def moves(service: Service) -> str:
    """Compare events of which three percent move an order to another customer with others."""
    worker, updates, moving = ours(), 0.2, 0.03
    kept: list[float] = []
    moved: list[float] = []
    for _ in range(_RUNS):
        for share, rates in ((0.0, kept), (moving / updates, moved)):
            documents = events(_EVENTS, _EVENTS, updates=updates, moved=share)
            right = runs.expected(documents)
            rates.append((await runs.run(service, worker, documents, right)).rate)
    ratios = [some / none for some, none in zip(moved, kept, strict=True)]
    return (
        f"\nIf {moving:.0%} of the events move an order to another customer: "
        f"{spread(moved, ',.0f')} events/s, {spread(ratios, '.2f')} × without."
    )


async def more_customers(service: Service) -> str:
    """Compare a shop of 10,000 customers with one of 1,000,000.

    In the first two runs the same 10,000 customers order, so that the events do the same work. In
    the third, all customers order, so that 100,000 events change as many customers.
    """
    few = await _rates_in_shop(service, 10_000, 10_000)
    same = await _rates_in_shop(service, 1_000_000, 1_000_000, ordering=10_000)
    everybody = await _rates_in_shop(service, 1_000_000, 1_000_000)
    return (
        _compared("10,000 customers", few, "1,000,000, of whom 10,000 order", same)
        + f"\nWhen all 1,000,000 order: {spread(everybody, ',.0f')}, "
        f"{median(everybody) / median(few):.2f} ×."
    )


async def more_orders(service: Service) -> str:
    """Compare a shop of 1,000,000 orders with one of 5,000,000; both have 1,000,000 customers."""
    one = await _rates_in_shop(service, 1_000_000, 1_000_000)
    five = await _rates_in_shop(service, 1_000_000, 5_000_000)
    return _compared("1,000,000 orders of as many customers", one, "5,000,000", five)


def _compared(one: str, rates: list[float], other: str, others: list[float]) -> str:
    return (
        f"\nIn a shop of {one}: {spread(rates, ',.0f')} events/s; of {other}: "
        f"{spread(others, ',.0f')}, {median(others) / median(rates):.2f} ×."
    )


async def _rates_in_shop(
    service: Service, customers: int, orders: int, ordering: int | None = None
) -> list[float]:
    """Measure runs one after the other, in a shop that has customers already.

    ``ordering`` is the number of customers who order; None means all.
    """
    await service.empty()
    worker = ours()
    await worker.prepare(service)
    await populate(service.servers.database_url, customers, orders, datetime.now(UTC), varied=False)
    # A shop in use has cached answers; they are renewed during the measurement.
    renew_answer = renew_answer_step()
    while await in_transaction(service.engine, renew_answer) is not None:
        pass
    (row,) = await service.rows("SELECT published FROM relay")
    raw: Any = service.redis  # the relay expects a stream that goes on from here
    await raw.xadd(service.config.changes_stream, {"data": ""}, id=f"{row['published']}-0")
    ordering = ordering or customers
    rates = []
    for number in range(_RUNS):
        documents = events(_EVENTS, ordering, apart=customers // ordering, seed=number)
        await runs.fill(service, _as_new_orders(documents, number))
        await runs.checkpoint(service.servers)
        with runs.started(service, worker.commands) as processes:
            before = number * _EVENTS
            measured = await runs.drain(service, worker, processes, _EVENTS, before)
        rates.append(measured.rate)
    return rates


def _as_new_orders(documents: list[bytes], number: int) -> list[bytes]:
    """Return the documents as other events of other orders."""
    return [
        document.replace(b'"ORD-', b'"ORD-%d-' % number).replace(b'"event-', b'"event-%d-' % number)
        for document in documents
    ]


async def workers(service: Service) -> str:
    """Compare one, two and four workers on this machine, and what an event costs."""
    documents = events(_EVENTS, _EVENTS)
    right = runs.expected(documents)
    counts = (1, 2, 4)
    measured: dict[int, list[Measured]] = {count: [] for count in counts}
    for _ in range(_RUNS):
        for count in counts:
            measured[count].append(await runs.run(service, ours(count), documents, right))
    lines = [
        "",
        "| workers | events/s | CPU of an event, µs | idle |",
        "|--:|--:|--:|--:|",
        *(
            f"| {count} | {spread([one.rate for one in found], ',.0f')}"
            f" | {spread([sum(one.cpu.values()) for one in found], '.0f')}"
            f" | {spread([one.idle for one in found], '.0%')} |"
            for count, found in measured.items()
        ),
    ]
    return "\n".join(lines)


async def memory(service: Service) -> str:
    """Apply an order of each of 1,000,000 customers; watch the memory of us and of Bytewax.

    The orders are published as they are read.
    """
    # So many customers that hardly one is drawn twice.
    documents = events(1_000_000, 1_000_000_000, updates=0, duplicates=0)
    bytewax = [peer for peer in PEERS if peer.name.startswith("C")]
    return "\n".join(
        ["", *[await _memory_of(service, contender, documents) for contender in (ours(), *bytewax)]]
    )


async def _memory_of(service: Service, contender: Contender, documents: list[bytes]) -> str:
    await service.empty()
    await contender.prepare(service)
    await service.engine.dispose()
    sizes: list[float] = []
    done = 0

    async def applied() -> bool:
        return await contender.settled(service) >= done

    try:
        with runs.started(service, contender.commands) as processes:
            for page in pages(documents, 50_000):
                await runs.fill(service, page)
                done += len(page)
                await until(applied, 600)
                sizes.append(_megabytes(processes[0]))
    finally:
        await contender.clean(service)
    return (
        f"* Resident memory of {contender.what}: {sizes[1]:.0f} MB after 100,000 customers, "
        f"{sizes[9]:.0f} MB after 500,000, {sizes[-1]:.0f} MB after 1,000,000."
    )


def _megabytes(process: subprocess.Popen[bytes]) -> float:
    return float(psutil.Process(process.pid).memory_info().rss) / 1e6
