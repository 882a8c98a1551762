"""Hostile and large entries against a worker with the memory that we ship: 512 MiB."""

import re
import resource
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from service.core.envelope import KEPT_BYTES
from tests.conftest import Service
from tests.events import fields
from tests.integration.worker.killable import DEADLY
from tests.integration.worker.scene import all_applied, backlog, order_count, publish_all, totals
from tests.processes import Process, Processes, free_port
from tests.wait import until

LIMIT = 512 << 20
"""The worker's memory limit in `deploy/kubernetes`. Here it limits addresses, which is stricter."""
HUGE = 200_000_000
LARGE = 1_000_000
ENTRIES = 700
PAGE = 10
MINUTES = 5.0
"""On a loaded machine."""
pytestmark = pytest.mark.timeout(2 * MINUTES * 60)


def _limited(process: Process) -> None:
    resource.prlimit(process.pid, resource.RLIMIT_AS, (LIMIT, LIMIT))


def _peak(process: Process) -> int:
    """Return the most memory that a process ever had, in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) << 10


async def test_a_huge_entry_is_buried_unread_and_hurts_no_neighbour(
    service: Service, crm: Processes
) -> None:
    await publish_all(service, [fields(f"ORD-{n}", email=f"c{n % 9}@x.org") for n in range(100)])
    patient: Any = Redis.from_url(service.servers.redis_url, socket_timeout=MINUTES * 60)
    async with patient:
        huge = (await patient.xadd(service.config.orders_stream, {"data": b"x" * HUGE})).decode()
    await publish_all(
        service, [fields(f"ORD-{n}", email=f"c{n % 9}@x.org") for n in range(100, 200)]
    )
    worker = crm.start_worker(reclaim_idle_seconds=60)
    _limited(worker)
    await all_applied(service, 201, MINUTES * 60)
    assert worker.status is None, worker.output
    assert await order_count(service) == 200
    (letter,) = await service.rows("SELECT * FROM dead_letters")
    assert (letter["stream_id"], letter["reason"]) == (huge, "too_large")
    assert f"{HUGE + 4:,} bytes" in letter["error"]
    assert letter["field_names"] == [b"data"]
    assert letter["field_values"] == [b"x" * (KEPT_BYTES - 4)]
    assert (await totals(service)).read == 201
    assert _peak(worker) < LIMIT // 2


@pytest.mark.parametrize("valid", [True, False])
async def test_more_large_entries_than_fit_into_memory_are_handled(
    service: Service,
    crm: Processes,
    valid: bool,  # noqa: FBT001
) -> None:
    for first in range(0, ENTRIES, PAGE):
        await publish_all(
            service,
            [
                fields(
                    f"ORD-{n}",
                    email=f"c{n % 9}@x.org",
                    gift="x" * LARGE,
                    total="1.00" if valid else "NaN",
                )
                for n in range(first, first + PAGE)
            ],
        )
    worker = crm.start_worker(reclaim_idle_seconds=60)
    _limited(worker)
    await all_applied(service, ENTRIES, MINUTES * 60)
    assert worker.status is None, worker.output
    assert _peak(worker) < LIMIT // 2
    counted = await totals(service)
    assert (counted.applied, counted.dead_lettered) == ((ENTRIES, 0) if valid else (0, ENTRIES))
    assert await order_count(service) == counted.applied


async def test_only_the_entry_that_kills_workers_is_given_up(
    service: Service, crm: Processes
) -> None:
    await publish_all(service, [fields(f"ORD-{n}", email=f"c{n % 9}@x.org") for n in range(50)])
    killer = await service.publish({b"data": DEADLY})
    await publish_all(
        service, [fields(f"ORD-{n}", email=f"c{n % 9}@x.org") for n in range(50, 100)]
    )
    worker: Process | None = None
    deaths = 0

    async def all_done() -> bool:
        nonlocal worker, deaths
        if worker is None or worker.status is not None:
            deaths += worker is not None
            port = free_port()
            worker = crm.start(
                ["-m", "tests.integration.worker.killable"],
                port,
                worker_port=port,
                reclaim_idle_seconds=0.2,
            )
        counted = await totals(service)
        return counted.read >= 101 and not (await backlog(service)).pending

    await until(all_done, MINUTES * 60)
    letters = await service.rows("SELECT stream_id, reason, error FROM dead_letters")
    assert [(letter["stream_id"], letter["reason"]) for letter in letters] == [
        (killer, "too_many_deliveries")
    ]
    assert await order_count(service) == 100
    assert deaths == 10
