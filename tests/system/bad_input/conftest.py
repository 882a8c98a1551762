"""Processes that end with their test, on a service whose invariants must hold afterwards."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import Service
from tests.processes import Processes, processes


@pytest.fixture
async def crm(service: Service, tmp_path: Path) -> AsyncIterator[Processes]:
    """Yield something to start ``crm`` processes with."""
    async with processes(service.servers, tmp_path) as started:
        yield started
