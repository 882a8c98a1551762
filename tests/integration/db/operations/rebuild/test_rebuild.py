"""A rebuild finds exactly what was damaged, corrects it with `apply`, and touches nothing else."""

import asyncio
import json
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from service.db.operations import rebuild as rebuilding
from service.db.operations.rebuild import RebuildReport, rebuild
from tests.conftest import Service
from tests.events import entry
from tests.integration.cli.conftest import Crm
from tests.integration.db.operations.conftest import four_customers, publish_changes
from tests.integration.db.segments.sweeping import swept_until
from tests.integration.worker.scene import out_stream
from tests.store_zone import move_to


@pytest.fixture
def crm(service: Service, tmp_path: Path) -> Crm:
    return Crm(service.servers, tmp_path)


@pytest.fixture
async def shop(service: Service, now: datetime) -> Service:
    """Add to the four: 1005 returning, 1006 held, and 1007, whose only order is cancelled."""
    await four_customers(service, now)
    hours = timedelta(hours=1)
    await service.ingest(
        *(entry(f"B{n}", email="e@x.org", total="10", created=now - n * hours) for n in (2, 1)),
        entry("F", email="f@x.org", created=now - timedelta(days=1)),
        entry("G", email="g@x.org", total="90.00", status="cancelled"),
    )
    await service.execute(
        "UPDATE customers SET segment_manual = true, segment_held_since = now() WHERE id = 1006"
    )
    return service


async def _run(service: Service, *, apply: bool) -> RebuildReport:
    return await rebuild(service.engine, apply=apply, actor="test", show=20)


async def _rows_with_versions(service: Service) -> dict[str, list[Any]]:
    """Return all rows that a rebuild might touch, with their row versions."""
    return {
        table: await service.rows(f"SELECT xmin::text, * FROM {table} ORDER BY 2, 3, 4")
        for table in ("customers", "segment_changes", "segment_counters", "daily_changes", "audit")
    }


@pytest.mark.parametrize("apply", [False, True])
async def test_a_sound_system_shows_no_difference_and_is_not_touched(
    shop: Service, *, apply: bool
) -> None:
    before = await _rows_with_versions(shop)
    report = await _run(shop, apply=apply)
    assert (report.examined, report.clean) == (7, True)
    assert await _rows_with_versions(shop) == before


@pytest.mark.parametrize(
    ("damage", "changed"),
    [
        ("UPDATE customers SET total_spent = 999 WHERE id = 1005", {"total_spent"}),
        ("UPDATE customers SET total_orders = 9 WHERE id = 1005", {"total_orders"}),
        (
            "UPDATE customers SET first_order_date = now() - interval '9 days' WHERE id = 1005",
            {"first_order_date"},
        ),
        (
            "UPDATE customers SET last_order_date = now() - interval '1 s' WHERE id = 1005",
            {"last_order_date"},
        ),
        ("UPDATE orders SET total = 600 WHERE id = 'B1'", {"total_spent", "segment"}),
        (
            "UPDATE orders SET status = 'cancelled' WHERE id = 'B1'",
            {"total_orders", "total_spent", "last_order_date", "segment"},
        ),
        (
            "DELETE FROM orders WHERE id LIKE 'B%'",
            {"total_orders", "total_spent", "first_order_date", "last_order_date", "segment"},
        ),
    ],
)
async def test_damage_is_found_and_corrected(shop: Service, damage: str, changed: set[str]) -> None:
    await shop.execute(damage)
    before = await _rows_with_versions(shop)
    report = await _run(shop, apply=False)
    assert await _rows_with_versions(shop) == before
    (difference,) = report.first
    assert difference.customer_id == 1005
    differing = {
        name
        for name in difference.stored._fields
        if getattr(difference.stored, name) != getattr(difference.rebuilt, name)
    }
    assert differing == changed
    applied = await _run(shop, apply=True)
    assert (applied.customers, applied.figures) == (1, 1)
    assert await shop.findings() == []
    assert (await _run(shop, apply=True)).clean
    (audited,) = await shop.rows("SELECT actor, action, details FROM audit")
    assert (audited["actor"], audited["action"]) == ("test", "rebuild.applied")
    assert audited["details"]["customers"] == 1


async def test_a_wrong_segment_is_corrected_and_the_change_is_published(shop: Service) -> None:
    await shop.execute("UPDATE customers SET segment = 'vip' WHERE id = 1002")
    await shop.execute(
        "UPDATE segment_changes SET segment = 'vip', cause = 'manual' WHERE customer_id = 1002"
    )
    report = await _run(shop, apply=False)
    assert (report.customers, report.figures, report.moves) == (1, 0, {("vip", "new"): 1})
    await _run(shop, apply=True)
    changes = await shop.rows(
        "SELECT previous, segment, cause, sequence FROM segment_changes"
        " WHERE customer_id = 1002 ORDER BY sequence DESC LIMIT 1"
    )
    assert changes == [{"previous": "vip", "segment": "new", "cause": "rebuild", "sequence": 2}]
    await publish_changes(shop)
    last = (await out_stream(shop))[-1].document
    assert (last["subject"], last["data"]["cause"]) == ("CUST-1002", "rebuild")


async def test_a_hold_stays_unless_it_should_have_ended(shop: Service) -> None:
    await shop.execute("UPDATE customers SET segment = 'vip' WHERE id = 1006")
    await shop.execute(
        "UPDATE segment_changes SET segment = 'vip', cause = 'manual' WHERE customer_id = 1006"
    )
    await shop.execute(
        """UPDATE segment_counters SET customers = customers + CASE segment WHEN 'vip' THEN 1
           ELSE -1 END, total_spent = total_spent + CASE segment WHEN 'vip' THEN 100 ELSE -100 END,
           with_orders = with_orders + CASE segment WHEN 'vip' THEN 1 ELSE -1 END
           WHERE slot = 1 AND segment IN ('vip', 'new')"""
    )
    assert (await _run(shop, apply=False)).customers == 0
    await shop.execute(
        "UPDATE customers SET segment_held_since = now() - interval '9 days' WHERE id = 1006"
    )
    assert (await _run(shop, apply=True)).moves == {("vip", "new"): 1}
    (customer,) = await shop.rows("SELECT segment, segment_manual FROM customers WHERE id = 1006")
    assert customer == {"segment": "new", "segment_manual": False}


async def test_a_segment_that_the_sweep_is_about_to_assign_is_no_difference(
    shop: Service, now: datetime
) -> None:
    due = now - timedelta(days=60, seconds=1)
    await shop.ingest(entry("H", email="h@x.org", created=due), now=due + timedelta(days=50))
    await swept_until(shop, now - timedelta(seconds=2))
    assert (await _run(shop, apply=True)).clean
    await shop.execute("UPDATE sweep SET swept_until = now()")


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE segment_counters SET customers = customers + 1 WHERE slot = 2 AND segment = 'vip'",
        "UPDATE segment_counters SET total_spent = total_spent - 1 WHERE segment = 'new'",
        "DELETE FROM daily_changes",
        "DELETE FROM daily_totals",
        "UPDATE daily_totals SET revenue = revenue + 1",
        "UPDATE customers SET total_spent = 999, total_orders = 1 WHERE id IN (1001, 1003)",
    ],
)
async def test_a_rebuild_corrects_the_statistics(shop: Service, damage: str) -> None:
    await shop.execute(damage)
    assert not (await _run(shop, apply=False)).clean
    await _run(shop, apply=True)
    assert (await _run(shop, apply=False)).clean
    assert await shop.findings() == []


async def test_a_rebuild_corrects_days_of_the_stores_zone(shop: Service) -> None:
    await move_to(shop, "Pacific/Kiritimati")
    await shop.execute("UPDATE daily_totals SET revenue = revenue + 1, day = day - 10")
    await shop.execute("DELETE FROM daily_changes")
    assert not (await _run(shop, apply=False)).clean
    await _run(shop, apply=True)
    assert (await _run(shop, apply=False)).clean


async def test_past_days_are_computed_on_demand(shop: Service, crm: Crm, now: datetime) -> None:
    await shop.ingest(entry("OLD", email="old@x.org", created=now - timedelta(days=200)))
    refused = await crm("rebuild", "--past-days")
    assert refused.status == 1
    assert "Add --apply" in refused.err
    assert not await _first_known(shop)
    done = await crm("rebuild", "--apply", "--past-days", "--json")
    assert done.document["pastDays"] is True
    assert await _first_known(shop) == [(now - timedelta(days=200)).date()]
    assert await shop.rows("TABLE reconstructions") == []


async def _first_known(service: Service) -> list[date]:
    """Return the first day of the daily changes, if it is over since long."""
    rows = await service.rows(
        "SELECT min(day) AS day FROM daily_changes HAVING min(day) < current_date - 100"
    )
    return [row["day"] for row in rows]


async def test_a_rebuild_is_right_while_events_arrive(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All customers are damaged. They are rebuilt while they place more orders."""
    monkeypatch.setattr(rebuilding, "CHUNK", 20)
    orders = [entry(f"ORD-{n}", email=f"c{n % 100}@x.org", total="1.00") for n in range(200)]
    await service.ingest(*orders)
    await service.execute("UPDATE customers SET total_spent = total_spent + 5, total_orders = 7")
    done = asyncio.Event()
    ordered = 0

    async def order(worker: int) -> None:
        nonlocal ordered
        while not done.is_set():
            batch = [
                entry(f"MORE-{worker}-{ordered}-{n}", email=f"c{n}@x.org", total="2.00")
                for n in range(0, 100, 3)
            ]
            ordered += len(batch)
            await service.ingest(*batch)

    async def rebuild_meanwhile() -> RebuildReport:
        try:
            report = await _run(service, apply=True)
            assert ordered > 0
            return report
        finally:
            done.set()

    report, *_ = await asyncio.gather(rebuild_meanwhile(), order(1), order(2))
    assert (report.examined, report.customers) == (100, 100)
    assert (await _run(service, apply=False)).clean


async def test_the_command_reports_differences_and_corrects_them(shop: Service, crm: Crm) -> None:
    clean = await crm("rebuild")
    assert (clean.status, clean.out) == (0, "7 customers recomputed: nothing differs.\n"), clean.err
    await shop.execute("UPDATE customers SET total_spent = 1 WHERE id IN (1001, 1002)")
    shown = await crm("rebuild", "--show", "1")
    assert shown.status == 1
    assert "7 customers recomputed: 2 differ, 2 of them in their figures." in shown.out
    assert "CUST-1001: totalSpent 1.00 → 30.00" in shown.out
    assert "CUST-1002" not in shown.out
    found = await crm("rebuild", "--json")
    assert found.status == 1
    document = json.loads(found.out)
    assert (document["applied"], document["customers"]) == (False, 2)
    assert document["first"][1] == {
        "customerId": "CUST-1002",
        "changes": {"totalSpent": [1.00, 100.00]},
    }
    applied = await crm("rebuild", "--apply")
    assert (applied.status, applied.out.splitlines()[-1]) == (0, "Written, and checked again.")
    assert (await crm("rebuild", "--apply")).out == clean.out
