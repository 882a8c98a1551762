"""The web application, connected to the servers of the test run, or to none."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from service.http.app import create_app
from tests.conftest import Service


@asynccontextmanager
async def client(service: Service, **changed: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Start a web application whose configuration differs so from the service's."""
    app = create_app(service.config.model_copy(update=changed))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            yield http


@pytest.fixture
async def web(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of a web process of its own, which has nothing cached."""
    async with client(service) as http:
        yield http
