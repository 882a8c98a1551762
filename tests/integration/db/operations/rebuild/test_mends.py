"""A rebuild mends what can be derived, leaves what cannot, and says which is which."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from consumers.relay import Relay
from consumers.tasks import end
from service.db.operations.rebuild import RebuildReport, rebuild
from service.db.operations.verify.findings import Finding
from tests.conftest import Service
from tests.events import entry
from tests.integration.cli.conftest import Crm
from tests.integration.db.operations.conftest import four_customers, publish_changes
from tests.integration.db.operations.verify.populated import populate
from tests.integration.worker.scene import all_published, out_stream

WRITTEN = "SET crm.identifiers = 'written'"
"""Keeps triggers from telling the orders that somebody else re-pointed them."""
_OUTLOOKS = 11
"""The number of the invariant about what is expected of customers."""


@pytest.fixture
async def populated(empty_service: Service, now: datetime) -> Service:
    await populate(empty_service, now)
    return empty_service


@pytest.fixture
async def told(empty_service: Service, now: datetime) -> Service:
    """Return a service whose changes are published. 1001 became new, returning and vip."""
    await four_customers(empty_service, now)
    await publish_changes(empty_service)
    return empty_service


async def _run(service: Service, *, apply: bool = True) -> RebuildReport:
    return await rebuild(service.engine, apply=apply, actor="test", show=20)


def _settled(findings: Sequence[Finding]) -> list[Finding | int]:
    """Return the findings, with their rows in one order.

    Of outlooks, return only the number: chances change from moment to moment.
    """
    return [each.number if each.number == _OUTLOOKS else _sorted(each) for each in findings]


def _sorted(finding: Finding) -> Finding:
    return finding._replace(
        faults=[each._replace(offenders=sorted(each.offenders, key=str)) for each in finding.faults]
    )


@pytest.mark.parametrize(
    "damage",
    [
        ("DELETE FROM segment_counters WHERE slot = 1 OR segment = 'vip'",),
        ("DELETE FROM segment_counters",),
        ("UPDATE customer_search SET searched = E'x\\x1e' WHERE customer_id IN (1001, 1002)",),
        ("DELETE FROM customer_search",),
        ("INSERT INTO customer_search VALUES (1003, 'jane smith')",),
        ("UPDATE customers SET email_key = 'z@x.org' WHERE id = 1001",),
        ("UPDATE users SET email_key = 'z@x.org' WHERE id = 1",),
        ("DELETE FROM identifiers",),
        ("DELETE FROM identifiers WHERE identifier = 'email:new@x.org'",),
        ("DELETE FROM identifiers WHERE identifier ~ 'customer:'",),
        ("DELETE FROM identifiers WHERE customer_id IS NULL",),
        ("UPDATE identifiers SET customer_id = 1001 WHERE customer_id IS NULL",),
        ("UPDATE identifiers SET customer_id = 9999 WHERE customer_id = 1001",),
        ("UPDATE identifiers SET customer_id = 1002 WHERE identifier = 'email:new@x.org'",),
        ("INSERT INTO identifiers VALUES ('customer:1001', 1002)",),
        (f"{WRITTEN}; UPDATE orders SET customer_id = 9999",),
        (f"{WRITTEN}; UPDATE orders SET customer_id = 1001 WHERE identifier IS NOT NULL",),
        (f"{WRITTEN}; UPDATE orders SET customer_id = NULL",),
        ("UPDATE orders SET identifier = 'email:z@x.org' WHERE customer_id = 1001",),
        ("DELETE FROM pending_merges WHERE NOT protected",),
        ("UPDATE pending_merges SET high = 9999", "UPDATE separations SET high = 9999"),
        ("DELETE FROM erased",),
        ("UPDATE erased SET erased_at = erased_at - interval '9 days'",),
        ("UPDATE interactions SET customer_id = 1003",),
        ("UPDATE sweep SET swept_until = now() + interval '9 days'",),
        ("DELETE FROM sweep",),
        ("UPDATE kept_answers SET as_of = as_of + interval '90 days'",),
        ("DELETE FROM daily_totals",),
        ("SELECT setval('customers_id_seq', 1)",),
        ("SELECT setval('audit_id_seq', 1)",),
        ("UPDATE dead_letter_counters SET letters = letters + 1",),
        ("UPDATE customers SET segment_sequence = segment_sequence - 1 WHERE id = 1001",),
        ("UPDATE customers SET segment = 'at_risk' WHERE id = 1001",),
        (
            "DELETE FROM segment_counters WHERE slot < 4",
            "DELETE FROM customer_search",
            "UPDATE customers SET total_spent = 1, email_key = 'z@x.org' WHERE id = 1001",
        ),
    ],
)
async def test_what_can_be_derived_is_mended(populated: Service, damage: tuple[str, ...]) -> None:
    for statements in damage:
        async with populated.owner.begin() as connection:
            for statement in statements.split("; "):
                await connection.execute(text(statement))
            await connection.execute(text("SET crm.identifiers = ''"))
    before = _settled(await populated.findings())
    assert before
    shown = await _run(populated, apply=False)
    assert not shown.clean
    after = _settled(await populated.findings())
    assert after == before, "without --apply, nothing is written"
    report = await _run(populated)
    assert report.left == []
    assert await populated.findings() == []
    (audited,) = await populated.rows("SELECT action FROM audit ORDER BY id DESC LIMIT 1")
    assert audited["action"] == "rebuild.applied"
    assert (await _run(populated)).clean


@pytest.mark.parametrize(
    ("damage", "number", "remedy"),
    [
        ("DELETE FROM dead_letters WHERE false; UPDATE dead_letters SET digest = ''", 10, "backup"),
        ("UPDATE interactions SET customer_id = 9999", 9, "backup"),
        ("INSERT INTO identifiers VALUES ('x:1', 1001)", 9, "backup"),
        ("UPDATE pending_merges SET since = since - interval '11 minutes'", 9, "worker"),
        ("UPDATE settings SET changed_by = changed_by || '.' WHERE version = 1", 10, "--accept"),
        ("UPDATE ingest_counters SET read = read + 1 WHERE slot = 1", 0, ""),
    ],
)
async def test_what_cannot_be_derived_is_named_with_a_remedy(
    populated: Service, damage: str, number: int, remedy: str
) -> None:
    for statement in damage.split(";"):
        await populated.execute(statement)
    report = await _run(populated)
    faults = {finding.number: finding.faults for finding in report.left}
    if number:
        assert list(faults) == [number]
        assert any(remedy in fault.remedy for fault in faults[number])


async def test_an_order_of_a_missing_customer_is_detached_and_attached_by_its_event(
    empty_service: Service,
) -> None:
    first = entry("A", email="a@x.org", total="10")
    await empty_service.ingest(first, entry("B", email="a@x.org", status="cancelled"))
    await empty_service.execute("UPDATE orders SET customer_id = 9999")
    report = await _run(empty_service)
    (mended,) = [mended for mended in report.mended if "orders" in mended.what]
    assert (mended.rows, "crm replay" in mended.then) == (2, True)
    assert report.left == []
    orders = await empty_service.rows("SELECT customer_id, erased, named_at FROM orders")
    assert orders == [{"customer_id": None, "erased": False, "named_at": None}] * 2
    await empty_service.ingest(first)
    (order,) = await empty_service.rows("SELECT customer_id FROM orders WHERE id = 'A'")
    assert order["customer_id"] == 1001
    assert await empty_service.findings() == []


async def test_an_order_left_to_an_erased_customer_stays_without_one(populated: Service) -> None:
    await populated.execute("UPDATE orders SET customer_id = 1003 WHERE erased")
    await _run(populated)
    (count,) = await populated.rows("SELECT count(*) FROM orders WHERE customer_id = 1003")
    assert count["count"] == 0
    assert await populated.findings() == []


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE segment_changes SET sequence = 9 WHERE customer_id = 1001 AND sequence = 3",
        "UPDATE segment_changes SET sequence = sequence + 4 WHERE customer_id = 1001",
        "UPDATE segment_changes SET previous = 'vip' WHERE customer_id = 1001 AND sequence = 2",
        "UPDATE segment_changes SET previous = 'new' WHERE customer_id = 1001 AND sequence = 1",
        "DELETE FROM segment_changes WHERE customer_id = 1001 AND sequence = 3",
    ],
)
async def test_the_order_of_unpublished_changes_is_mended(
    empty_service: Service, now: datetime, damage: str
) -> None:
    await four_customers(empty_service, now)
    await empty_service.execute(damage)
    assert 5 in {finding.number for finding in await empty_service.findings()}
    report = await _run(empty_service)
    assert report.left == []
    chain = await empty_service.rows(
        "SELECT sequence, previous, segment FROM segment_changes WHERE customer_id = 1001"
        " ORDER BY sequence"
    )
    assert [(row["sequence"], row["previous"], row["segment"]) for row in chain] == [
        (1, None, "new"),
        (2, "new", "returning"),
        (3, "returning", "vip"),
    ]
    await publish_changes(empty_service)
    assert await empty_service.findings() == []


async def test_a_wrong_previous_segment_of_a_published_change_is_what_was_told(
    told: Service,
) -> None:
    await told.execute(
        "UPDATE segment_changes SET previous = 'inactive' WHERE customer_id = 1001 AND sequence = 3"
    )
    report = await _run(told)
    (mended,) = report.mended
    assert mended.examples[0]["previous"] == "inactive"
    assert mended.examples[0]["right_previous"] == "returning"
    assert await told.findings() == []


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM segment_changes WHERE customer_id = 1001 AND sequence = 2",
        "DELETE FROM segment_changes WHERE customer_id = 1001 AND sequence = 3",
        "UPDATE segment_changes SET sequence = 7 WHERE customer_id = 1001 AND sequence = 3",
    ],
)
async def test_holes_in_published_history_stay_and_are_named(told: Service, damage: str) -> None:
    published = [change.body for change in await out_stream(told)]
    await told.execute(damage)
    before = await told.rows("SELECT * FROM segment_changes ORDER BY id")
    report = await _run(told)
    assert [finding.number for finding in report.left] == [5]
    after = await told.rows("SELECT * FROM segment_changes ORDER BY id")
    assert after == before
    assert [change.body for change in await out_stream(told)] == published


async def test_a_customer_without_a_change_is_announced(empty_service: Service) -> None:
    await empty_service.ingest(entry("A", email="a@x.org"))
    await empty_service.execute("DELETE FROM segment_changes")
    await empty_service.execute("UPDATE customers SET segment_sequence = 0")
    assert (await _run(empty_service)).left == []
    changes = await empty_service.rows("SELECT sequence, segment, cause FROM segment_changes")
    assert changes == [{"sequence": 1, "segment": "new", "cause": "rebuild"}]


async def test_a_relay_that_runs_meanwhile_publishes_only_what_is_in_order(
    empty_service: Service, now: datetime
) -> None:
    await four_customers(empty_service, now)
    await empty_service.execute("UPDATE segment_changes SET sequence = sequence + 4")
    relay = asyncio.create_task(
        Relay(empty_service.engine, empty_service.redis, empty_service.config).run()
    )
    try:
        await _run(empty_service)
        await all_published(empty_service)
    finally:
        await end([relay])
    faults = {finding.number for finding in await empty_service.findings()}
    assert faults <= {5}, "what the relay published first stays as it was"


async def test_the_command_says_what_it_could_not_mend(populated: Service, tmp_path: Path) -> None:
    crm = Crm(populated.servers, tmp_path)
    await populated.execute("DELETE FROM segment_counters WHERE slot = 1")
    await populated.execute("UPDATE dead_letters SET digest = 'x'")
    shown = await crm("rebuild")
    assert shown.status == 1
    assert "Nothing was written." in shown.out
    applied = await crm("rebuild", "--apply")
    assert applied.status == 1
    assert "Rows of counters were missing: 5" in applied.out
    assert "A dead letter does not have the bytes that were refused:" in applied.out
    assert "restore it from a backup" in applied.out
    verified = await crm("verify")
    assert verified.status == 1
    assert "10  what was stored stays as it was: BROKEN" in verified.out
    assert " 9  people are found by what they have: holds" in verified.out
