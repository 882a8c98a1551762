"""A web application, workers as processes, and customers in all segments."""

import random
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest

from service.db.engine import in_transaction
from service.db.segments.reclassify import advance
from tests.conftest import Service
from tests.events import cloud_event
from tests.integration.db.ingest.test_model import entries
from tests.integration.http.conftest import client
from tests.processes import Processes, processes

CUSTOMERS = 120


@pytest.fixture
async def web(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with client(service) as http:
        yield http


@pytest.fixture
async def crm(service: Service, tmp_path: Path) -> AsyncIterator[Processes]:
    async with processes(service.servers, tmp_path) as started:
        yield started


async def populate(service: Service, rng: random.Random, now: datetime) -> None:
    """Store orders of many customers, and hold some of these customers.

    Every order is half an hour away from any age limit, so that time moves nobody during the test.
    """
    documents = [
        cloud_event(
            f"ORD-{number}",
            email=f"c{int(rng.triangular(0, CUSTOMERS, 0))}@x.org",
            name=f"Customer {number}",
            created=now - timedelta(hours=int(rng.expovariate(1 / 1500)), minutes=30),
            status=rng.choice(["completed"] * 5 + ["cancelled"]),
            total=str(rng.randrange(30_000) / 100),
        )
        for number in range(300)
    ]
    await service.ingest(*entries(documents))
    # A pin for ever, a hold until the next order, and a pin until a moment in the future.
    holds = (
        "segment_pinned = true",
        "segment_pinned = false",
        "segment_pinned_until = now() + interval '1 day'",
    )
    for remainder, hold in enumerate(holds):
        await service.execute(
            "UPDATE customers SET segment_manual = true, segment_held_since = now(), "
            f"{hold} WHERE id % 11 = {remainder}"
        )


async def step(service: Service) -> bool:
    """Do one step of the job of the newest settings. Return whether there was one to do."""
    return await in_transaction(service.engine, advance)


async def apply_all(service: Service) -> int:
    """Run the job of the newest settings to its end. Return the number of steps."""
    steps = 0
    while await step(service):
        steps += 1
    return steps
