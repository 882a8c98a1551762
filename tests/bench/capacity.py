"""Compare the forecast of `crm capacity` with a real worker: `python -m tests.bench.capacity`.

Sizes do not depend on the machine: `tests/integration/cli/test_capacity.py` keeps them in bounds.
Rates and times do: they are valid on a quiet machine only. This takes two or three minutes.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from service.core import capacity
from service.core.capacity import Shop, needs
from service.db.operations import status
from tests.bench import runs
from tests.bench.load import events
from tests.bench.population import populate
from tests.conftest import Service
from tests.processes import Processes, processes
from tests.servers import servers
from tests.wait import until

_STUCK = 120.0
_UPDATES = 1 - 1 / Shop(0, 0).events_per_order
"""Share of the events that update an order, as `crm capacity` assumes it."""
_TICK = 0.05

_WAL = "SELECT CAST(pg_current_wal_insert_lsn() - '0/0' AS bigint) AS bytes"
_SIZES = """
SELECT (pg_total_relation_size('customers') + pg_total_relation_size('customer_search')
          + pg_total_relation_size('identifiers'))
         / (SELECT count(*) FROM customers)::float8 AS customer,
       pg_relation_size('customers') / (SELECT count(*) FROM customers)::float8 AS customer_row,
       pg_total_relation_size('orders') / (SELECT count(*) FROM orders)::float8 AS "order",
       pg_total_relation_size('segment_changes')
         / (SELECT count(*) FROM segment_changes)::float8 AS change
"""
_REMOVALS = 2000
_REMOVE = """
INSERT INTO removals (customer_id, reason, merged_into, removed_at)
SELECT 9000000 + n, 'merged', 1001, now() FROM generate_series(1, CAST(:removals AS integer)) AS n
"""
_CONNECTIONS = "SELECT count(*) AS all FROM pg_stat_activity WHERE application_name = 'crm worker'"


class Row(NamedTuple):
    """A line of the table; ``forecast`` and ``measured`` are in the unit that ``what`` names."""

    what: str
    forecast: float
    measured: float


async def sizes(service: Service, crm: Processes, total: int, customers: int) -> dict[str, float]:
    """Let a worker fill an empty service; return the values of `capacity.Bytes`, and connections.

    `images` measures ``images``.
    """
    documents = events(total, customers, updates=_UPDATES)
    before = await _wal(service)
    most = 0
    async with _worker(crm):
        await runs.fill(service, documents)

        async def settled() -> bool:
            nonlocal most
            (row,) = await service.rows(_CONNECTIONS)
            most = max(most, row["all"])
            return await _settled(service) >= len(documents) and await runs.all_published(service)

        async def removals_published() -> bool:
            return bool(await service.redis.xlen(service.config.removals_stream) == _REMOVALS)

        await until(settled, _STUCK, every=0.05)
        wal = await _wal(service) - before
        await service.execute(_REMOVE, removals=_REMOVALS)
        await until(removals_published, _STUCK)
    (found,) = await service.rows(_SIZES)
    return {
        **found,
        "wal": wal / len(documents),
        "redis": await _bytes_each(service, service.config.orders_stream),
        "published": await _bytes_each(service, service.config.changes_stream),
        "removal": await _bytes_each(service, service.config.removals_stream),
        "connections": most,
    }


async def images(service: Service, crm: Processes, customers: int, total: int) -> float | None:
    """Return how much more WAL an event of a large shop writes right after a checkpoint.

    None if the role may not make a checkpoint.
    """
    await populate(service.servers.database_url, customers, customers * 3, datetime.now(UTC))
    (row,) = await service.rows("SELECT published FROM relay")
    raw: Any = service.redis  # the relay expects a stream that goes on from here
    await raw.xadd(service.config.changes_stream, {"data": ""}, id=f"{row['published']}-0")
    if not await runs.checkpoint(service.servers):
        return None
    documents = events(total, customers, updates=0, duplicates=0, late=0, seed=3)
    before, settled = await _wal(service), await _settled(service)
    await runs.fill(service, documents)
    async with _worker(crm):

        async def done() -> bool:
            return await _settled(service) >= settled + total and await runs.all_published(service)

        await until(done, _STUCK)
        return (await _wal(service) - before) / total - capacity.BYTES.wal


async def of_images(service: Service) -> str:
    """Return the name of the value in `BYTES` to compare with; it depends on the server."""
    (row,) = await service.rows("SHOW wal_compression")
    return "images" if row["wal_compression"] == "off" else "compressed_images"


async def rate(service: Service, crm: Processes, total: int) -> float:
    """Return the events per second at which a worker drains a stream that was filled before."""
    documents = events(total, total)
    await runs.fill(service, documents)
    async with _worker(crm):
        first = 0

        async def begun() -> bool:
            nonlocal first
            first = await _settled(service)
            return first > 0

        await until(begun, _STUCK)
        began = time.perf_counter()

        async def done() -> bool:
            return await _settled(service) >= len(documents)

        await until(done, _STUCK)
        return (len(documents) - first) / (time.perf_counter() - began)


async def catching_up(
    service: Service, crm: Processes, per_second: int, seconds: float, rate: float
) -> Row:
    """Publish at an even rate, at first without a worker; then time how long one catches up."""
    documents = events(int(per_second * seconds * 4), 50_000, seed=5)
    sent = 0

    async def publish() -> None:
        nonlocal sent
        began = time.perf_counter()
        while sent < len(documents):
            due = min(len(documents), int((time.perf_counter() - began) * per_second))
            await runs.fill(service, documents[sent:due])
            sent = due
            await asyncio.sleep(_TICK)

    away = time.perf_counter()
    publishing = asyncio.create_task(publish())
    await asyncio.sleep(seconds)
    async with _worker(crm):
        began = time.perf_counter()
        minutes = (began - away) / 60

        async def caught_up() -> bool:
            return sent - await _settled(service) <= per_second * 2 * _TICK

        await until(caught_up, _STUCK)
        took = time.perf_counter() - began
        publishing.cancel()
    shop = Shop(0, per_second * 86_400, events_per_order=1, peak=1, outage_minutes=minutes)
    forecast = needs(shop, rate).catch_up_seconds
    what = f"seconds to catch up at {per_second:,} events/s after {60 * minutes:.0f} s"
    return Row(what, float("nan") if forecast is None else forecast, took)


@contextlib.asynccontextmanager
async def _worker(crm: Processes) -> AsyncIterator[None]:
    worker = await crm.worker(sweep_seconds=15, reclaim_idle_seconds=60, log_level="WARNING")
    yield
    assert await worker.terminate() == 0, worker.output


async def _settled(service: Service) -> int:
    async with service.engine.connect() as connection:
        return (await status.totals(connection)).read


async def _wal(service: Service) -> int:
    (row,) = await service.rows(_WAL)
    return int(row["bytes"])


async def _bytes_each(service: Service, stream: str) -> float:
    raw: Any = service.redis
    size, entries = await raw.memory_usage(stream, samples=0), await raw.xlen(stream)
    return float(size / entries)


async def _measure(chosen: argparse.Namespace) -> list[Row]:
    rows = []
    with servers() as running, tempfile.TemporaryDirectory(prefix="crm-capacity-") as folder:
        async with (
            runs.measured_service(running) as service,
            processes(running, Path(folder)) as crm,
        ):
            await service.empty()
            found = await sizes(service, crm, chosen.events, chosen.events * 3 // 4)
            await service.empty()
            named = await of_images(service)
            found[named] = await images(service, crm, 100_000, 4000) or float("nan")
            forecast = capacity.BYTES._asdict() | {"connections": capacity.CONNECTIONS_PER_PROCESS}
            rows += [Row(what, forecast[what], size) for what, size in found.items()]
            await service.empty()
            measured = await rate(service, crm, chosen.events)
            rows.append(Row("events per second of one worker", chosen.rate, measured))
            await service.empty()
            rows.append(await catching_up(service, crm, 1000, chosen.outage, measured))
    return rows


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=80_000)
    parser.add_argument("--rate", type=float, default=capacity.RATE, help="what is forecast")
    parser.add_argument("--outage", type=float, default=20, help="seconds without a worker")
    rows = asyncio.run(_measure(parser.parse_args()))
    print("| | forecast | measured | ratio |\n|---|--:|--:|--:|")  # noqa: T201
    for what, forecast, measured in rows:
        line = f"| {what} | {forecast:,.1f} | {measured:,.1f} | {measured / forecast:.2f} |"
        print(line)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
