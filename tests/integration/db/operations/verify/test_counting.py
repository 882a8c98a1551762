"""An order counts as the settings say, whoever has changed it, and a rebuild sees to it."""

from typing import Any

import pytest
from sqlalchemy import text

from service.db.engine import in_transaction
from service.db.operations.rebuild import rebuild
from service.db.segments import recount, rule_settings
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.segments.settings.conftest import step

WRONG = "an order counts, or does not, against the settings"


async def _miscounted(service: Service) -> set[str]:
    return {
        row["order"]
        for finding in await service.findings()
        for fault in finding.faults
        if fault.what == WRONG
        for row in fault.offenders
    }


async def _save(service: Service, **changes: Any) -> None:
    await in_transaction(service.engine, rule_settings.save, "test", changes, None)


async def test_only_what_other_settings_left_is_no_fault_during_a_recount(
    empty_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recount, "PAGE", 1)
    await empty_service.ingest(
        *(
            entry(f"ORD-{n}", email=f"{n}@x.org", payment_status=payment)
            for n, payment in enumerate(["pending", "paid", "pending", "paid"])
        )
    )
    await _save(empty_service, count_from="paid")
    await step(empty_service)
    await step(empty_service)
    assert await empty_service.findings() == []
    # The recount has passed the first two. No version of the settings leaves a paid order out.
    await empty_service.execute("UPDATE orders SET counts = NOT counts")
    assert await _miscounted(empty_service) == {"ORD-0", "ORD-1", "ORD-3"}
    report = await rebuild(empty_service.engine, apply=True, actor="test")
    assert report.left == []
    assert await empty_service.findings() == []
    rows = await empty_service.rows("SELECT id, counts FROM orders ORDER BY id")
    assert [row["counts"] for row in rows] == [False, True, False, True]
    while await step(empty_service):
        pass
    assert await empty_service.findings() == []


async def test_the_recount_after_an_upgrade_takes_orders_as_they_are(
    empty_service: Service,
) -> None:
    """Nobody knows by which rule the release before counted them."""
    await empty_service.ingest(
        entry("ORD-1", email="a@x.org"),
        entry("ORD-2", email="a@x.org"),
        entry("ORD-3", customer=None),
    )
    await empty_service.execute(
        "INSERT INTO settings_changes (version, total, finished_at, counted_since)"
        " VALUES (1, 0, now(), 0)"
    )
    await empty_service.execute("UPDATE orders SET counts = false WHERE id <> 'ORD-1'")
    assert await _miscounted(empty_service) == set()
    while await step(empty_service):
        pass
    rows = await empty_service.rows("SELECT id FROM orders WHERE counts")
    assert len(rows) == 3
    (customer,) = await empty_service.rows("SELECT total_orders FROM customers")
    assert customer == {"total_orders": 2}


async def test_a_rebuild_counts_orders_by_the_settings(empty_service: Service) -> None:
    await empty_service.ingest(
        entry("ORD-1", email="a@x.org"),
        entry("ORD-2", email="a@x.org", status="cancelled"),
        entry("ORD-3", customer=None),
    )
    await empty_service.execute("UPDATE orders SET counts = NOT counts")
    assert await _miscounted(empty_service) == {"ORD-1", "ORD-2", "ORD-3"}
    shown = await rebuild(empty_service.engine, apply=False, actor="test")
    assert "orders counted, or did not, against the settings" in {
        mended.what for mended in shown.mended
    }
    assert (await rebuild(empty_service.engine, apply=True, actor="test")).left == []
    assert await empty_service.findings() == []


async def test_a_job_that_an_earlier_release_took_is_recounted_all_the_same(
    empty_service: Service,
) -> None:
    """Workers of the release before judge all customers, and know nothing of a recount."""
    await empty_service.ingest(entry("ORD-1", email="a@x.org", payment_status="pending"))
    await _save(empty_service, count_from="paid")
    await empty_service.execute(
        "UPDATE settings_changes SET examined = 1, last_id = 9999, finished_at = now()"
    )
    assert await empty_service.findings() == []
    while await step(empty_service):
        pass
    async with empty_service.engine.connect() as connection:
        assert await connection.scalar(text("SELECT NOT counts FROM orders"))
    assert await empty_service.findings() == []
