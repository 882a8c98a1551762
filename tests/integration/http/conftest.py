"""A web application that is connected to the servers of the test run, or to none."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from service.http.app import create_app
from tests.conftest import Service


@asynccontextmanager
async def client(service: Service, **changed: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Start a web application with the service's configuration and these changes."""
    app = create_app(service.web_config.model_copy(update=changed))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            yield http


@pytest.fixture
async def web(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of a new web application, which has nothing cached."""
    async with client(service) as http:
        yield http
