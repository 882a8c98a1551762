"""Workers as processes, which end with their test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import Service
from tests.processes import Processes, processes


@pytest.fixture
async def crm(service: Service, tmp_path: Path) -> AsyncIterator[Processes]:
    """Return a starter of processes on a service whose invariants must hold after the test."""
    async with processes(service.servers, tmp_path) as started:
        yield started
