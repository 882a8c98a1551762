"""People who cannot be found, and what is left over from others, are reported (9)."""

from datetime import datetime

import pytest

from service.db.customers import editing
from service.db.customers.editing import HoldEdit
from service.db.customers.identity.merge import merge
from service.db.customers.identity.pairs import separate
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.operations.verify.populated import populate

P = "@person@"
"""Stands for the number of the customer whom another one was merged into."""


@pytest.fixture
async def populated(empty_service: Service, now: datetime) -> Service:
    await populate(empty_service, now)
    return empty_service


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ("UPDATE customer_search SET searched = E'x\\x1e' WHERE customer_id = 1001", "search"),
        ("DELETE FROM customer_search WHERE customer_id = 1001", "search"),
        ("INSERT INTO customer_search VALUES (1003, 'jane smith')", "search"),
        ("UPDATE customers SET email_key = 'z@x.org' WHERE id = 1001", "key"),
        ("UPDATE customers SET email = 'z@x.org' WHERE id = 1001", "key"),
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


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ("UPDATE identifiers SET identifier = 'x' || identifier WHERE customer_id = 1001", "kind"),
        ("UPDATE identifiers SET customer_id = 9999 WHERE identifier ~ 'new@'", "does not exist"),
        ("DELETE FROM identifiers WHERE identifier = 'email:new@x.org'", "own e-mail"),
        ("UPDATE identifiers SET customer_id = 1002 WHERE identifier ~ 'new@'", "own e-mail"),
        ("DELETE FROM identifiers WHERE identifier ~ 'customer:'", "merged"),
        (f"INSERT INTO identifiers VALUES ('customer:{P}', 1001)", "who exists leads"),
        ("UPDATE identifiers SET customer_id = 1001 WHERE customer_id IS NULL", "marked"),
        ("DELETE FROM identifiers WHERE customer_id IS NULL", "marked"),
        ("DELETE FROM identifiers WHERE identifier = 'email:a@x.org'", "nobody has"),
        ("UPDATE orders SET identifier = 'email:z@x.org' WHERE customer_id = 1001", "nobody has"),
        (f"UPDATE orders SET customer_id = {P} WHERE id = 'ORD-P2'", "identifiers say"),
        ("UPDATE orders SET customer_id = NULL WHERE id = 'ORD-P2'", "identifiers say"),
        ("UPDATE orders SET customer_id = 1001 WHERE id = 'ORD-P5'", "identifiers say"),
        ("UPDATE orders SET other_identifier = identifier WHERE id = 'ORD-P2'", "second"),
        ("UPDATE orders SET other_identifier = 'email:new@x.org' WHERE id = 'ORD-P2'", "together"),
        ("DELETE FROM pending_merges WHERE NOT protected", "together"),
        ("UPDATE pending_merges SET since = since - interval '11 minutes'", "ten minutes"),
        ("UPDATE pending_merges SET protected = false", "ten minutes"),
        ("UPDATE pending_merges SET high = 9999", "a pair"),
        ("UPDATE separations SET high = 9999", "a pair"),
    ],
)
async def test_invariant_9_reports_who_is_who(populated: Service, damage: str, what: str) -> None:
    (person,) = await populated.rows(
        "SELECT customer_id AS id FROM identifiers WHERE identifier = 'email:p@x.org'"
    )
    async with populated.engine.begin() as connection:  # so that no trigger mends the damage
        await connection.exec_driver_sql(damage.replace(P, str(person["id"])))
    (finding,) = [each for each in await populated.findings() if each.number == 9]
    assert any(what in fault.what for fault in finding.faults), finding.faults
    assert all(fault.offenders and fault.remedy for fault in finding.faults)


async def test_an_email_that_staff_replaced_means_somebody(empty_service: Service) -> None:
    service = empty_service
    async with service.engine.begin() as connection:
        for email in ("a@x.org", "b@x.org"):
            await editing.create(connection, "test", {"email": email}, HoldEdit(frozenset()))
        for new in ("Jane@bücher.example", "c@x.org"):
            await editing.edit(
                connection, "test", 1002, {"email": new}, HoldEdit(frozenset()), None
            )
        await merge(connection, 1001, 1002, "test")
    assert await service.findings() == []
    await service.execute("DELETE FROM identifiers WHERE identifier ~ 'xn--|b@x'")
    (finding,) = await service.findings()
    offenders = {fault.what: fault.offenders for fault in finding.faults}
    replaced = "an e-mail that staff replaced means nobody any more"
    assert offenders[replaced] == [{"customer": 1001}] * 2
    await service.empty()


@pytest.mark.parametrize("paired", ["pending_merges", "separations"])
async def test_two_customers_of_one_order_who_are_a_pair_are_right(
    service: Service, paired: str
) -> None:
    await service.ingest(entry("A", customer={"id": 7}))
    await service.ingest(entry("B", email="a@x.org"))
    if paired == "separations":
        await service.in_transaction(separate, 1001, 1002, "test")
    await service.ingest(entry("C", customer={"id": 7, "email": "a@x.org"}))
    assert len(await service.rows(f"SELECT 1 FROM {paired}")) == 1
    assert await service.findings() == []


async def test_what_an_earlier_release_named_belongs_to_whom_it_said(service: Service) -> None:
    await service.ingest(entry("A", email="a@x.org"))
    await service.execute("UPDATE orders SET identifier = NULL, other_identifier = NULL")
    assert await service.findings() == []
