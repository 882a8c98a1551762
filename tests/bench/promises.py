"""What each contender keeps when it is killed in the middle, and when its state is gone.

All contenders of `make bench` but the limit, which reads no stream. Each is killed by SIGKILL when
two fifths of the events are committed, and started again; then its totals are compared with the
model's. After that it is stopped in order, the stream and whatever it keeps beside its tables are
emptied, and more events of the same customers come.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import psutil

from service.config import Config
from tests.bench import runs
from tests.bench.contenders import PEERS, Contender, ours
from tests.bench.load import events
from tests.bench.runs import Totals
from tests.conftest import Service
from tests.wait import until

_KILLED_AT = 0.4
_STILL_SECONDS: float = 15 + Config.model_fields["reclaim_idle_seconds"].default
"""A contender that commits nothing for that long has done all that it will do.

A worker takes over what a dead one had read after the idle time.
"""
_MEGABYTE = 1024 * 1024


class Kept(NamedTuple):
    """What was found of a contender."""

    what: str
    missing: int
    """Orders that customers should have and do not have."""
    surplus: int
    wrong: int
    """Customers whose orders, amount or segment differ from the model's."""
    customers: int
    goes_on: float
    """Seconds from the start of the second process to its first commit; 0 if there was none."""
    done: float
    """Seconds until its last commit."""
    megabytes: int
    """Memory of all its processes at the end."""
    knows: bool
    """Whether totals are right when more events come and only its tables are left."""


async def promises(service: Service, total: int = 40_000, customers: int = 20_000) -> str:
    """Return a table of what each contender keeps."""
    found = []
    for contender in (ours(), *(peer for peer in PEERS if peer.name != "D")):
        part = max(2000, int(total * contender.share))
        later = events(part // 4, customers, updates=0, duplicates=0, late=0, seed=2)
        more = [it.replace(b'"ORD-', b'"MORE-').replace(b'"event-', b'"more-') for it in later]
        found.append(await _kept(service, contender, events(part, customers), more))
    heads = (
        "killed at two fifths",
        "orders missing",
        "orders too many",
        "customers with a wrong total",
        "first commit after",
        "last commit after",
        "memory",
        "totals when only its tables are left",
    )
    lines = ["", f"| {' | '.join(heads)} |", f"|---|{'--:|' * 6}---|"]
    for it in found:
        cells = (
            it.what,
            f"{it.missing:,}",
            f"{it.surplus:,}",
            f"{it.wrong:,} of {it.customers:,}",
            f"{it.goes_on:.1f} s" if it.goes_on else "never",
            f"{it.done:.1f} s" if it.done else "never",
            f"{it.megabytes:,} MB",
            "right" if it.knows else "wrong",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


async def _kept(
    service: Service, contender: Contender, first: Sequence[bytes], more: Sequence[bytes]
) -> Kept:
    await service.empty()
    await contender.prepare(service)
    await service.engine.dispose()
    try:
        await runs.fill(service, first)
        with runs.started(service, contender.commands) as processes:

            async def in_the_middle() -> bool:
                return await contender.settled(service) >= _KILLED_AT * len(first)

            await until(in_the_middle, runs.STUCK, every=0.02)
            for process in processes:
                process.kill()
        known = await contender.settled(service)
        begun = time.perf_counter()
        with runs.started(service, contender.commands) as processes:
            goes_on, done = await _until_it_stands_still(service, contender, begun, known)
            megabytes = sum(map(_memory, processes)) // _MEGABYTE
        right, now = runs.expected(first), await runs.totals(service, contender)
        missing, surplus, wrong = _difference(right, now)
        knows = await _knows_its_tables(service, contender, now, more)
    finally:
        await contender.clean(service)
    return Kept(
        contender.what, missing, surplus, wrong, len(right), goes_on, done, megabytes, knows
    )


async def _until_it_stands_still(
    service: Service, contender: Contender, begun: float, known: int
) -> tuple[float, float]:
    """Return the seconds until the first commit and until the last one."""
    commits = [begun]

    async def nothing_comes() -> bool:
        nonlocal known
        now, at = await contender.settled(service), time.perf_counter()
        if now != known:
            known = now
            commits.append(at)
        return at - commits[-1] > _STILL_SECONDS

    await until(nothing_comes, 20 * _STILL_SECONDS, every=0.05)
    return commits[min(1, len(commits) - 1)] - begun, commits[-1] - begun


async def _knows_its_tables(
    service: Service, contender: Contender, before: Totals, more: Sequence[bytes]
) -> bool:
    """Return whether customers whom more events name still have the orders of before."""
    raw: Any = service.redis
    await raw.xtrim(service.config.orders_stream, maxlen=0, approximate=False)
    await contender.forget()
    await runs.fill(service, more)
    with runs.started(service, contender.commands):
        known = await contender.settled(service)
        await _until_it_stands_still(service, contender, time.perf_counter(), known)
    after = await runs.totals(service, contender)
    gone = [who for who, (orders, *_) in before.items() if after[who][0] < orders]
    return not gone


def _difference(right: Totals, found: Totals) -> tuple[int, int, int]:
    missing = surplus = wrong = 0
    for who in right.keys() | found.keys():
        should, has = right.get(who), found.get(who)
        wrong += should != has
        difference = (has[0] if has else 0) - (should[0] if should else 0)
        missing += max(-difference, 0)
        surplus += max(difference, 0)
    return missing, surplus, wrong


def _memory(process: Any) -> int:
    root = psutil.Process(process.pid)
    return int(sum(it.memory_info().rss for it in (root, *root.children(recursive=True))))
