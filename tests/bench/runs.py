"""One run: empty tables, a filled stream, a contender's processes, and a check of its totals."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import asyncpg
import psutil

from service.config import Config
from service.db import migrate
from service.db.engine import create_engine
from service.db.operations import status
from service.streams import redis_client
from tests import model
from tests.bench.contenders import FOLDER, Contender
from tests.bench.load import pages
from tests.conftest import Service
from tests.paths import ROOT
from tests.servers import Servers
from tests.wait import until

STUCK = 60.0
"""A run in which nothing happens for that many seconds is given up."""

LOG = FOLDER / "processes.log"

Totals = dict[str, tuple[int, Decimal, str]]


class WrongTotalsError(Exception):
    """A contender's customers, orders, amounts or segments differ from the model's."""


@dataclass(frozen=True)
class Measured:
    """``rate`` is events per second until all is published; ``cpu`` is µs per event by process."""

    rate: float
    cpu: dict[str, float]
    idle: float
    """The share of the machine's processors that had nothing to do meanwhile."""


@contextlib.asynccontextmanager
async def measured_service(servers: Servers) -> AsyncIterator[Service]:
    """Migrate and connect; empty the database again afterwards."""
    config = Config(database_url=servers.database_url, redis_url=servers.redis_url)
    await migrate.upgrade(config.database_url or "")
    engine = create_engine(config.database_url or "", application="crm bench")
    redis = redis_client.connect(config.redis_url or "")
    FOLDER.mkdir()
    service = Service(config, engine, engine, engine, redis, servers)
    try:
        yield service
        await service.empty()
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)
        await redis.aclose()
        await engine.dispose()


def expected(documents: Sequence[bytes]) -> Totals:
    """Return the totals that these events end in, by the model."""
    world = model.world(map(json.loads, documents), datetime.now(UTC))
    return {
        customer.email or person: (customer.orders, customer.spent, customer.segment)
        for person, customer in world.customers.items()
    }


async def run(
    service: Service, contender: Contender, documents: Sequence[bytes], right: Totals
) -> Measured:
    """Measure how fast a filled stream is drained; raise an error if the totals are wrong."""
    await service.empty()
    await contender.prepare(service)
    await service.engine.dispose()  # prepared statements do not outlive the tables
    try:
        await fill(service, documents)
        await checkpoint(service.servers)
        with started(service, contender.commands) as processes:
            measured = await drain(service, contender, processes, len(documents))
        await _check(service, contender, right)
    finally:
        await contender.clean(service)
    return measured


async def fill(service: Service, documents: Sequence[bytes]) -> None:
    """Publish as order management does."""
    raw: Any = service.redis
    for page in pages(list(documents), 1000):
        pipeline = raw.pipeline(transaction=False)
        for document in page:
            pipeline.xadd(service.config.orders_stream, {"data": document})
        await pipeline.execute()


async def drain(
    service: Service,
    contender: Contender,
    processes: Sequence[subprocess.Popen[bytes]],
    total: int,
    before: int = 0,
) -> Measured:
    """Measure from the first applied events to the last, and to the last published change.

    If all are applied before the first look, they were too few to measure: the rate is NaN.
    """

    async def settled(known: int) -> int:
        """Wait until more events are applied than before; return how many."""
        found = known

        async def more() -> bool:
            nonlocal found
            assert not any(process.poll() for process in processes), "a process has failed"
            found = await contender.settled(service) - before
            return found > known

        await until(more, STUCK, every=0.05)
        return found

    found = first = await settled(0)
    begun, cpu_before = time.perf_counter(), _cpu_seconds()
    psutil.cpu_times_percent()  # the next call tells of the time from here on
    while found < total:
        found = await settled(found)
    if contender.relays:
        await until(partial(all_published, service), STUCK)
    seconds, cpu_after = time.perf_counter() - begun, _cpu_seconds()
    machine = psutil.cpu_times_percent()
    count = total - first
    if not count:
        return Measured(float("nan"), {}, float("nan"))
    cpu = {
        name: (spent - cpu_before.get(name, 0)) / count * 1e6 for name, spent in cpu_after.items()
    }
    return Measured(count / seconds, cpu, (machine.idle + machine.iowait) / 100)


@contextlib.contextmanager
def started(
    service: Service, commands: Sequence[Sequence[str]]
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run the processes of a contender; end them afterwards.

    Their output is shown if something goes wrong.
    """
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CRM_")},
        "CRM_DATABASE_URL": service.servers.database_url,
        "CRM_REDIS_URL": service.servers.redis_url,
        "CRM_LOG_LEVEL": "WARNING",
    }
    folder = ROOT
    with LOG.open("wb") as log:
        processes = [
            subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)  # noqa: S603
            for command in commands
        ]
    try:
        yield processes
    except BaseException:
        print(LOG.read_text(errors="replace")[-5000:], file=sys.stderr)  # noqa: T201
        raise
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def all_published(service: Service) -> bool:
    async with service.engine.connect() as connection:
        return not (await status.database_backlog(connection)).unpublished


async def checkpoint(used: Servers) -> bool:
    """Make a checkpoint, so that all runs begin alike; return False if nobody here may do that."""
    connection = await asyncpg.connect(used.admin_url or used.database_url, ssl=False)
    try:
        await connection.execute("CHECKPOINT")
    except asyncpg.InsufficientPrivilegeError:
        return False
    finally:
        await connection.close()
    return True


async def totals(service: Service, contender: Contender) -> Totals:
    """Return the totals of a contender's customers, as it stored them."""
    return {
        row["email"]: (row["total_orders"], row["total_spent"], row["segment"])
        for row in await service.rows(contender.customers)
    }


async def _check(service: Service, contender: Contender, right: Totals) -> None:
    found = await totals(service, contender)
    if found != right:
        wrong = [
            email for email in found.keys() | right.keys() if found.get(email) != right.get(email)
        ]
        msg = f"{contender.name}: {len(wrong)} customers are wrong, such as {wrong[0]}: "
        raise WrongTotalsError(msg + f"{found.get(wrong[0])}, not {right.get(wrong[0])}")


def _cpu_seconds() -> dict[str, float]:
    """Return user and system time of this process's descendants, summed by kind of process.

    The time of a process that has ended is in its parent's: a pool closes the connections that it
    has too many of, and PostgreSQL ends their processes. Servers that run elsewhere (named by URL,
    or in containers) are not included.
    """
    seconds: dict[str, float] = {}
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            name = child.name()
            name = "worker" if name.startswith("python") else name
            times = child.cpu_times()
            ended = times.children_user + times.children_system
            seconds[name] = seconds.get(name, 0.0) + times.user + times.system + ended
    return seconds
