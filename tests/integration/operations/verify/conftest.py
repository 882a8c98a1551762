"""A service with some history, all of it published and sound."""

import asyncio
from datetime import datetime, timedelta

import pytest

from consumers.relay import Relay
from consumers.tasks import end
from service.db.operations import status
from tests.conftest import Service
from tests.events import entry
from tests.wait import until


@pytest.fixture
async def sound(empty_service: Service, now: datetime) -> Service:
    """Four customers: 1001 new, returning, vip; 1002 new; 1003 at risk; 1004 inactive."""
    service = empty_service
    for number in (1, 2, 3):
        await service.ingest(entry(f"ORD-{number}", email="a@x.org", total="10.00"))
    await service.ingest(
        entry("ORD-4", email="b@x.org"),
        entry("ORD-5", email="c@x.org", created=now - timedelta(days=70)),
        entry("ORD-6", email="d@x.org", created=now - timedelta(days=100)),
        entry("ORD-7", status="nonsense"),
    )
    relay = asyncio.create_task(
        Relay(service.engine, service.redis, service.config.changes_stream).run()
    )

    async def published() -> bool:
        async with service.engine.connect() as connection:
            return not (await status.waiting(connection)).unpublished

    await until(published)
    await end([relay])
    assert await service.findings() == []
    return service
