"""Any mixture of events, edits, erasures, settings and time ends as in the model."""

import os

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Service
from tests.system.state_machine.machine import run
from tests.system.state_machine.operations import Operation, operations

SEARCH = int(os.environ.get("CRM_TEST_EXAMPLES", "0"))
"""How many random examples `make search` tries. Otherwise the same few are tried each time."""


@pytest.mark.timeout(0 if SEARCH else 120)
@settings(
    max_examples=SEARCH or 25,
    derandomize=not SEARCH,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(steps=st.lists(operations, min_size=6, max_size=14))
async def test_any_mixture_of_operations_ends_as_in_the_model(
    migrated: Service, http: httpx.AsyncClient, steps: list[Operation]
) -> None:
    await run(migrated, http, steps)
