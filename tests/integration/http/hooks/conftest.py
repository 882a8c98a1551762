"""A web application, and shops that it knows."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.conftest import Service
from tests.integration.http.conftest import client
from tests.integration.http.hooks.shop import WOO, Shop, Woo, register
from tests.integration.streams.scene import Scene


@pytest.fixture
async def shop(service: Service) -> AsyncIterator[Shop]:
    """Return a Shopify shop that is registered."""
    await register(service)
    async with client(service) as http:
        yield Shop(http)


@pytest.fixture
async def woo(service: Service) -> AsyncIterator[Woo]:
    """Return a WooCommerce shop that is registered."""
    await register(service, "woocommerce", WOO)
    async with client(service) as http:
        yield Woo(http)


async def events(service: Service) -> list[dict[str, Any]]:
    """Return the events in the stream of orders."""
    raw: Any = service.redis
    return [json.loads(entry[b"data"]) for _, entry in await raw.xrange("orders")]


async def apply_all(service: Service) -> None:
    """Apply what is in the stream and was not read yet, as a worker does."""
    scene = Scene(service)
    await scene.begin()
    await scene.consume(100)
    await scene.check()
