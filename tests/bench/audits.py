"""Measure how long the audits of a large shop take: ``.venv/bin/python -m tests.bench.audits``.

`population` writes the customers and orders, and as many segment changes are put on the out-stream
as a worker leaves there. Then `crm verify` and `crm rebuild` run as processes of their own. Beside
the time on the clock, the CPU of the command and of PostgreSQL is printed, which other work on the
machine does not change much, and the greatest memory of either.
"""

import argparse
import asyncio
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import psutil

from service.core.envelope import FASTSTREAM_FIELD
from service.db.segments.change_outbox import CHANGES
from tests.bench.population import populate
from tests.bench.runs import measured_service
from tests.conftest import Service
from tests.processes import environment
from tests.servers import servers

_PAGE = 5000


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--orders", type=int, default=5_000_000)
    chosen = parser.parse_args(arguments)
    with servers() as running:
        asyncio.run(_measure(running, chosen))
    return 0


async def _measure(running: Any, chosen: argparse.Namespace) -> None:
    async with measured_service(running) as service:
        await service.empty()
        await populate(
            service.servers.database_url, chosen.customers, chosen.orders, datetime.now(UTC)
        )
        published = await _publish(service)
        _print(
            f"{chosen.customers:,} customers, {chosen.orders:,} orders, {published:,} segment"
            " changes on the out-stream\n"
        )
        _print(
            "| command | clock, s | CPU of it, s | CPU of PostgreSQL, s | memory of it, MB |"
            " memory of a connection, MB | exit status |"
        )
        _print("|---|--:|--:|--:|--:|--:|--:|")
        for command in (("verify",), ("verify",), ("rebuild",)):
            await service.execute("UPDATE sweep SET swept_until = now()")
            await asyncio.to_thread(_run, running, command)


async def _publish(service: Service) -> int:
    """Put the latest segment changes on the out-stream, as many as are kept; return how many."""
    stream, raw = service.config.changes_stream, service.redis
    (relay,) = await service.rows("SELECT published FROM relay")
    published = int(relay["published"])
    trimmed = number = max(0, published - service.config.changes_keep_entries)
    await service.execute("UPDATE relay SET trimmed = :trimmed", trimmed=trimmed)
    while number < published:
        async with service.engine.connect() as connection:
            page = await CHANGES.numbered_between(connection, number, number + _PAGE, _PAGE)
        pipeline: Any = raw.pipeline(transaction=False)
        for change in page:
            pipeline.xadd(stream, {FASTSTREAM_FIELD: change.body}, id=f"{change.number}-0")
        await pipeline.execute()
        number = page[-1].number
    return number - trimmed


def _run(running: Any, command: Sequence[str]) -> None:
    postgres = _postgres()
    before = _cpu([postgres, *postgres.children(recursive=True)])
    begun = time.perf_counter()
    process = psutil.Popen(
        [sys.executable, "-m", "service.cli", *command],
        env=environment(running, sweep_seconds=None),
        stdout=sys.stderr,
    )
    watch = _Watch(process, postgres)
    watch.start()
    status = process.wait()
    watch.ended.set()
    watch.join()
    seconds = time.perf_counter() - begun
    server = watch.server_cpu + _cpu([postgres]) - before
    _print(
        f"| `crm {' '.join(command)}` | {seconds:.1f} | {watch.cpu:.1f} | {server:.1f}"
        f" | {watch.memory / 1e6:.0f} | {watch.backend_memory / 1e6:.0f} | {status} |"
    )


class _Watch(threading.Thread):
    """Looks at a command and at its connection until the command ends."""

    def __init__(self, process: psutil.Popen, postgres: psutil.Process) -> None:
        super().__init__(daemon=True)
        self.process, self.postgres, self.ended = process, postgres, threading.Event()
        self.cpu = self.memory = self.backend_memory = self.server_cpu = 0.0
        self._server: dict[int, float] = {}

    def run(self) -> None:
        while not self.ended.wait(0.1):
            try:
                self.cpu = _cpu([self.process])
                self.memory = max(self.memory, self.process.memory_info().rss)
            except psutil.Error:
                pass
            for child in self.postgres.children(recursive=True):
                try:
                    self._server[child.pid] = _cpu([child])
                    if (
                        "crm verify" in " ".join(child.cmdline())
                        or "postgres: crm" in child.cmdline()[0]
                    ):
                        # Shared buffers are counted for each process that has touched them.
                        memory = child.memory_info()
                        self.backend_memory = max(self.backend_memory, memory.rss - memory.shared)
                except (psutil.Error, IndexError):
                    pass
            self.server_cpu = sum(self._server.values())


def _postgres() -> psutil.Process:
    found = [
        process
        for process in psutil.Process().children(recursive=True)
        if process.name() == "postgres"
    ]
    return next(process for process in found if process.ppid() not in {one.pid for one in found})


def _cpu(processes: Sequence[psutil.Process]) -> float:
    seconds = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        seconds += times.user + times.system
    return seconds


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
