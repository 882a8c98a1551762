"""A client for the customer routes."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.conftest import Service
from tests.integration.http.conftest import client


@dataclass(frozen=True)
class Api:
    """A client of ``/api/v1/customers``."""

    http: httpx.AsyncClient

    async def create(self, expect: int = 201, **body: Any) -> dict[str, Any]:
        """Create a customer and return the answer."""
        response = await self.http.post("/api/v1/customers", json=body)
        assert response.status_code == expect, response.text
        answer: dict[str, Any] = response.json()
        return answer

    async def patch(
        self, customer: str, expect: int = 200, *, if_match: str | None = None, **body: Any
    ) -> dict[str, Any]:
        """Edit a customer and return the answer."""
        headers = {"If-Match": if_match} if if_match else {}
        path = f"/api/v1/customers/{customer}"
        response = await self.http.patch(path, json=body, headers=headers)
        assert response.status_code == expect, response.text
        answer: dict[str, Any] = response.json()
        return answer

    async def get(self, path: str = "", expect: int = 200, **query: Any) -> dict[str, Any]:
        """Read a path below ``/customers`` and return the answer."""
        response = await self.http.get(f"/api/v1/customers{path}", params=query)
        assert response.status_code == expect, response.text
        answer: dict[str, Any] = response.json()
        return answer


@pytest.fixture
async def api(service: Service) -> AsyncIterator[Api]:
    """Yield a client of a web process."""
    async with client(service) as http:
        yield Api(http)
