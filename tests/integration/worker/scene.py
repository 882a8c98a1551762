"""Run a worker inside the test's process, and wait for what it does."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any, NamedTuple

from consumers.relay import Relay
from consumers.tasks import end
from consumers.worker import Worker
from service.db.engine import create_engine
from service.db.operations import losses, status
from service.db.operations.status import DatabaseBacklog, Totals
from service.streams import groups, redis_client
from service.streams.entries import Limits, read_range
from service.streams.groups import Backlog
from tests import events
from tests.conftest import Service
from tests.wait import PATIENCE, until


@contextlib.asynccontextmanager
async def working(service: Service, **settings: object) -> AsyncIterator[Worker]:
    """Run a whole worker, but no process of its own, until the block ends.

    By default its idle limit is so long that it never reclaims its own entries, however slow the
    machine is.
    """
    config = service.config.model_copy(update={"reclaim_idle_seconds": 60, **settings})
    engine = create_engine(config.database_url or "", application="crm worker")
    redis = redis_client.configured(config)
    worker = Worker(config, engine, redis)
    stop = asyncio.Event()
    task = asyncio.create_task(worker.run(stop))
    try:
        yield worker
    finally:
        stop.set()
        await task
        await redis.aclose()
        await engine.dispose()


async def change(service: Service, *customers: int) -> None:
    """Apply one more order of each customer, without a worker: a segment change for each."""
    await service.ingest(
        *(events.entry(f"ORD-{next(_numbers)}", email=f"c{number}@x.org") for number in customers)
    )


_numbers = itertools.count()


@contextlib.asynccontextmanager
async def relaying(service: Service) -> AsyncIterator[Relay]:
    """Run a relay and nothing else until the block ends."""
    engine = create_engine(service.config.database_url or "", application="crm relay")
    relay = Relay(engine, service.redis, service.config)
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        await end([task])
        await engine.dispose()


class Published(NamedTuple):
    """An entry of the out-stream."""

    id: str
    body: bytes

    @property
    def number(self) -> int:
        return int(self.id.removesuffix("-0"))

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document

    @property
    def place(self) -> tuple[str, int]:
        """Customer and sequence, which identify a change."""
        data = self.document["data"]
        return data["customerId"], data["sequence"]


async def out_stream(service: Service, stream: str | None = None) -> list[Published]:
    """Return all entries of an out-stream, by default that of segment changes."""
    entries = await read_range(
        service.redis,
        stream or service.config.changes_stream,
        "-",
        "+",
        Limits(100_000, 1 << 30),
    )
    assert all(list(entry.fields) == [b"__data__"] for entry in entries)
    return [Published(entry.id, entry.fields[b"__data__"]) for entry in entries]


async def stored_changes(service: Service) -> set[tuple[str, int]]:
    """Return customer and sequence of every change in the database."""
    rows = await service.rows("SELECT customer_id, sequence FROM segment_changes")
    return {(f"CUST-{row['customer_id']}", row["sequence"]) for row in rows}


async def in_order_without_holes(service: Service) -> None:
    """Fail unless the stream has every change once, with numbers and sequences rising by one."""
    entries = await out_stream(service)
    numbers = [entry.number for entry in entries]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    sequences: dict[str, int] = {}
    for entry in entries:
        customer, sequence = entry.place
        assert sequence == sequences.get(customer, 0) + 1
        sequences[customer] = sequence
    assert {entry.place for entry in entries} == await stored_changes(service)
    assert len(entries) == len({entry.place for entry in entries})


async def publish_all(service: Service, entries: Iterable[dict[bytes, bytes]]) -> None:
    """Publish many orders in one pipeline."""
    pipeline: Any = service.redis.pipeline(transaction=False)
    for fields in entries:
        pipeline.xadd(service.config.orders_stream, fields)
    await pipeline.execute()


async def totals(service: Service) -> Totals:
    """Return how many entries were read, by outcome."""
    async with service.engine.connect() as connection:
        return await status.totals(connection)


async def database_backlog(service: Service) -> DatabaseBacklog:
    """Return the backlog in the database: unpublished changes and an overdue sweep."""
    async with service.engine.connect() as connection:
        return await status.database_backlog(connection)


async def backlog(service: Service) -> Backlog:
    """Return how far behind the group is."""
    return await groups.backlog(
        service.redis, service.config.orders_stream, service.config.orders_group
    )


async def all_applied(service: Service, entries: int, seconds: float = PATIENCE) -> None:
    """Wait until that many entries were read and counted, and nothing is pending."""

    async def done() -> bool:
        counted = await totals(service)
        return counted.read >= entries and not (await backlog(service)).pending

    await until(done, seconds)


async def all_published(service: Service, seconds: float = PATIENCE) -> None:
    """Wait until every change and every removal is on its out-stream."""

    async def done() -> bool:
        backlog = await database_backlog(service)
        return not (backlog.unpublished or backlog.unpublished_removals)

    await until(done, seconds)


async def order_count(service: Service) -> int:
    (row,) = await service.rows("SELECT count(*) AS orders FROM orders")
    return int(row["orders"])


async def open_losses(service: Service) -> list[losses.RecordedLoss]:
    """Return the losses that nobody has acknowledged, the latest first."""
    async with service.engine.connect() as connection:
        return list(await losses.recorded_losses(connection, open_only=True))


async def acknowledge_losses(service: Service) -> None:
    """Acknowledge every loss, as a publisher does who has sent the entries again."""
    for loss in await open_losses(service):
        async with service.engine.begin() as connection:
            assert await losses.acknowledge(connection, loss.id, "a test")
