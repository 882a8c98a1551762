"""``crm demo``: the whole service on this machine, fed with a real shop's orders."""

import asyncio
import json
import random
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any

from redis.asyncio import Redis
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from service.config import Config
from service.core.partitions import partition_key, partition_of
from service.db.engine import create_engine
from service.db.operations import status
from service.db.statistics.key_figures import MedianCache, by_segment
from service.demo.cdnow import SOURCE_NOTE, purchases
from service.demo.dates import CALENDAR_NOTE
from service.demo.events import DemoEntry
from service.demo.history import history
from service.demo.live import live_orders
from service.local.up import Running, up
from service.streams import redis_client

_AT_ONCE = 500
_LIVE_PAUSE = 0.7
"""Seconds between live orders, on average."""


async def run_demo(config: Config, console: Console) -> int:
    """Run until Ctrl-C; give the exit status of `up`."""
    console.print(f"Demo: {SOURCE_NOTE}")
    console.print(CALENDAR_NOTE)
    return await up(config, report=console.print, after_start=partial(_feed, config, console))


async def _feed(config: Config, console: Console, running: Running) -> None:
    database_url = running.database_url.replace("postgresql://", "postgresql+asyncpg://", 1)
    engine = create_engine(database_url, application="crm demo", pool_size=1)
    redis = redis_client.connect(running.redis_url, cluster=config.redis_cluster)
    try:
        if await _loaded(engine):
            console.print("The history is in already; live orders go on.")
        else:
            await _publish_history(config, console, engine, redis)
        await _show(console, engine, running)
        await _trickle(config, redis)
    finally:
        await redis.aclose()
        await engine.dispose()


async def _loaded(engine: AsyncEngine) -> bool:
    query = text("SELECT count(*) FROM orders WHERE id LIKE 'CDNOW-%'")
    async with engine.connect() as connection:
        found = (await connection.execute(query)).scalar_one()
    return bool(found >= len(purchases()))


async def _publish_history(
    config: Config, console: Console, engine: AsyncEngine, redis: Redis
) -> None:
    entries = history(datetime.now(UTC))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    before = await _read(engine)
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("History: events applied", total=len(entries))
        remaining = iter(entries)
        while page := list(islice(remaining, _AT_ONCE)):
            await _publish(config, redis, page)
            progress.update(task, completed=await _read(engine) - before)
        while (done := await _read(engine) - before) < len(entries):
            progress.update(task, completed=done)
            await asyncio.sleep(0.05)
        progress.update(task, completed=len(entries))


async def _publish(config: Config, redis: Redis, entries: Iterable[DemoEntry]) -> None:
    pipeline: Any = redis.pipeline(transaction=False)
    for entry in entries:
        pipeline.xadd(stream_for(config, entry), entry)
    await pipeline.execute()


def stream_for(config: Config, entry: DemoEntry) -> str:
    """Choose the stream as a publisher does; what holds no order goes to the plain one."""
    plain, *partitions = config.orders_streams
    try:
        order = json.loads(entry["data"])["data"] if partitions else None
    except (KeyError, TypeError, ValueError):
        order = None
    if not isinstance(order, dict):
        return plain.name
    return partitions[partition_of(partition_key(order), len(partitions))].name


async def _read(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return (await status.totals(connection)).read


async def _show(console: Console, engine: AsyncEngine, running: Running) -> None:
    async with engine.connect() as connection:
        shares = await by_segment(connection, None, MedianCache())
        waiting = await status.database_backlog(connection)
    table = Table("Segment", *("Customers", "Share", "Average LTV", "Total spent"))
    for column in table.columns[1:]:
        column.justify = "right"
    for share in shares:
        table.add_row(
            share.segment.label,
            f"{share.customers:,}",
            f"{share.percentage} %",
            f"{share.average_ltv:,}",
            f"{share.total_spent:,}",
        )
    console.print(table)
    console.print(f"{waiting.dead_letters} entries were refused on purpose; see the dead letters.")
    console.print("Live orders trickle in from now on. Try, in another terminal:")
    console.print(f"  curl -s {running.http_url}/api/v1/statistics")
    console.print("  .venv/bin/crm status")
    console.print("  .venv/bin/crm verify")
    console.print(
        f"  redis-cli -u {running.redis_url} XREVRANGE customer-segment-changed + - COUNT 3"
    )


async def _trickle(config: Config, redis: Redis) -> None:
    run_id = datetime.now(UTC).strftime("%y%m%d%H%M%S")
    for entry in live_orders(run_id, lambda: datetime.now(UTC)):
        # While Redis restarts, an order is lost: it was made up anyway.
        with suppress(*redis_client.REDIS_ERRORS):
            await _publish(config, redis, [entry])
        await asyncio.sleep(random.expovariate(1 / _LIVE_PAUSE))
