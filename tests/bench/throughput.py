"""How many events a second one worker applies, everything on: ``make bench``.

Real servers with durable commits, the stream filled beforehand, one worker process, relay and
sweeper running. Prints events per second, CPU seconds by process, and what `verify` says.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import psutil
from sqlalchemy.ext.asyncio import AsyncEngine

from service import streams
from service.config import Config
from service.db import migrate, operations
from service.db.engine import create_engine
from service.db.verify import verify
from tests.bench.load import events, pages
from tests.servers import Servers, servers
from tests.wait import until

_LONGEST = 1800.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when an invariant does not hold afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1)
    chosen = parser.parse_args(arguments)
    with servers() as running:
        return asyncio.run(_measure(running, chosen.events, chosen.customers, chosen.workers))


async def _measure(running: Servers, total: int, customers: int, workers: int) -> int:
    config = Config(database_url=running.database_url, redis_url=running.redis_url)
    await migrate.upgrade(config.database_url or "")
    engine = create_engine(config.database_url or "", application="crm bench")
    redis = streams.connect(config.redis_url or "")
    documents = events(total, customers)
    raw: Any = redis
    for page in pages(documents, 1000):
        pipeline = raw.pipeline(transaction=False)
        for document in page:
            pipeline.xadd(config.orders_stream, {"data": document})
        await pipeline.execute()
    environment = {
        **os.environ,
        "CRM_DATABASE_URL": running.database_url,
        "CRM_REDIS_URL": running.redis_url,
        "CRM_LOG_LEVEL": "WARNING",
    }
    command = [sys.executable, "-m", "service.cli", "worker"]
    processes = [subprocess.Popen(command, env=environment) for _ in range(workers)]  # noqa: ASYNC220, S603
    try:
        await _until_read(engine, 1)
        started, cpu_before = time.perf_counter(), _cpu_seconds()
        first = (await _totals(engine)).read
        await _until_read(engine, len(documents))
        applied = time.perf_counter()
        await until(partial(_all_published, engine), _LONGEST)
        published, cpu_after = time.perf_counter(), _cpu_seconds()
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
    counted = len(documents) - first
    print(f"{len(documents):,} events, {customers:,} customers, {workers} worker(s)")  # noqa: T201
    print(f"applied:   {counted / (applied - started):>10,.0f} events/s")  # noqa: T201
    print(f"published: {counted / (published - started):>10,.0f} events/s, relay finished")  # noqa: T201
    for name, seconds in sorted(cpu_after.items()):
        spent = (seconds - cpu_before.get(name, 0.0)) / counted * 1e6
        print(f"CPU {name:<16} {spent:>6.1f} µs per event")  # noqa: T201
    print(f"outcomes:  {await _totals(engine)}")  # noqa: T201
    findings = await verify(
        engine,
        redis,
        orders=config.orders_stream,
        group=config.orders_group,
        changes=config.changes_stream,
    )
    broken = [finding for finding in findings if finding.offenders]
    print("verify:    clean" if not broken else f"verify:    BROKEN {broken}")  # noqa: T201
    await redis.aclose()
    await engine.dispose()
    return 1 if broken else 0


async def _totals(engine: AsyncEngine) -> operations.Totals:
    async with engine.connect() as connection:
        return await operations.totals(connection)


async def _all_published(engine: AsyncEngine) -> bool:
    async with engine.connect() as connection:
        return not (await operations.waiting(connection)).unpublished


async def _until_read(engine: AsyncEngine, count: int) -> None:
    async def enough() -> bool:
        return (await _totals(engine)).read >= count

    await until(enough, _LONGEST)


def _cpu_seconds() -> dict[str, float]:
    """Sum user and system time of this process's descendants by name."""
    seconds: dict[str, float] = {}
    for child in psutil.Process().children(recursive=True):
        try:
            name = "worker" if "worker" in child.cmdline() else child.name()
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        seconds[name] = seconds.get(name, 0.0) + times.user + times.system
    return seconds


if __name__ == "__main__":
    sys.exit(main())
