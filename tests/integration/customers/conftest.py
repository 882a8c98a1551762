"""The API under test, and customers to ask it for."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.conftest import Service
from tests.integration.http.conftest import client


@dataclass(frozen=True)
class Api:
    """The customers' part of the API."""

    http: httpx.AsyncClient

    async def create(self, expect: int = 201, **body: Any) -> dict[str, Any]:
        """POST a customer; the answer."""
        response = await self.http.post("/api/v1/customers", json=body)
        assert response.status_code == expect, response.text
        answer: dict[str, Any] = response.json()
        return answer

    async def patch(
        self, customer: str, expect: int = 200, *, if_match: str | None = None, **body: Any
    ) -> dict[str, Any]:
        """PATCH a customer; the answer."""
        headers = {"If-Match": if_match} if if_match else {}
        path = f"/api/v1/customers/{customer}"
        response = await self.http.patch(path, json=body, headers=headers)
        assert response.status_code == expect, response.text
        answer: dict[str, Any] = response.json()
        return answer

    async def get(self, path: str = "", expect: int = 200, **query: Any) -> dict[str, Any]:
        """GET below customers; the answer."""
        response = await self.http.get(f"/api/v1/customers{path}", params=query)
        assert response.status_code == expect, response.text
        answer: dict[str, Any] = response.json()
        return answer


@pytest.fixture
async def api(service: Service) -> AsyncIterator[Api]:
    """Give a client of a web process."""
    async with client(service) as http:
        yield Api(http)
