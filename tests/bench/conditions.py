"""Ours alone, under other conditions: latency, replay, full tables, a long time."""

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

from consumers.chores import renew_answer
from service.core.stream_ids import parse
from service.db.engine import in_transaction
from tests.bench import runs
from tests.bench.contenders import ours
from tests.bench.load import events, pages
from tests.bench.population import populate
from tests.bench.report import percentiles, spread
from tests.conftest import Service
from tests.wait import until

_EVENTS = 100_000
_RUNS = 3


async def latency(service: Service, *, rate: int = 1000, seconds: int = 15) -> str:
    """Publish at an even pace new customers' orders, each of which changes a segment.

    An event counts as committed once it is acknowledged, which is a little later.
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
        hearing = asyncio.create_task(_heard(service, await _last(service)))
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
    first_heard = [
        heard[numbers[email]] - at
        for email, at in zip(emails, sent, strict=True)
        if numbers[email] in heard
    ]
    until_commit = [then - at for then, at in zip(committed, sent, strict=True)]
    return (
        f"\nAt {rate:,} events/s: from XADD to commit {percentiles(until_commit)}; "
        f"to the segment event on the out-stream {percentiles(first_heard)}."
    )


async def _committed(service: Service, ids: list[bytes], total: int) -> list[float]:
    """Note when each entry sent is acknowledged: no entry up to it is unread or pending."""
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


async def _heard(service: Service, position: bytes) -> dict[str, float]:
    """Note when each customer's first change comes, as analytics would."""
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
    """Apply a stream, then the same stream again: the group starts over."""
    documents = events(_EVENTS, _EVENTS)
    raw: Any = service.redis
    worker = ours()
    first: list[float] = []
    again: list[float] = []
    for _ in range(_RUNS):
        await service.empty()
        await worker.prepare(service)
        await runs.fill(service, documents)
        await runs.checkpoint(service)
        for passes, rates in enumerate((first, again)):
            with runs.started(service, worker.commands) as processes:
                before = passes * len(documents)
                measured = await runs.drain(service, worker, processes, len(documents), before)
            rates.append(measured.rate)
            await raw.xgroup_setid(service.config.orders_stream, service.config.orders_group, "0")
    ratios = [fast / slow for fast, slow in zip(again, first, strict=True)]
    return (
        f"\nA stream that is applied already: {spread(again, ',.0f')} events/s, "
        f"{spread(ratios, '.2f')} × the first pass."
    )


async def customers_there(service: Service) -> str:
    """Compare 10,000 customers who are there already with 1,000,000.

    Once the same 10,000 of them order, so that the events do the same; then everybody does, and
    what 100,000 events change is spread over as many customers.
    """
    few = await _among(service, 10_000, 10_000)
    same = await _among(service, 1_000_000, 1_000_000, ordering=10_000)
    everybody = await _among(service, 1_000_000, 1_000_000)
    return (
        _compared("10,000 customers", few, "1,000,000, of whom 10,000 order", same)
        + f"\nWhen all 1,000,000 order: {spread(everybody, ',.0f')}, "
        f"{median(everybody) / median(few):.2f} ×."
    )


async def orders_there(service: Service) -> str:
    """Compare 1,000,000 orders of as many customers with 5,000,000."""
    one = await _among(service, 1_000_000, 1_000_000)
    five = await _among(service, 1_000_000, 5_000_000)
    return _compared("1,000,000 orders of as many customers", one, "5,000,000", five)


def _compared(one: str, rates: list[float], other: str, others: list[float]) -> str:
    return (
        f"\nWith {one} there already: {spread(rates, ',.0f')} events/s; with {other}: "
        f"{spread(others, ',.0f')}, {median(others) / median(rates):.2f} ×."
    )


async def _among(
    service: Service, customers: int, orders: int, ordering: int | None = None
) -> list[float]:
    """Measure runs that follow each other, over customers who are there already.

    ``ordering``: how many of them order; None: all.
    """
    await service.empty()
    worker = ours()
    await worker.prepare(service)
    await populate(service.engine, customers, orders, datetime.now(UTC), varied=False)
    # A shop that has been there has its answers kept; they are renewed while it is measured.
    while await in_transaction(service.engine, renew_answer) is not None:
        pass
    (row,) = await service.rows("SELECT published FROM relay")
    raw: Any = service.redis  # what the relay believes to be there, but for the entries
    await raw.xadd(service.config.changes_stream, {"data": ""}, id=f"{row['published']}-0")
    ordering = ordering or customers
    rates = []
    for number in range(_RUNS):
        documents = events(_EVENTS, ordering, apart=customers // ordering, seed=number)
        await runs.fill(service, _anew(documents, number))
        await runs.checkpoint(service)
        with runs.started(service, worker.commands) as processes:
            before = number * _EVENTS
            measured = await runs.drain(service, worker, processes, _EVENTS, before)
        rates.append(measured.rate)
    return rates


def _anew(documents: list[bytes], number: int) -> list[bytes]:
    """Make them other orders, by other events."""
    return [
        document.replace(b'"ORD-', b'"ORD-%d-' % number).replace(b'"event-', b'"event-%d-' % number)
        for document in documents
    ]


async def memory(service: Service) -> str:
    """Apply 1,000,000 events, published as they are taken, and watch the worker's size."""
    await service.empty()
    worker = ours()
    await worker.prepare(service)
    documents = events(1_000_000, 200_000)
    sizes: list[float] = []
    with runs.started(service, worker.commands) as processes:
        done = 0
        for page in pages(documents, 50_000):
            await runs.fill(service, page)
            done += len(page)
            await until(partial(_settled, service, done), 600)
            sizes.append(_megabytes(processes[0]))
    return (
        f"\nResident memory of a worker over 1,000,000 events: {sizes[1]:.0f} MB after 100,000, "
        f"{sizes[9]:.0f} MB after 500,000, {sizes[-1]:.0f} MB in the end; "
        f"greatest {max(sizes):.0f} MB."
    )


def _megabytes(process: subprocess.Popen[bytes]) -> float:
    return float(psutil.Process(process.pid).memory_info().rss) / 1e6
