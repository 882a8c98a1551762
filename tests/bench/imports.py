"""Measure an import beside the event path: ``.venv/bin/python -m tests.bench.imports``.

The same orders come as a Shopify export, and as order events that are judged and applied in batches
as a worker does. CPU is printed beside the time on the clock, because other work on the machine
does not change it much. Memory is the greatest that the import added.
"""

import argparse
import asyncio
import csv
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from service.transfer.importer import ImportRequest, import_file
from tests.bench.runs import measured_service
from tests.conftest import Service
from tests.events import entry
from tests.servers import servers
from tests.unit.transfer.test_formats import SHOPIFY

_START = datetime(2020, 1, 1, tzinfo=UTC)
_BATCH = 1000
_LINES_OF_AN_ORDER = 2
_PADDING = "x" * 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--customers", type=int, default=100_000)
    chosen = parser.parse_args(arguments)
    with servers() as running:
        asyncio.run(_measure(running, chosen))
    return 0


async def _measure(running: Any, chosen: argparse.Namespace) -> None:
    orders = chosen.lines // _LINES_OF_AN_ORDER
    async with measured_service(running) as service:
        print("| way | orders | clock, s | CPU of Python, s | orders/s of CPU | memory, MB |")  # noqa: T201
        print("|---|--:|--:|--:|--:|--:|")  # noqa: T201
        await service.empty()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "orders_export.csv"
            _write(path, orders, chosen.customers)
            await _timed("import", orders, _import(service, path))
        await service.empty()
        await _timed("events", orders, _events(service, orders, chosen.customers))


def _when(number: int) -> datetime:
    return _START + timedelta(minutes=2 * number)


def _write(path: Path, orders: int, customers: int) -> None:
    columns = next(csv.reader([SHOPIFY]))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        for number in range(orders):
            when = f"{_when(number):%Y-%m-%d %H:%M:%S} +0000"
            name = f"#{1000 + number}"
            writer.writerow(
                {
                    "Name": name,
                    "Email": f"c{number * 7919 % customers}@x.org",
                    "Financial Status": "paid",
                    "Paid at": when,
                    "Fulfillment Status": "fulfilled",
                    "Fulfilled at": when,
                    "Currency": "USD",
                    "Total": f"{number % 300}.50",
                    "Created at": when,
                    "Lineitem name": _PADDING,
                    "Billing Name": f"Customer {number % customers}",
                    "Billing Address1": "1 Main St",
                    "Billing City": "Austin",
                    "Billing Country": "US",
                    "Refunded Amount": "0.00",
                    "Id": str(7282333953943 + number),
                }
            )
            writer.writerow({"Name": name, "Lineitem name": _PADDING})


async def _import(service: Service, path: Path) -> None:
    (outcome,) = await import_file(service.config, ImportRequest(path, apply=True))
    assert outcome.complete


def _batches(orders: int, customers: int) -> Iterator[list[Any]]:
    for first in range(0, orders, _BATCH):
        yield [
            entry(
                f"#{1000 + number}",
                email=f"c{number * 7919 % customers}@x.org",
                name=f"Customer {number % customers}",
                total=f"{number % 300}.50",
                created=_when(number),
                shippingAddress={"street": "1 Main St", "city": "Austin", "country": "US"},
            )
            for number in range(first, min(first + _BATCH, orders))
        ]


async def _events(service: Service, orders: int, customers: int) -> None:
    for batch in _batches(orders, customers):
        await service.ingest(*batch)


async def _timed(way: str, orders: int, work: Any) -> None:
    process = psutil.Process()
    before, started, used = process.memory_info().rss, time.perf_counter(), process.cpu_times()
    most, running = before, asyncio.ensure_future(work)
    while not running.done():
        most = max(most, process.memory_info().rss)
        await asyncio.wait([running], timeout=0.2)
    await running
    seconds, now_used = time.perf_counter() - started, process.cpu_times()
    cpu = now_used.user + now_used.system - used.user - used.system
    print(  # noqa: T201
        f"| {way} | {orders:,} | {seconds:,.0f} | {cpu:,.0f} | {orders / cpu:,.0f}"
        f" | {(most - before) / 1e6:,.0f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
