"""Processes as they are deployed, and the files they are deployed with."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import Service
from tests.processes import Processes, processes


@pytest.fixture
async def crm(service: Service, tmp_path: Path) -> AsyncIterator[Processes]:
    """Start processes on a service whose invariants must hold when the test is over."""
    async with processes(service.servers, tmp_path) as started:
        yield started
