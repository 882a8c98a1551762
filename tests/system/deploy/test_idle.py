"""A service that has nothing to do writes nothing to PostgreSQL's log.

Every minute in which it wrote something would cost an archived segment of 16 MB.
"""

from tests.conftest import Service
from tests.events import fields
from tests.integration.worker.scene import all_applied, all_published
from tests.processes import Processes
from tests.wait import until

_STATE = """
SELECT pg_current_wal_insert_lsn() - '0/0' AS bytes,
  (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()) AS commits
"""
_STEPS = 300
"""Commits of chores that find nothing to do: about a minute of two workers."""


async def test_an_idle_service_writes_nothing(service: Service, crm: Processes) -> None:
    for number in range(3):
        await service.publish(fields(f"ORD-{number}", email=f"c{number}@example.org"))
    workers = [await crm.worker() for _ in range(2)]
    web = await crm.web()
    await all_applied(service, 3)
    await all_published(service)

    async def written(commits: int) -> int:
        """Return how many bytes are written while workers and web commit so often."""
        (before,) = await service.rows(_STATE)
        (after,) = [before]

        async def enough() -> bool:
            nonlocal after
            (after,) = await service.rows(_STATE)
            await web.ask("/readyz")
            return int(after["commits"] - before["commits"]) >= commits

        await until(enough, every=0.5)
        return int(after["bytes"] - before["bytes"])

    async def is_quiet() -> bool:
        return await written(_STEPS) == 0

    await until(is_quiet, 120)
    assert all(worker.status is None for worker in workers)
