"""A test that fails half-way breaks no other test."""

import pytest

from tests.conftest import Service


@pytest.mark.parametrize("table", ["segment_counters", "ingest_counters", "sweep", "installation"])
async def test_rows_that_a_test_left_deleted_are_there_for_the_next_one(
    empty_service: Service, table: str
) -> None:
    moments = "'swept_until'"  # the present
    rows = f"SELECT to_jsonb(t) - {moments} AS row FROM {table} t ORDER BY CAST(t AS text)"
    before = await empty_service.rows(rows)
    await empty_service.execute(f"DELETE FROM {table}")
    assert await empty_service.rows(rows) == []
    await empty_service.empty()
    assert await empty_service.rows(rows) == before
