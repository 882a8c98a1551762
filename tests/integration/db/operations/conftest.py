"""A shop with known segments, which the tests of rebuild and verify damage."""

import asyncio
from datetime import datetime, timedelta

from consumers.relay import Relay
from consumers.tasks import end
from tests.conftest import Service
from tests.events import entry
from tests.integration.worker.scene import all_published


async def four_customers(service: Service, now: datetime) -> None:
    """Apply seven entries, one of them bad.

    Customer 1001 becomes new, returning and vip. 1002 is new, 1003 at risk, 1004 inactive.
    """
    for number in (1, 2, 3):
        await service.ingest(entry(f"ORD-{number}", email="a@x.org", total="10.00"))
    await service.ingest(
        entry("ORD-4", email="b@x.org"),
        entry("ORD-5", email="c@x.org", created=now - timedelta(days=70)),
        entry("ORD-6", email="d@x.org", created=now - timedelta(days=100)),
        entry("ORD-7", status="nonsense"),
    )


async def publish_changes(service: Service) -> None:
    """Run a relay until all segment changes are published."""
    relay = asyncio.create_task(Relay(service.engine, service.redis, service.config).run())
    await all_published(service)
    await end([relay])
