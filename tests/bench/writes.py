"""Measure how fast events are applied, compared with other ways to write it: ``make bench``.

Every round runs every contender once, in rotating order, on the same servers (durable commits,
append-only file on), with the same events, empty tables and a stream that is filled beforehand. The
run fails if a contender's totals differ from the model's. A slow contender gets only the first part
of the events, so that a round ends; all rates are events per second.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from time import monotonic

from tests.bench import conditions, pages, report, runs
from tests.bench.contenders import PEERS, RECORDED, Contender, ours
from tests.bench.load import events
from tests.bench.peers import database_only
from tests.bench.promises import promises
from tests.bench.runs import Measured, Totals
from tests.conftest import Service
from tests.servers import Servers, servers

CONDITIONS: dict[str, Callable[[Service], Awaitable[str]]] = {
    "promises": promises,
    "latency": conditions.latency,
    "replay": conditions.replay,
    "moves": conditions.moves,
    "workers": conditions.workers,
    "customers": conditions.more_customers,
    "orders": conditions.more_orders,
    "memory": conditions.memory,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=150_000)
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--quick", action="store_true", help="two small rounds, for a first look")
    parser.add_argument(
        "--also",
        nargs="*",
        choices=CONDITIONS,
        default=["promises", "latency", "replay", "moves", "workers"],
        help="conditions to measure afterwards; customers, orders and memory take ten minutes each",
    )
    parser.add_argument("--write", action="store_true", help="write it into docs/performance.md")
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        chosen.rounds, chosen.events, chosen.customers = 2, 20_000, 15_000
    with servers() as running:
        asyncio.run(_measure(running, chosen))
    return 0


async def _measure(running: Servers, chosen: argparse.Namespace) -> None:
    begun = monotonic()
    async with runs.measured_service(running) as service:
        machine = await pages.machine(service.engine)
        print(machine, flush=True)  # noqa: T201
        parts: dict[str, list[str]] = {}
        if chosen.rounds:
            table = await _rounds(service, chosen.rounds, chosen.events, chosen.customers)
            parts["speed"] = [table]
        for name in chosen.also:
            parts.setdefault("promises" if name == "promises" else "speed", []).append(
                await CONDITIONS[name](service)
            )
        for name, measured in parts.items():
            document = "\n\n".join(map(str.strip, measured))
            print(f"\n{document}", flush=True)  # noqa: T201
            if chosen.write:
                pages.write(name, f"{machine}\n\n{document}")
    print(f"\nTook {timedelta(seconds=round(monotonic() - begun))}.")  # noqa: T201


async def _rounds(service: Service, count: int, total: int, customers: int) -> str:
    documents = events(total, customers)
    await database_only.prepare(service.engine)
    try:
        await database_only.record(service.config, documents, RECORDED)
    finally:
        await database_only.restore(service.engine)
    contenders = [ours(), *PEERS, ours(2)]
    right: dict[int, Totals] = {}
    rounds: list[dict[str, Measured]] = []
    for number in range(count):
        shift = number % len(contenders)
        measured: dict[str, Measured] = {}
        for contender in contenders[shift:] + contenders[:shift]:
            part = documents[: _part(contender, total)]
            if len(part) not in right:
                right[len(part)] = runs.expected(part)
            result = await runs.run(service, contender, part, right[len(part)])
            measured[contender.name] = result
            _say(f"round {number + 1}: {contender.name}, {result.rate:,.0f} events/s")
        rounds.append(measured)
    parts = {contender.name: _part(contender, total) for contender in contenders}
    return report.table(contenders, rounds, parts, customers)


def _part(contender: Contender, total: int) -> int:
    return max(200, int(total * contender.share))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
