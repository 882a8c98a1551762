"""A service with some history, all of it published. Its invariants hold."""

from datetime import datetime

import pytest

from tests.conftest import Service
from tests.integration.db.operations.conftest import four_customers, publish_changes


@pytest.fixture
async def sound(empty_service: Service, now: datetime) -> Service:
    await four_customers(empty_service, now)
    await publish_changes(empty_service)
    assert await empty_service.findings() == []
    return empty_service
