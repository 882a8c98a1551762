"""``crm demo``: start the whole service on this machine, and feed it a real shop's orders."""

import asyncio
import json
import random
from collections.abc import Iterable
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from itertools import islice
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from service.cli.database import connected
from service.cli.output import print_table, progress, say
from service.config import Config, asyncpg_url
from service.core.partitions import stream_of
from service.core.reconstruction import ReconstructionCause
from service.db.engine import in_transaction
from service.db.operations import status
from service.db.outlook.due import ask_for_fit, read_situation
from service.db.segments import rule_settings
from service.db.statistics.generations import read_generation, request_reconstruction
from service.db.statistics.key_figures import MedianCache, by_segment
from service.demo.cdnow import SOURCE_NOTE
from service.demo.dates import CALENDAR_NOTE, shown_purchases
from service.demo.events import DemoEntry
from service.demo.history import history
from service.demo.live import live_orders, seconds_between_entries
from service.local.up import Running, up
from service.streams import redis_client

_PAGE = 500
"""Entries of the history published at once."""
STORE_ZONE = "America/New_York"
"""The purchases are those of a shop in the United States."""


async def run_demo(config: Config, pace: float = 1) -> None:
    """Start everything and feed in orders until Ctrl-C. Raises LocalError if it cannot start.

    Live orders come ``pace`` times as fast as those of the history.
    """
    say(f"Demo: {SOURCE_NOTE}")
    say(CALENDAR_NOTE)
    await up(config, report=say, after_start=partial(_feed, config, pace))


async def _feed(config: Config, pace: float, running: Running) -> None:
    """Publish the history once, then live orders for ever."""
    config = config.model_copy(update={"database_url": asyncpg_url(running.database_url)})
    async with (
        connected(config, "crm demo") as engine,
        aclosing(redis_client.connect(running.redis_url, cluster=config.redis_cluster)) as redis,
    ):
        if await _has_history(engine):
            say("The history was loaded before. Live orders go on.")
        else:
            await in_transaction(
                engine, rule_settings.save, "demo", {"time_zone": STORE_ZONE}, None
            )
            await _publish_history(config, engine, redis)
            await _compute_past_days(engine)
            await _predict(engine)
        await _show(engine, running, config.changes_stream, pace)
        await _publish_live_orders(config, redis, pace)


async def _has_history(engine: AsyncEngine) -> bool:
    query = text("SELECT count(*) FROM orders WHERE id LIKE 'CDNOW-%'")
    async with engine.connect() as connection:
        orders = (await connection.execute(query)).scalar_one()
    return bool(orders >= len(shown_purchases()))


async def _publish_history(config: Config, engine: AsyncEngine, redis: Redis) -> None:
    """Publish the history, and wait until the worker has read all of it."""
    entries = history(datetime.now(UTC))
    before = await _entries_read(engine)
    with progress("Orders of the past, events applied", len(entries)) as show:
        remaining = iter(entries)
        while page := list(islice(remaining, _PAGE)):
            await _publish(config, redis, page)
            show(await _entries_read(engine) - before)
        while (done := await _entries_read(engine) - before) < len(entries):
            show(done)
            await asyncio.sleep(0.05)
    say(f"{len(entries):,} events of the past were read.")


async def _compute_past_days(engine: AsyncEngine) -> None:
    """Have the worker compute the figures of past days, and wait until it is done."""
    await in_transaction(engine, request_reconstruction, ReconstructionCause.ASKED)
    waiting = True
    while waiting:
        await asyncio.sleep(0.1)
        async with engine.connect() as connection:
            generation = await read_generation(connection)
        waiting = generation.reconstructing or generation.time_zone != STORE_ZONE
    say(f"The figures of past days were computed from them. Days are those of {STORE_ZONE}.")


async def _predict(engine: AsyncEngine) -> None:
    """Have the worker fit a model of the customers, and wait until it has predicted all of them."""
    if not find_spec("scipy"):
        say("No predictions: they need the extra recovery-essentials-crm[insight].")
        return
    await in_transaction(engine, ask_for_fit)
    waiting = True
    while waiting:
        await asyncio.sleep(0.1)
        async with engine.connect() as connection:
            waiting = (await read_situation(connection)).busy
    say("A model was fitted to them, which predicts what each customer does next.")


async def _publish(config: Config, redis: Redis, entries: Iterable[DemoEntry]) -> None:
    pipeline: Any = redis.pipeline(transaction=False)
    for entry in entries:
        pipeline.xadd(stream_for(config, entry), entry)
    await pipeline.execute()


def stream_for(config: Config, entry: DemoEntry) -> str:
    """Return the stream that a publisher would choose; the plain one if the entry has no order."""
    try:
        order = json.loads(entry["data"])["data"] if config.orders_partitions > 1 else None
    except (KeyError, TypeError, ValueError):
        order = None
    return stream_of(config.orders_streams, order)


async def _entries_read(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return (await status.totals(connection)).read


async def _show(engine: AsyncEngine, running: Running, changes_stream: str, pace: float) -> None:
    """Print the segments, and what to try next."""
    async with engine.connect() as connection:
        shares = await by_segment(connection, None, MedianCache())
        waiting = await status.database_backlog(connection)
    print_table(
        ("Segment", "Customers", "Share", "Average LTV", "Total spent"),
        [
            (
                share.segment.label,
                f"{share.customers:,}",
                f"{share.percentage} %",
                f"{share.average_ltv:,}",
                f"{share.total_spent:,}",
            )
            for share in shares
        ],
    )
    say(f"Dead letters: {waiting.dead_letters:,}. These entries are wrong on purpose.")
    if pace == 1:
        say("Live orders come in from now on, as often as on the last days: one in some minutes.")
        say("With --pace 500 one comes each second.")
    else:
        say(f"Live orders come in from now on, {pace:g} times as fast as on the last days.")
    say("Open the dashboard, or try in another terminal:")
    say(f"  curl -s {running.http_url}/api/v1/statistics")
    say("  .venv/bin/crm status")
    say("  .venv/bin/crm verify")
    url = '"$(.venv/bin/crm status --redis-url)"'
    say(f"  redis-cli -u {url} XREVRANGE {changes_stream} + - COUNT 3")


async def _publish_live_orders(config: Config, redis: Redis, pace: float) -> None:
    pause = seconds_between_entries() / pace
    run_id = datetime.now(UTC).strftime("%y%m%d%H%M%S")
    for entry in live_orders(run_id, lambda: datetime.now(UTC)):
        # While Redis restarts, these orders are lost. Nobody misses made-up orders.
        with suppress(*redis_client.REDIS_ERRORS):
            await _publish(config, redis, [entry])
        await asyncio.sleep(random.expovariate(1 / pause))
