"""Measure webhooks in and out: ``.venv/bin/python -m tests.bench.webhooks``.

In: a web process of its own gets orders of a Shopify shop, one after the other, and answers when
they are in the stream. Printed is how long it takes to answer.

Out: a history is written, and endpoints are registered from its beginning. Their receivers are a
process of their own on this machine, which answers at once. Printed are the events that all
endpoints take in a second, and the CPU time that the worker's process spends on each.
"""

import argparse
import asyncio
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import httpx
from aiohttp import web

from consumers.deliveries import Deliveries
from consumers.tasks import end
from service.core.endpoints import EventKind, make_secret
from service.db.engine import create_engine
from service.db.operations import endpoints
from service.db.operations.endpoints import NewEndpoint
from tests.bench import runs
from tests.bench.report import percentiles
from tests.conftest import Service
from tests.integration.http.hooks.shop import Shop, register, shopify_order
from tests.processes import HOST, free_port, processes
from tests.servers import servers
from tests.wait import until

_HISTORY = """
INSERT INTO segment_changes (customer_id, sequence, segment, cause, settings_version, total_orders,
  total_spent, changed_at, publish_number)
SELECT 1001 + n % :customers, 1 + n / :customers, 'new', 'order', 1, 1, 99.95, now(), n + 1
FROM generate_series(0, :events - 1) n"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--customers", type=int, default=2_000)
    parser.add_argument("--orders", type=int, default=1_000, help="webhooks in")
    chosen = parser.parse_args(arguments)
    with servers() as running:
        asyncio.run(_measure(running, chosen))
    return 0


async def _measure(running: Any, chosen: argparse.Namespace) -> None:
    context = multiprocessing.get_context("spawn")
    port, listening = free_port(), context.Event()
    receiver = context.Process(target=_receive, args=(port, listening), daemon=True)
    receiver.start()
    await asyncio.to_thread(listening.wait)
    async with runs.measured_service(running) as service:
        await service.empty()
        await _take_in(service, chosen.orders)
        await service.empty()
        numbers = {"customers": chosen.customers, "events": chosen.events}
        await service.execute(_HISTORY, **numbers)
        await service.execute(
            "UPDATE relay SET numbered = :events, published = :events", events=chosen.events
        )
        sys.stdout.write("| endpoints | events/s, all together | CPU per event |\n|--:|--:|--:|\n")
        for number in (1, 4):
            seconds, cpu = await _send(service, f"http://{HOST}:{port}/", number, chosen.events)
            sent = number * chosen.events
            sys.stdout.write(f"| {number} | {sent / seconds:,.0f} | {cpu / sent * 1e6:,.0f} µs |\n")
            sys.stdout.flush()
            await service.execute("DELETE FROM endpoints")
    receiver.terminate()
    receiver.join()


async def _take_in(service: Service, orders: int) -> None:
    """Send so many orders of a shop, and print how long the answers took."""
    await register(service)
    with tempfile.TemporaryDirectory() as folder:
        async with processes(service.servers, Path(folder)) as started:
            web = await started.web(rate_limit_per_second=100_000, rate_limit_burst=1_000_000)
            url = f"http://{HOST}:{web.port}"
            async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
                shop, seconds = Shop(http), list[float]()
                for number in range(orders):
                    order = shopify_order(number + 1, updated=datetime.now(UTC))
                    answer = await shop.send("orders/create", order)
                    assert answer.status_code == 200, answer.text
                    seconds.append(answer.elapsed.total_seconds())
    sys.stdout.write(f"{orders:,} webhooks of a shop, answered in {percentiles(seconds)}.\n\n")


async def _send(service: Service, url: str, number: int, events: int) -> tuple[float, float]:
    """Send the history to so many endpoints; return seconds and CPU seconds."""
    new = NewEndpoint(
        url, [EventKind.CHANGED], allow_private=True, since=datetime(2000, 1, 1, tzinfo=UTC)
    )
    for _ in range(number):
        await service.in_transaction(endpoints.add, new, make_secret(), "bench")
    engine = create_engine(service.config.database_url or "", application="crm worker")

    async def all_arrived() -> bool:
        rows = await service.rows("SELECT sum(delivered) AS n FROM endpoints")
        return bool(rows[0]["n"] == number * events)

    begun, cpu = time.perf_counter(), time.process_time()
    task = asyncio.create_task(Deliveries(engine).run())
    await until(all_arrived, 600, every=0.1)
    spent = time.perf_counter() - begun, time.process_time() - cpu
    await end([task])
    await engine.dispose()
    return spent


def _receive(port: int, listening: Event) -> None:
    """Answer every request at once."""

    async def serve() -> None:
        app = web.Application()
        app.router.add_post("/", _accept)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, HOST, port).start()
        listening.set()
        await asyncio.Event().wait()

    asyncio.run(serve())


async def _accept(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(status=204)


if __name__ == "__main__":
    sys.exit(main())
