"""One web application for all operations."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.conftest import Service
from tests.integration.http.conftest import client


@pytest.fixture(scope="module")
async def http(migrated: Service) -> AsyncIterator[httpx.AsyncClient]:
    await migrated.empty()
    async with client(migrated) as http:
        yield http
