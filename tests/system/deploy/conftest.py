"""Processes, started as a deployment starts them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import Service
from tests.processes import Processes, processes


@pytest.fixture
async def crm(service: Service, tmp_path: Path) -> AsyncIterator[Processes]:
    """Yield something to start processes with; the service's invariants must hold afterwards."""
    async with processes(service.servers, tmp_path) as started:
        yield started
