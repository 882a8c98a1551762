"""Workers as processes, which end with their test, and servers that a test may harm."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import Service
from tests.processes import Processes, processes
from tests.servers import Embedded


@pytest.fixture
async def crm(service: Service, tmp_path: Path) -> AsyncIterator[Processes]:
    """Return a starter of processes on a service whose invariants must hold after the test."""
    async with processes(service.servers, tmp_path) as started:
        yield started


@pytest.fixture
def postgres(service: Service) -> Embedded:
    """Return a Postgres that the test may harm; skip the test if there is none."""
    if service.servers.postgres is None:
        pytest.skip("the database was given from outside, so the test must not harm it")
    return service.servers.postgres


@pytest.fixture
def valkey(service: Service) -> Embedded:
    """Return a Valkey that the test may harm; skip the test if there is none."""
    if service.servers.redis is None:
        pytest.skip("the Redis was given from outside, so the test must not harm it")
    return service.servers.redis
