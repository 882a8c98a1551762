"""A web application and keys of several scopes."""

from collections.abc import AsyncIterator

import httpx
import pytest

from service.core.scopes import Scope
from service.db.accounts.api_keys import create_key
from tests.conftest import Service
from tests.integration.http.conftest import client


@pytest.fixture
async def web(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with client(service) as http:
        yield http


async def key(service: Service, *scopes: Scope) -> dict[str, str]:
    """Create an API key with these scopes. Return the headers that carry it."""
    async with service.engine.begin() as connection:
        created = await create_key(connection, f"key {'+'.join(scopes)}", scopes, actor="test")
    return {"X-API-Key": created.reveal()}
