"""A web application."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.conftest import Service
from tests.integration.http.conftest import client


@pytest.fixture
async def web(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with client(service) as http:
        yield http
