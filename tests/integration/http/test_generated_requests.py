"""Every operation of the OpenAPI document, tried with generated requests on a running server."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.conftest import Service
from tests.contracts import openapi
from tests.events import entry
from tests.processes import processes

EXAMPLES = 12
"""Generated requests per operation. Raise it by hand for a longer search."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
async def running(
    migrated: Service, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str]:
    """Start a web process with a few customers and dead letters; yield its address."""
    await migrated.empty()
    await migrated.ingest(
        *(entry(f"ORD-{n}", email=f"c{n % 5}@example.org", total="10") for n in range(12)),
        *(entry(f"BAD-{n}", email="c1@example.org", total="-1") for n in range(3)),
        entry("NOBODY-1"),
    )
    async with processes(migrated.servers, tmp_path_factory.mktemp("web")) as started:
        web = await started.web(CRM_RATE_LIMIT_PER_SECOND=100_000, CRM_RATE_LIMIT_BURST=1_000_000)
        yield f"http://127.0.0.1:{web.port}"


def operations() -> dict[str, Any]:
    """Return the operations of the document by method and path."""
    loaded: Any = schemathesis.openapi.from_dict(openapi())
    found = (result.ok() for result in loaded.get_all_operations())
    # A request to the live stream would never end.
    return {one.label: one for one in found if not one.path.endswith("/stream")}


OPERATIONS = operations()


@pytest.mark.parametrize("label", OPERATIONS)
def test_every_answer_is_documented_and_no_server_error(running: str, label: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=OPERATIONS[label].as_strategy())
    def tried(case: Any) -> None:
        case.call_and_validate(base_url=running, checks=CHECKS)

    tried()
