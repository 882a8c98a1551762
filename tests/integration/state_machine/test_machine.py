"""Any mixture of events, edits, erasures, settings and time ends where the model says."""

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Service
from tests.integration.state_machine.machine import run
from tests.integration.state_machine.operations import Operation, operations

EXAMPLES = 25
"""A few hundred by hand, when something that it covers was changed: a minute or so."""


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(steps=st.lists(operations, min_size=6, max_size=14))
async def test_any_mixture_ends_where_the_model_says(
    migrated: Service, http: httpx.AsyncClient, steps: list[Operation]
) -> None:
    await run(migrated, http, steps)
