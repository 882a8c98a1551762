"""The job of new settings, in worker processes that are killed while orders arrive."""

import asyncio
from datetime import datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from tests.conftest import Service
from tests.events import entry, fields
from tests.integration.db.segments.settings.conftest import apply_all
from tests.integration.db.segments.settings.test_settings import change, put
from tests.integration.worker.scene import all_published, publish_all
from tests.processes import Processes
from tests.wait import until

CUSTOMERS = 8_000


async def _create_customers(service: Service, now: datetime) -> None:
    for start in range(0, CUSTOMERS, 4000):
        await service.ingest(
            *(
                entry(
                    f"ORD-{n}",
                    email=f"c{n:05}@x.org",
                    created=now,
                    total="10",
                    payment_status="pending",
                )
                for n in range(start, start + 4000)
            )
        )


@pytest.mark.parametrize("counted_before", ["placed", "paid"])
async def test_the_job_resumes_after_kill_9_while_orders_arrive(
    service: Service, web: httpx.AsyncClient, crm: Processes, now: datetime, counted_before: str
) -> None:
    """If only paid orders counted before, the orders are counted again, too."""
    await put(web, countFrom=counted_before)
    await apply_all(service)
    await _create_customers(service, now)
    worker = await crm.worker()
    stop, published = asyncio.Event(), 0

    async def publish() -> None:
        """Publish second orders of existing customers, and first orders of new ones."""
        nonlocal published
        while not stop.is_set():
            numbers = range(published, published + 20)
            await publish_all(
                service,
                [
                    fields(f"NEW-{n}", email=f"c{n * 37 % (CUSTOMERS + 2000):05}@x.org", total="5")
                    for n in numbers
                ],
            )
            published += 20
            await asyncio.sleep(0.005)

    async def in_the_middle() -> bool:
        progress = await change(web, version)
        assert progress["status"] == "running"
        part = progress["recount"] or progress
        return bool(0 < part["examined"] < part["total"])

    load = asyncio.create_task(publish())
    try:
        # Even a fast worker cannot pass a customer whom another transaction has locked.
        async with service.engine.begin() as blocker:
            lock = text("SELECT FROM customers WHERE email_key = :middle FOR UPDATE")
            await blocker.execute(lock, {"middle": f"c{CUSTOMERS // 2:05}@x.org"})
            version = (await put(web, vipOrderCount=1, countFrom="placed"))["change"]
            await until(in_the_middle)
            await worker.kill()
        interrupted = await change(web, version)
        assert interrupted["status"] == "running"
        # What lies beyond the last id examined is not judged yet. That is no error.
        assert [finding for finding in await service.findings() if finding.number in {1, 4}] == []
        await crm.worker()
        await crm.worker()

        async def finished() -> bool:
            return bool((await change(web, version))["status"] == "finished")

        await until(finished)
    finally:
        stop.set()
        await load

    async def all_read() -> bool:
        (row,) = await service.rows("SELECT count(*) AS n FROM orders WHERE id LIKE 'NEW-%'")
        return bool(row["n"] == published)

    await until(all_read)
    await all_published(service)
    done = await change(web, version)
    assert done["examined"] == done["total"] >= CUSTOMERS
    assert done["percentage"] == 100
    rows = await service.rows(
        "SELECT cause, count(*) AS n, count(DISTINCT customer_id) AS customers"
        " FROM segment_changes WHERE settings_version = :version AND previous IS NOT NULL"
        " GROUP BY cause",
        version=int(version),
    )
    by_cause: dict[str, Any] = {row["cause"]: row for row in rows}
    assert by_cause["rules"]["n"] == by_cause["rules"]["customers"] == done["moved"]
    (segments,) = await service.rows(
        "SELECT count(*) FILTER (WHERE segment = 'vip') AS vip, count(*) AS n FROM customers"
    )
    assert segments["vip"] == segments["n"] > CUSTOMERS
