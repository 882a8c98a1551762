"""Measure how past days are computed: ``.venv/bin/python -m tests.bench.past_days``.

`population` writes the customers and orders. First they are computed while nothing else happens:
for the same time zone, then for another one. Then a worker drains a filled stream, and somebody
asks for past days in the middle of it. The rate during that is compared with the rates before and
after it, so that other load on the machine slows both.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from service.core.reconstruction import ReconstructionCause
from service.db.engine import in_transaction
from service.db.operations.past_days import compute_past_days
from service.db.segments import rule_settings
from service.db.statistics.generations import follow_time_zone, request_reconstruction
from tests.bench import runs
from tests.bench.contenders import ours
from tests.bench.load import events
from tests.bench.population import populate
from tests.conftest import Service
from tests.servers import servers

_WINDOW = 8.0
"""Seconds that are measured before and after."""
_EVERY = 0.25


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=200_000)
    parser.add_argument("--orders", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=600_000)
    chosen = parser.parse_args(arguments)
    with servers() as running:
        asyncio.run(_measure(running, chosen))
    return 0


async def _measure(running: Any, chosen: argparse.Namespace) -> None:
    async with runs.measured_service(running) as service:
        await service.empty()
        worker = ours()
        await worker.prepare(service)
        url = service.servers.database_url
        await populate(url, chosen.customers, chosen.orders, datetime.now(UTC), varied=False)
        (stored,) = await service.rows("SELECT count(*) AS orders FROM orders")
        _print(f"{chosen.customers:,} customers, {stored['orders']:,} orders\n")
        for what in ("the same zone", "another zone"):
            if what == "another zone":
                changes = {"time_zone": "Europe/Berlin"}
                await in_transaction(service.engine, rule_settings.save, "bench", changes, None)
                await in_transaction(service.engine, follow_time_zone)
            else:
                await in_transaction(
                    service.engine, request_reconstruction, ReconstructionCause.ASKED
                )
            begun = time.perf_counter()
            assert await in_transaction(service.engine, compute_past_days)
            _print(f"Past days of {what}, alone: {time.perf_counter() - begun:.1f} s\n")
        await in_transaction(service.engine, follow_time_zone)
        await _while_draining(service, chosen)


async def _while_draining(service: Service, chosen: argparse.Namespace) -> None:
    (row,) = await service.rows("SELECT published FROM relay")
    raw: Any = service.redis  # the relay expects a stream that goes on from here
    await raw.xadd(service.config.changes_stream, {"data": ""}, id=f"{row['published']}-0")
    await runs.fill(service, events(chosen.events, chosen.customers))
    await runs.checkpoint(service.servers)
    samples: list[tuple[float, int, bool]] = []
    asked = done = None
    with runs.started(service, ours().commands):
        while done is None or time.perf_counter() < done + _WINDOW:
            await asyncio.sleep(_EVERY)
            count = await ours().settled(service)
            (row,) = await service.rows("SELECT count(*) AS open FROM reconstructions")
            now = time.perf_counter()
            samples.append((now, count, bool(row["open"])))
            if count >= chosen.events:
                break
            running = now - next((at for at, applied, _ in samples if applied), now)
            if asked is None and running >= _WINDOW:
                asked = now
                await in_transaction(
                    service.engine, request_reconstruction, ReconstructionCause.ASKED
                )
            elif asked and done is None and not row["open"] and now > asked + 1:
                done = now
    assert asked, "too few events"
    end = done or samples[-1][0]
    before, during, after = (
        _rate([(at, count) for at, count, _ in samples if low <= at <= high and count])
        for low, high in ((0, asked), (asked, end), (end, float("inf")))
    )
    _print(
        f"While a stream is drained: {end - asked:.1f} s{'' if done else ' and not done'}. Events/s"
        f" before {before:,.0f}, during {during:,.0f}, after {after:,.0f};"
        f" {2 * during / (before + after or during):.0%} of the mean of before and after."
    )


def _rate(samples: list[tuple[float, int]]) -> float:
    if len(samples) < 2:
        return 0.0
    (begun, first), (ended, last) = samples[0], samples[-1]
    return (last - first) / (ended - begun)


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
