"""Segments set by hand and segments of the rules, with their history and counters."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import text

from service.core.segment_event import Cause
from service.db.segments import assign
from service.db.segments.assign import reclassify
from service.db.statistics.counters import read_figures
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.segments.sweeping import sweep_all, swept_until

_JANE = "jane@x.org"
_PLACED = timedelta(days=2)
_HELD = timedelta(hours=1)
TICK = timedelta(microseconds=1)

_LOCK = text("SELECT id FROM customers WHERE email_key = :email FOR UPDATE")


async def hold(
    service: Service,
    segment: str,
    now: datetime,
    *,
    pinned: bool = False,
    until: datetime | None = None,
) -> None:
    async with service.engine.begin() as connection:
        customer = (await connection.execute(_LOCK, {"email": _JANE})).scalar_one()
        await assign.hold(connection, customer, assign.Hold(segment, pinned, until), now)


async def order(service: Service, order_id: str, created: datetime, **fields: Any) -> None:
    await service.ingest(entry(order_id, email=_JANE, created=created, **fields))


async def jane(service: Service) -> dict[str, Any]:
    (row,) = await service.rows(
        "SELECT id, segment, segment_manual AS manual, segment_pinned AS pinned,"
        " segment_pinned_until AS until, segment_held_since AS since FROM customers"
    )
    return row


async def history(service: Service) -> list[tuple[str | None, str, str]]:
    rows = await service.rows("SELECT previous, segment, cause FROM segment_changes ORDER BY id")
    return [(row["previous"], row["segment"], row["cause"]) for row in rows]


FREE = {"manual": False, "pinned": False, "until": None, "since": None}


async def test_a_hold_ends_with_the_next_order(service: Service, now: datetime) -> None:
    await order(service, "ORD-1", now - _PLACED)
    await hold(service, "vip", now - _HELD)
    held = await jane(service)
    assert (held["segment"], held["manual"], held["since"]) == ("vip", True, now - _HELD)
    await order(service, "ORD-2", now)
    assert await jane(service) == {"id": 1001, "segment": "returning", **FREE}
    assert await history(service) == [
        (None, "new", "order"),
        ("new", "vip", "manual"),
        ("vip", "returning", "order"),
    ]


async def test_a_hold_does_not_end_with_orders_placed_before_it(
    service: Service, now: datetime
) -> None:
    await order(service, "ORD-1", now - _PLACED)
    await hold(service, "inactive", now - _HELD)
    held = await jane(service)
    first = entry("ORD-1", email=_JANE, event_id="same", created=now - _PLACED)
    await service.ingest(first, first)
    await order(service, "ORD-1", now - _PLACED, version=2, status="shipped", updated=now)
    await order(service, "ORD-1", now - _PLACED, version=3, status="cancelled", updated=now)
    await order(service, "ORD-2", now - _PLACED - _PLACED, updated=now, total="900")
    await order(
        service, "ORD-3", now - _HELD, name="Jane"
    )  # at the moment of the hold, not after it
    assert await jane(service) == held
    await order(service, "ORD-4", now - _HELD + TICK)
    assert (await jane(service))["segment"] == "vip"


async def test_a_hold_ends_with_the_next_order_even_if_it_does_not_count(
    service: Service, now: datetime
) -> None:
    await order(service, "ORD-1", now - _PLACED)
    await hold(service, "vip", now - _HELD)
    await order(service, "ORD-2", now, status="cancelled")
    assert await jane(service) == {"id": 1001, "segment": "new", **FREE}


async def test_a_hold_does_not_end_with_time(service: Service, now: datetime) -> None:
    await order(service, "ORD-1", now - timedelta(days=100))
    await hold(service, "returning", now - _HELD)
    await swept_until(service, now - timedelta(days=200))
    assert await sweep_all(service) == []
    assert (await jane(service))["segment"] == "returning"


async def test_a_pin_outlasts_orders_and_time(service: Service, now: datetime) -> None:
    await order(service, "ORD-1", now - timedelta(days=100))
    await hold(service, "vip", now - _HELD, pinned=True)
    pinned = await jane(service)
    await order(service, "ORD-2", now)
    await swept_until(service, now - timedelta(days=200))
    assert await sweep_all(service) == []
    assert await jane(service) == pinned
    assert pinned["pinned"] is True
    assert (await history(service))[-1] == ("inactive", "vip", "manual")


async def test_a_pin_until_a_moment_ends_at_that_moment(service: Service, now: datetime) -> None:
    until = now - timedelta(seconds=10)
    await order(service, "ORD-1", now - _PLACED)
    await hold(service, "inactive", now - _HELD, until=until)
    await service.ingest(
        entry("ORD-2", email=_JANE, created=now - timedelta(minutes=1)), now=until - TICK
    )
    assert (await jane(service))["segment"] == "inactive"
    await swept_until(service, now - _HELD)
    assert await sweep_all(service, until - TICK) == []
    assert (await jane(service))["until"] == until
    assert await sweep_all(service, until) == [1]
    assert await jane(service) == {"id": 1001, "segment": "returning", **FREE}
    assert (await history(service))[-1] == ("inactive", "returning", "time")


async def test_a_pin_that_has_run_out_ends_with_the_next_event_if_no_sweep_came_before(
    service: Service, now: datetime
) -> None:
    await order(service, "ORD-1", now - _PLACED)
    await hold(service, "inactive", now - _HELD, until=now - timedelta(minutes=10))
    await order(service, "ORD-1", now - _PLACED, version=2, updated=now)
    assert await jane(service) == {"id": 1001, "segment": "new", **FREE}


async def test_a_pin_that_ends_in_the_segment_of_the_rules_adds_no_history(
    service: Service, now: datetime
) -> None:
    await order(service, "ORD-1", now - _PLACED)
    await hold(service, "new", now - _HELD, until=now - timedelta(minutes=10))
    assert await history(service) == [(None, "new", "order")]
    assert await sweep_all(service) == [0]
    assert await jane(service) == {"id": 1001, "segment": "new", **FREE}
    assert await history(service) == [(None, "new", "order")]


async def test_the_rules_decide_after_a_hold_is_removed(service: Service, now: datetime) -> None:
    await order(service, "ORD-1", now - _PLACED)
    await hold(service, "vip", now - _HELD, pinned=True)
    async with service.engine.begin() as connection:
        await connection.execute(
            text(
                "UPDATE customers SET segment_manual = false, segment_pinned = false,"
                " segment_pinned_until = NULL, segment_held_since = NULL"
            )
        )
        assert await reclassify(connection, [1001], Cause.MANUAL) == 1
    assert await jane(service) == {"id": 1001, "segment": "new", **FREE}
    assert (await history(service))[-1] == ("vip", "new", "manual")


async def test_reclassifying_respects_holds_and_adds_no_history_without_a_change(
    service: Service, now: datetime
) -> None:
    await order(service, "ORD-1", now - _PLACED)
    await hold(service, "vip", now - _HELD)
    before = await history(service)
    async with service.engine.begin() as connection:
        assert await reclassify(connection, [1001], Cause.RULES) == 0
        assert await reclassify(connection, [1001, 4711], Cause.RULES) == 0
        assert await reclassify(connection, [], Cause.RULES) == 0
    assert await history(service) == before
    assert (await jane(service))["segment"] == "vip"


async def set_automatic(service: Service, *, on: bool) -> None:
    await service.execute(
        "INSERT INTO settings SELECT version + 1, now(), 'a test', vip_order_count,"
        " vip_total_spent, at_risk_days, inactive_days, :on, precedence"
        " FROM settings ORDER BY version DESC LIMIT 1",
        on=on,
    )


async def test_metrics_change_and_segments_do_not_without_automatic_segmentation(
    service: Service, now: datetime
) -> None:
    await set_automatic(service, on=False)
    for number in range(4):
        await order(service, f"ORD-{number}", now - timedelta(days=100 + number), total="200")
    await swept_until(service, now - timedelta(days=200))
    assert await sweep_all(service) == []
    (row,) = await service.rows("SELECT segment, total_orders, total_spent FROM customers")
    assert row == {"segment": "new", "total_orders": 4, "total_spent": Decimal(800)}
    assert await history(service) == [(None, "new", "order")]
    await set_automatic(service, on=True)
    async with service.engine.begin() as connection:
        assert await reclassify(connection, [1001], Cause.RULES) == 1
    assert await history(service) == [(None, "new", "order"), ("new", "inactive", "rules")]
    (change,) = await service.rows("SELECT settings_version FROM segment_changes WHERE id = 2")
    assert change == {"settings_version": 3}


async def test_history_has_the_facts_that_decided(service: Service, now: datetime) -> None:
    for number, total in enumerate(("10.00", "20.00", "470.00")):
        await order(service, f"ORD-{number}", now - timedelta(days=3 - number), total=total)
    rows = await service.rows(
        "SELECT sequence, segment, total_orders, total_spent, last_order_date, settings_version"
        " FROM segment_changes ORDER BY id"
    )
    assert [tuple(row.values()) for row in rows] == [
        (1, "new", 1, Decimal("10.00"), now - timedelta(days=3), 1),
        (2, "returning", 2, Decimal("30.00"), now - timedelta(days=2), 1),
        (3, "vip", 3, Decimal("500.00"), now - timedelta(days=1), 1),
    ]


async def test_counters_follow_holds(service: Service, now: datetime) -> None:
    await order(service, "ORD-1", now - _PLACED, total="12.34")
    await hold(service, "vip", now - _HELD)
    async with service.engine.connect() as connection:
        figures = await read_figures(connection)
    nonzero = {segment.value: tuple(figure) for segment, figure in figures.items() if any(figure)}
    assert nonzero == {"vip": (1, Decimal("12.34"), 1, 0)}
