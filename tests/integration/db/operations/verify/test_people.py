"""People who cannot be found, and what is left over from others, are reported (9)."""

from datetime import datetime

import pytest

from service.db.customers import editing
from service.db.customers.editing import HoldEdit
from tests.conftest import Service
from tests.integration.db.operations.verify.populated import populate


@pytest.fixture
async def populated(empty_service: Service, now: datetime) -> Service:
    await populate(empty_service, now)
    return empty_service


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ("UPDATE customer_search SET searched = 'x' WHERE customer_id = 1001", "search"),
        ("DELETE FROM customer_search WHERE customer_id = 1001", "search"),
        ("INSERT INTO customer_search VALUES (1003, 'jane smith')", "search"),
        ("UPDATE customers SET email_key = 'z@x.org' WHERE id = 1001", "key"),
        ("UPDATE customers SET email = 'z@x.org' WHERE id = 1001", "key"),
        ("DELETE FROM former_emails", "former"),
        ("UPDATE former_emails SET customer_id = 1002", "former"),
        ("UPDATE former_emails SET email_key = 'new@x.org'", "former"),
        ("UPDATE interactions SET customer_id = 9999", "interaction"),
        ("DELETE FROM erased", "erased"),
        ("UPDATE erased SET erased_at = erased_at + interval '1 day'", "erased"),
    ],
)
async def test_invariant_9_reports_it(populated: Service, damage: str, what: str) -> None:
    await populated.execute(damage)
    findings = [finding for finding in await populated.findings() if finding.number == 9]
    assert any(what in fault.what for finding in findings for fault in finding.faults)
    assert all(fault.offenders and fault.remedy for fault in findings[0].faults)


async def test_keys_that_postgres_would_write_otherwise_are_right(empty_service: Service) -> None:
    """Python writes some letters in lower case as Postgres does not."""
    fields = {"name": "Σ", "email": "İΣ@x.org"}
    async with empty_service.engine.begin() as connection:
        await editing.create(connection, "test", fields, HoldEdit(frozenset()))
    (row,) = await empty_service.rows("SELECT email_key <> lower(email) AS differ FROM customers")
    assert row["differ"], "these letters do not show the difference any more"
    assert await empty_service.findings() == []
