"""One web application for all operations."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from service.db.segments import recount
from tests.conftest import Service
from tests.integration.http.conftest import client


@pytest.fixture(scope="module", autouse=True)
def short_pages() -> Iterator[None]:
    """Have a recount take several steps: a story has five orders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recount, "PAGE", 2)
        yield


@pytest.fixture(scope="module")
async def http(migrated: Service) -> AsyncIterator[httpx.AsyncClient]:
    await migrated.empty()
    async with client(migrated) as http:
        yield http
