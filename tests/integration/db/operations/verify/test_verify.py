"""Anything that breaks an invariant is found, with the number of the invariant and the rows."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.batch import Outcome
from service.core.order_event import OrderEvent
from service.db.ingest.apply import apply_events
from service.db.operations.verify import sample
from service.db.operations.verify.findings import Finding
from service.streams import groups
from tests.conftest import Service
from tests.events import fields
from tests.reading import deliver


async def _broken(service: Service, number: int) -> list[dict[str, Any]]:
    """Return the offenders of one invariant. Others may be broken, too."""
    findings: dict[int, Finding] = {finding.number: finding for finding in await service.findings()}
    assert number in findings, f"{number} is not found broken, but {sorted(findings)}"
    return findings[number].offenders


async def test_all_invariants_hold_in_a_sound_service(sound: Service) -> None:
    assert await sound.findings() == []


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE customers SET total_spent = total_spent + 0.01 WHERE id = 1001",
        "UPDATE customers SET total_orders = total_orders + 1 WHERE id = 1001",
        (
            "UPDATE customers SET first_order_date = first_order_date - interval '1 us'"
            " WHERE id = 1001"
        ),
        "UPDATE customers SET last_order_date = last_order_date + interval '1 us' WHERE id = 1001",
        "UPDATE orders SET status = 'cancelled' WHERE id = 'ORD-2'",
        "UPDATE orders SET refunded = 1 WHERE id = 'ORD-2'",
        "DELETE FROM orders WHERE id = 'ORD-2'",
        "UPDATE orders SET customer_id = NULL WHERE id = 'ORD-2'",
    ],
)
async def test_invariant_1_reports_metrics_that_differ_from_the_orders(
    sound: Service, damage: str
) -> None:
    await sound.execute(damage)
    assert {offender["customer"] for offender in await _broken(sound, 1)} <= {1001, None}


async def test_invariant_1_reports_an_order_of_a_missing_customer(sound: Service) -> None:
    await sound.execute("UPDATE orders SET customer_id = 9999 WHERE id = 'ORD-4'")
    offenders = await _broken(sound, 1)
    assert {offender["customer"] for offender in offenders} == {1002, 9999}


@pytest.mark.parametrize("column", ["read", "applied", "stale", "duplicate", "dead_lettered"])
async def test_invariant_2_reports_counters_that_do_not_add_up(sound: Service, column: str) -> None:
    await sound.execute(f"UPDATE ingest_counters SET {column} = {column} + 1 WHERE slot = 3")
    (offender,) = await _broken(sound, 2)
    assert offender["counted"] != offender["withOutcome"]


async def test_invariant_2_reports_an_entry_acknowledged_but_not_counted(sound: Service) -> None:
    stream, group = sound.config.orders_stream, sound.config.orders_group
    await groups.ensure_group(sound.redis, stream, group)
    for number in range(8):
        await sound.publish(fields(f"ORD-V{number}"))
    entries = await deliver(sound.redis, stream, group, "me", count=8)
    assert await sound.findings() == []
    await sound.redis.xack(stream, group, *(entry.id for entry in entries))
    (offender,) = await _broken(sound, 2)
    assert offender == {
        "stream": stream,
        "entriesReadByGroup": 8,
        "pending": 0,
        "counted": 7,
    }


async def test_invariant_3_reports_an_old_event_that_changes_a_row(
    sound: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def takes_an_equal_event_for_a_newer_one(
        connection: AsyncConnection, events: Sequence[OrderEvent]
    ) -> Counter[Outcome]:
        newer = [
            event.but(key=event.key._replace(version=event.key.version + 1))
            if event.order_id == "ORD-2"
            else event
            for event in events
        ]
        return await apply_events(connection, newer)

    monkeypatch.setattr(sample, "apply_events", takes_an_equal_event_for_a_newer_one)
    assert await _broken(sound, 3) == [
        {"order": "ORD-2", "customer": None},
        {"order": None, "customer": 1001},
        {"applied": 1},
    ]
    monkeypatch.undo()
    assert await sound.findings() == [], "verify writes to copies"


@pytest.mark.parametrize(
    ("damage", "customer"),
    [
        ("UPDATE customers SET segment = 'vip' WHERE id = 1002", 1002),
        ("UPDATE customers SET segment = 'at_risk' WHERE id = 1001", 1001),
        ("UPDATE customers SET last_order_date = now() - interval '61 days' WHERE id = 1002", 1002),
        ("UPDATE customers SET last_order_date = now() WHERE id = 1004", 1004),
        (
            (
                "UPDATE customers SET segment = 'vip', segment_manual = true,"
                " segment_held_since = now() - interval '1 day' WHERE id = 1002"
            ),
            1002,
        ),
        (
            (
                "UPDATE customers SET segment = 'vip', segment_manual = true,"
                " segment_held_since = now(),"
                " segment_pinned_until = now() - interval '2 minutes' WHERE id = 1002"
            ),
            1002,
        ),
    ],
)
async def test_invariant_4_reports_segments_that_differ_from_the_rules(
    sound: Service, damage: str, customer: int
) -> None:
    await sound.execute(damage)
    offender, *_ = await _broken(sound, 4)
    assert offender["customer"] == customer


async def test_invariant_4_accepts_a_pinned_segment(sound: Service) -> None:
    await sound.execute(
        "UPDATE customers SET segment = 'vip', segment_manual = true, segment_pinned = true,"
        " segment_held_since = now() WHERE id = 1002"
    )
    assert 4 not in {finding.number for finding in await sound.findings()}


async def test_invariant_4_reports_an_overdue_sweep(sound: Service) -> None:
    await sound.execute("UPDATE sweep SET swept_until = now() - interval '1 hour'")
    assert await sound.findings() == [], "a sweep that had nothing to do is not overdue"
    await sound.execute(
        "UPDATE customers SET segment_manual = true, segment = 'vip',"
        " segment_held_since = now() - interval '1 hour',"
        " segment_pinned_until = now() - interval '90 seconds' WHERE id = 1002"
    )
    assert 29 < (await _broken(sound, 4))[-1]["sweepOverdueSeconds"] < 90


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM segment_changes WHERE customer_id = 1001 AND sequence = 1",
        "DELETE FROM segment_changes WHERE customer_id = 1001 AND sequence = 2",
        "DELETE FROM segment_changes WHERE customer_id = 1001 AND sequence = 3",
        "DELETE FROM segment_changes WHERE customer_id = 1001",
        (
            "UPDATE segment_changes SET previous = 'inactive' WHERE customer_id = 1001"
            " AND sequence = 2"
        ),
        "UPDATE segment_changes SET previous = 'new' WHERE customer_id = 1001 AND sequence = 1",
        "UPDATE segment_changes SET sequence = 7 WHERE customer_id = 1001 AND sequence = 3",
        "UPDATE segment_changes SET segment = 'at_risk' WHERE customer_id = 1001 AND sequence = 3",
        "UPDATE customers SET segment_sequence = 2 WHERE id = 1001",
        "UPDATE customers SET segment = 'at_risk' WHERE id = 1001",
    ],
)
async def test_invariant_5_reports_a_broken_chain_of_segment_changes(
    sound: Service, damage: str
) -> None:
    await sound.execute(damage)
    offenders = await _broken(sound, 5)
    assert {offender["customer"] for offender in offenders} == {1001}


class OutStream:
    """Reads and rewrites the out-stream."""

    def __init__(self, service: Service) -> None:
        self._raw: Any = service.redis
        self._name = service.config.changes_stream

    async def read(self) -> list[tuple[str, bytes]]:
        entries = await self._raw.xrange(self._name)
        return [(id_.decode(), fields[b"__data__"]) for id_, fields in entries]

    async def write(self, entries: list[tuple[str, bytes]]) -> None:
        await self._raw.delete(self._name)
        for id_, body in entries:
            await self._raw.xadd(self._name, {b"__data__": body}, id=id_)


async def test_invariant_6_reports_a_missing_entry(sound: Service) -> None:
    await sound.redis.xdel(sound.config.changes_stream, "2-0")
    (finding,) = await sound.findings()
    assert finding.number == 6
    assert finding.offenders == [
        {"entry": "2-0", "customer": "CUST-1001", "sequence": 2, "fault": "not in the stream"}
    ]


async def test_invariant_6_reports_an_altered_segment(sound: Service) -> None:
    stream = OutStream(sound)
    entries = await stream.read()
    id_, body = entries[-1]
    altered = body.replace(b'"segment":"inactive"', b'"segment":"vip"')
    assert altered != body
    await stream.write([*entries[:-1], (id_, altered)])
    (offender,) = await _broken(sound, 6)
    assert offender["customer"] == "CUST-1004"
    assert offender["segment"] == ["vip", "inactive"]


@pytest.mark.parametrize(
    ("damage", "field"),
    [
        ("total_orders = 7", "totalOrders"),
        ("total_spent = total_spent + 0.01", "totalSpent"),
        ("last_order_date = last_order_date + interval '1 ms'", "lastOrderDate"),
        ("changed_at = changed_at - interval '1 ms'", "changedAt"),
    ],
)
async def test_invariant_6_reports_history_that_subscribers_were_told_otherwise(
    sound: Service, damage: str, field: str
) -> None:
    await sound.execute(f"UPDATE segment_changes SET {damage} WHERE publish_number = 3")
    offender, *more = await _broken(sound, 6)
    assert not more
    assert field in offender
    assert offender["entry"] == "3-0"


async def test_invariant_6_reports_numbers_that_were_swapped(sound: Service) -> None:
    await sound.execute("DROP INDEX uq_segment_changes_publish_number")
    try:
        await sound.execute(
            "UPDATE segment_changes SET publish_number = 11 - publish_number"
            " WHERE publish_number IN (5, 6)"
        )
        assert {offender["entry"] for offender in await _broken(sound, 6)} == {"5-0", "6-0"}
    finally:
        await sound.execute(
            "CREATE UNIQUE INDEX uq_segment_changes_publish_number"
            " ON segment_changes (publish_number) WHERE publish_number IS NOT NULL"
        )


async def test_invariant_6_accepts_an_entry_of_a_release_that_wrote_fewer_fields(
    sound: Service,
) -> None:
    stream = OutStream(sound)
    (id_, body), *rest = await stream.read()
    document = json.loads(body)
    del document["datacontenttype"], document["data"]["settingsVersion"]
    await stream.write([(id_, json.dumps(document).encode()), *rest])
    assert await sound.findings() == []


async def test_invariant_6_reports_an_entry_that_is_there_twice(sound: Service) -> None:
    stream = OutStream(sound)
    entries = await stream.read()
    await stream.write([*entries[:2], ("2-1", entries[1][1]), *entries[2:]])
    (offender,) = await _broken(sound, 6)
    assert offender == {
        "entry": "2-1",
        "fault": "not in the database",
        "customer": "CUST-1001",
        "sequence": 2,
    }


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"data": {}}', b"\xff"])
async def test_invariant_6_reports_an_entry_that_is_no_segment_change(
    sound: Service, body: bytes
) -> None:
    stream = OutStream(sound)
    await stream.write([("0-1", body), *(await stream.read())])
    (finding,) = await sound.findings()
    assert finding.number == 6
    assert finding.offenders == [{"entry": "0-1", "fault": "not a segment change"}]
    assert "somebody else writes" in finding.faults[0].remedy.lower()


async def test_invariant_6_reports_a_stream_that_is_shorter_or_gone(sound: Service) -> None:
    stream = OutStream(sound)
    entries = await stream.read()
    await stream.write(entries[:4])
    assert {"streamEndsAt": 4, "published": 6} in await _broken(sound, 6)
    await sound.redis.delete(sound.config.changes_stream)
    assert await _broken(sound, 6) == [{"streamEndsAt": 0, "published": 6}]


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ("INSERT INTO removals VALUES (DEFAULT, 1002, 'erased', NULL, now())", "exists"),
        ("INSERT INTO removals VALUES (DEFAULT, 900, 'merged', 901, now())", "never was"),
        ("DELETE FROM customers WHERE id = 1002", "nothing says why"),
        (
            "INSERT INTO audit (actor, action, customer_id) VALUES ('x', 'customer.erased', 900)",
            "not announced",
        ),
        ("UPDATE removals_relay SET numbered = 3", "numbers"),
    ],
)
async def test_invariant_6_reports_who_is_gone_and_was_not_announced(
    sound: Service, damage: str, fault: str
) -> None:
    await sound.execute(damage)
    (finding,) = [finding for finding in await sound.findings() if finding.number == 6]
    (found,) = finding.faults
    assert fault in found.what


@pytest.mark.parametrize("column", ["customers", "total_spent", "with_orders", "repeat_customers"])
async def test_invariants_7_and_8_report_counters_that_differ_from_a_recount(
    sound: Service, column: str
) -> None:
    await sound.execute(
        f"UPDATE segment_counters SET {column} = {column} + 1 WHERE slot = 2 AND segment = 'vip'"
    )
    assert {finding.number for finding in await sound.findings()} == {7, 8}
    recounted, changed_on_no_day = await _broken(sound, 7)
    assert recounted["segment"] == changed_on_no_day["segment"] == "vip"
    assert {offender["side"] for offender in await _broken(sound, 8)} == {"rebuilt", "kept"}


async def test_invariant_7_reports_a_customer_deleted_by_plain_sql(sound: Service) -> None:
    await sound.execute("DELETE FROM customers WHERE id = 1002")
    offender, *days = await _broken(sound, 7)
    assert offender["segment"] == "new"
    assert {offender["side"] for offender in days} == {"kept", "recounted"}


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE orders SET total = total + 1 WHERE id = 'ORD-3'",
        "DELETE FROM orders WHERE id = 'ORD-3'",
        "UPDATE orders SET status = 'cancelled' WHERE id = 'ORD-4'",
    ],
)
async def test_invariant_8_reports_orders_changed_by_plain_sql(sound: Service, damage: str) -> None:
    await sound.execute(damage)
    assert {offender["side"] for offender in await _broken(sound, 8)} == {"rebuilt", "kept"}


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE daily_changes SET repeat_customers = repeat_customers + 1",
        "UPDATE daily_totals SET created = created + 1",
        "UPDATE daily_totals SET orders = orders + 1",
        "UPDATE daily_totals SET revenue = revenue + 0.01",
        "UPDATE daily_totals SET day = day + 100000",
        "DELETE FROM daily_totals",
    ],
)
async def test_invariant_7_reports_daily_figures_that_differ_from_a_recount(
    sound: Service, damage: str
) -> None:
    await sound.execute(damage)
    assert {finding.number for finding in await sound.findings()} == {7}


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM segment_counters WHERE slot = 5 AND segment = 'new'",
        "DELETE FROM ingest_counters WHERE slot = 5",
        "DELETE FROM segment_counters",
    ],
)
async def test_invariant_7_reports_missing_rows_of_counters(sound: Service, damage: str) -> None:
    (table, *_) = damage.removeprefix("DELETE FROM ").split()
    rows = await sound.rows(f"SELECT * FROM {table}")
    await sound.execute(damage)
    try:
        assert {offender.get("counters") for offender in await _broken(sound, 7)} >= {table}
    finally:
        columns = ", ".join(rows[0])
        values = ", ".join(f":{name}" for name in rows[0])
        for row in rows:
            await sound.execute(
                f"INSERT INTO {table} ({columns}) VALUES ({values}) ON CONFLICT DO NOTHING", **row
            )


async def test_invariant_4_reports_a_watermark_in_the_future(sound: Service) -> None:
    await sound.execute("UPDATE sweep SET swept_until = now() + interval '1 day'")
    (finding,) = await sound.findings()
    assert finding.number == 4
    assert "future" in finding.faults[0].what


async def test_each_fault_names_its_remedy(sound: Service) -> None:
    await sound.execute("UPDATE customers SET total_spent = total_spent + 1 WHERE id = 1001")
    await sound.execute("DELETE FROM dead_letters")
    remedies = {
        fault.what: fault.remedy for finding in await sound.findings() for fault in finding.faults
    }
    assert "crm rebuild --apply" in remedies["a customer's figures are not those of their orders"]
    (lost,) = (remedy for what, remedy in remedies.items() if "dead letters are gone" in what)
    assert "backup" in lost
