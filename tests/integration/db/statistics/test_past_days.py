"""Days of the store's time zone, and figures of past days that are computed from the orders."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from sqlalchemy.exc import DBAPIError

from consumers.orders import judge_all
from service.core.reconstruction import ReconstructionCause
from service.db.customers import editing
from service.db.customers.editing import HoldEdit
from service.db.figures import Figures
from service.db.ingest.ingest import ingest
from service.db.operations import past_days as days_of_the_past
from service.db.operations.late_orders import late_orders_step
from service.db.operations.past_days import compute_past_days
from service.db.segments import rule_settings
from service.db.statistics.counters import read_figures
from service.db.statistics.daily import Total, read_changes, read_totals, undo_changes
from service.db.statistics.generations import follow_time_zone, request_reconstruction
from service.db.statistics.trend import Trend, trend
from tests.conftest import Service
from tests.events import cloud_event, entry
from tests.integration.db.ingest.test_model import entries
from tests.model import Document, Rules, world
from tests.past_days import DAY, past_days
from tests.store_zone import count_days
from tests.wait import until

_BRITISH = {"Accept-Language": "en-GB"}
TICK = timedelta(microseconds=1)
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",  # clocks change at midnight
    "Atlantic/Azores",  # midnight comes twice
    "Australia/Lord_Howe",  # by half an hour
    "Asia/Kathmandu",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
]


async def save(service: Service, **changes: Any) -> None:
    await service.in_transaction(rule_settings.save, "test", changes, None)


async def ask(service: Service) -> None:
    await service.in_transaction(request_reconstruction, ReconstructionCause.ASKED)
    await count_days(service)


async def read(service: Service, days: int, now: datetime | None = None) -> Trend:
    async with service.engine.connect() as connection:
        return await trend(connection, days, now)


def _offset_changes(zone: ZoneInfo, now: datetime, days: int) -> list[datetime]:
    """Return midnights of the zone, and hours at which its clocks are put back or forward."""
    hours = [now - timedelta(hours=n) for n in range(24 * days)]
    changes = [
        hour
        for hour in hours
        if hour.astimezone(zone).utcoffset()
        != (hour - timedelta(hours=1)).astimezone(zone).utcoffset()
    ]
    midnights = [
        datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
        for day in (hour.astimezone(zone) for hour in hours[::24])
    ]
    return [each.replace(minute=0, second=0, microsecond=0) for each in changes] + midnights


def random_orders(rng: Random, now: datetime, zone: ZoneInfo, days: int = 500) -> list[Document]:
    """Return orders that are close to midnights, to changes of the clock and to limits of rules."""
    corners = _offset_changes(zone, now, days)
    placed = list[datetime]()
    while len(placed) < 250:
        near = rng.choice(corners)
        if placed and rng.random() < 0.2:  # to the microsecond when another makes at risk, inactive
            near = rng.choice(placed) + rng.choice([0, 60, 90]) * timedelta(hours=24)
        moment = near + rng.choice([timedelta(), -TICK, TICK, timedelta(hours=rng.uniform(-9, 9))])
        if moment < now:
            placed.append(moment)
    return [
        cloud_event(
            f"ORD-{number}",
            email=rng.choice([None, *(f"c{int(rng.triangular(0, 40, 0))}@x.org" for _ in "1234")]),
            created=moment,
            status=rng.choice(["completed"] * 5 + ["cancelled"]),
            total=str(rng.randrange(30_000) / 100),
        )
        for number, moment in enumerate(placed)
    ]


def nonzero(figures: Figures) -> dict[str, tuple[Any, ...]]:
    return {segment.value: tuple(sums) for segment, sums in figures.items() if any(sums)}


async def figures_of_days(service: Service, first: date, last: date) -> dict[date, Any]:
    """Return the figures at the end of each day, as `figures_at` returns them for one."""
    async with service.engine.connect() as pooled:
        connection = await pooled.execution_options(isolation_level="REPEATABLE READ")
        changes = await read_changes(connection, first)
        figures = await read_figures(connection)
    newest = max([last, *changes])
    found = {}
    for day in (newest - n * DAY for n in range((newest - first).days + 1)):
        found[day] = nonzero(figures)
        figures = undo_changes(figures, changes.get(day, {}))
    return found


async def compare(
    service: Service, documents: Sequence[Document], zone: ZoneInfo, now: datetime, rules: Rules
) -> None:
    """Compare all past days with the model."""
    model = world(documents, now, rules)
    today = now.astimezone(zone).date()
    first = min(order.created for order in model.orders.values()).astimezone(zone).date() - DAY
    async with service.engine.connect() as connection:
        stored = await read_totals(connection, first)
    found = await figures_of_days(service, first, today)
    for right in past_days(model, first, today - DAY, zone, rules):
        assert found[right.day] == right.figures, right.day
        assert stored.get(right.day, Total()) == right[2:], right.day
    points, generation = await read(service, (today - first).days + 3, now)
    assert generation.time_zone == zone.key
    assert generation.reconstructed_until == today - DAY
    assert not generation.reconstructing
    assert [point.reconstructed for point in points[-2:]] == [True, False]
    for point in points:
        assert sum(point.segments.values()) == point.total_customers


@pytest.mark.parametrize("name", ZONES)
async def test_past_days_equal_a_walk_from_day_to_day(
    service: Service, now: datetime, rng: Random, name: str
) -> None:
    zone = ZoneInfo(name)
    documents = random_orders(rng, now, zone)
    half = len(documents) // 2
    await service.ingest(*entries(documents[:half]))
    rules = Rules(
        vip_orders=rng.randrange(1, 6),
        vip_spent=Decimal(rng.choice([0, 200, 500])),
        recency_first=rng.random() < 0.5,
    )
    await save(
        service,
        time_zone=name,
        precedence="recency_first" if rules.recency_first else "value_first",
        vip_order_count=rules.vip_orders,
        vip_total_spent=rules.vip_spent,
    )
    await ask(service)
    # What comes after that is added to the days of its own date, and known from today on.
    await service.ingest(*entries(documents[half:]))
    await ask(service)
    await compare(service, documents, zone, now, rules)


async def test_an_order_that_is_older_than_its_customer_counts_from_their_first_day_on(
    service: Service, now: datetime
) -> None:
    noon = now.replace(hour=12, minute=0, second=0) - 10 * DAY
    for back in (5, 3, 0):
        await service.ingest(entry(f"A-{back}", email="a@x.org", created=noon - back * DAY))
    await service.execute("UPDATE customers SET date_created = :day", day=noon - 2 * DAY)
    await service.execute("UPDATE daily_totals SET created = 0")
    await service.execute(
        "INSERT INTO daily_totals VALUES (:day, 9, 1, 0, 0)", day=(noon - 2 * DAY).date()
    )
    await ask(service)
    found = await figures_of_days(service, noon.date() - 6 * DAY, noon.date())
    assert [list(found[noon.date() - n * DAY]) for n in (6, 5, 4, 3, 2, 1, 0)] == [
        *([] for _ in range(4)),
        ["returning"],
        ["returning"],
        ["vip"],
    ]
    await service.empty()


async def test_writers_go_on_while_days_of_another_zone_are_counted(
    service: Service, now: datetime, rng: Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers, two changes of the zone, requests and chores of two workers, all at once."""
    monkeypatch.setattr(days_of_the_past, "CHUNK", 3)
    monkeypatch.setattr(days_of_the_past, "_RESTS", 0.5)
    zone = ZoneInfo("Pacific/Kiritimati")
    documents = random_orders(rng, now, zone, days=40)
    batches = [documents[n::60] for n in range(60)]
    changed = asyncio.Event()

    async def write() -> None:
        while batches:
            batch = batches.pop()
            await service.ingest(*entries(batch))
            if len(batches) < 40:
                changed.set()

    async def change() -> None:
        await changed.wait()
        await save(service, time_zone="Pacific/Pago_Pago")
        while len(batches) > 20:
            await asyncio.sleep(0)
            await service.in_transaction(request_reconstruction, ReconstructionCause.IMPORT)
        await save(service, time_zone=zone.key)

    async def work() -> None:
        while batches:
            await service.in_transaction(follow_time_zone)
            await service.in_transaction(compute_past_days)

    await service.ingest(*entries(batches.pop()))
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(write())
        group.create_task(change())
        for _ in range(2):
            group.create_task(work())
    assert await service.findings() == []  # whatever is complete by now is right
    await ask(service)
    await compare(service, documents, zone, now, Rules())
    (left,) = await service.rows(
        """SELECT count(*) AS generations, count(DISTINCT c.slot / 16) AS written
           FROM daily_generations FULL JOIN daily_changes c ON c.slot / 16 = generation"""
    )
    generations = await service.rows("SELECT generation FROM daily_generations")
    assert len(generations) == left["written"] == 1


async def test_a_new_generation_begins_when_no_writer_knows_only_the_old_ones(
    service: Service, now: datetime
) -> None:
    await save(service, time_zone="Asia/Tokyo")
    judged = judge_all([entry("A-1", email="a@x.org", created=now - DAY)], service.config)

    async def somebody_waits() -> bool:
        return bool(await service.rows("SELECT 1 FROM pg_locks WHERE NOT granted"))

    async with service.engine.begin() as writer:
        await ingest(writer, judged)
        beginning = asyncio.create_task(service.in_transaction(follow_time_zone))
        await until(somebody_waits)
        assert not beginning.done()
    assert await beginning
    await count_days(service)
    points, generation = await read(service, 2)
    assert generation.time_zone == "Asia/Tokyo"
    assert [point.orders for point in points if point.orders] == [1]


async def test_a_killed_computation_has_done_nothing(
    service: Service, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.ingest(entry("A-1", email="a@x.org", created=now - 70 * DAY))
    tables = "daily_changes", "daily_totals", "daily_generations", "reconstructions"
    await save(service, time_zone="Asia/Tokyo")
    await service.in_transaction(follow_time_zone)
    await service.in_transaction(request_reconstruction, ReconstructionCause.ASKED)
    before = [await service.rows(f"TABLE {table}") for table in tables]

    class KilledError(Exception):
        pass

    async def die(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("service.db.operations.past_days.asyncio.sleep", die)
        with pytest.raises(KilledError):
            await service.in_transaction(compute_past_days)
    assert [await service.rows(f"TABLE {table}") for table in tables] == before
    await count_days(service)
    points, generation = await read(service, 72, now)
    assert generation.time_zone == "Asia/Tokyo"
    assert [point.segments["new"] for point in points[:2]] == [0, 1]  # type: ignore[index]


async def test_an_upgrade_leaves_days_as_they_were_known(service: Service, now: datetime) -> None:
    """Only the days before the first known one are computed."""
    noon = now.replace(hour=12, minute=0, second=0) - 5 * DAY
    for number in range(3):
        await service.ingest(
            entry(f"A-{number}", email="a@x.org", created=noon - 200 * DAY), now=noon
        )
    await service.ingest(entry("B-1", email="b@x.org", created=noon - 3 * DAY), now=noon)
    # It became known two days late, and stays so.
    await service.ingest(entry("C-1", email="c@x.org", created=noon), now=noon + 2 * DAY)
    first = noon.date() - 201 * DAY
    known = await figures_of_days(service, first, now.date())
    assert not known[noon.date() - DAY]
    await service.in_transaction(request_reconstruction, ReconstructionCause.UPGRADE)
    await count_days(service)
    found = await figures_of_days(service, first, now.date())
    assert {day: found[day] for day in found if day >= noon.date()} == {
        day: known[day] for day in known if day >= noon.date()
    }
    earlier = [list(found[noon.date() - n * DAY]) for n in (201, 200, 141, 140, 111, 110, 4, 3, 1)]
    assert earlier == [
        [],
        ["vip"],
        ["vip"],
        ["at_risk"],
        ["at_risk"],
        ["inactive"],
        ["inactive"],
        ["new", "inactive"],
        ["new", "inactive"],
    ]
    points, generation = await read(service, 10, now)
    assert generation.reconstructed_until == noon.date() - DAY
    assert [point.reconstructed for point in points] == [True] * 4 + [False] * 6


async def test_holds_are_not_known_for_past_days(service: Service, now: datetime) -> None:
    await service.ingest(entry("A-1", email="a@x.org", created=now - 5 * DAY))
    (row,) = await service.rows("SELECT id FROM customers")
    await service.in_transaction(
        editing.edit, "test", row["id"], {}, HoldEdit(frozenset({"segment"}), segment="vip"), None
    )
    await ask(service)
    points, _ = await read(service, 3, now)
    assert [[s for s, n in point.segments.items() if n] for point in points] == [
        ["new"],
        ["new"],
        ["vip"],
    ]


async def test_late_orders_are_noticed_when_they_have_stopped_coming(
    service: Service, now: datetime
) -> None:
    look = late_orders_step()

    async def asked() -> list[str]:
        rows = await service.rows("SELECT cause FROM reconstructions")
        return [row["cause"] for row in rows]

    today = now.replace(hour=0, minute=0, second=1)
    await service.ingest(*(entry(f"A-{n}", email=f"a{n}@x.org", created=today) for n in range(200)))
    assert not await service.in_transaction(look)
    assert not await service.in_transaction(look)
    assert await asked() == []  # all were placed today
    await service.ingest(entry("B-0", email="b@x.org", created=now - DAY))
    assert not await service.in_transaction(look)
    assert not await service.in_transaction(look)
    assert await asked() == []  # one of 201 is the daily round
    for n in range(4):
        await service.ingest(
            *(entry(f"C-{n}-{m}", email=f"c{n}{m}@x.org", created=now - 90 * DAY) for m in range(9))
        )
        assert not await service.in_transaction(look)
    assert await service.in_transaction(look)
    assert await asked() == ["late_orders"]
    assert not await service.in_transaction(look)
    await count_days(service)
    points, _ = await read(service, 91, now)
    assert [point.total_customers for point in points[:2]] == [36, 36]
    assert sum(points[0].segments.values()) == 36
    # More may come, but they are computed once an hour.
    await service.ingest(
        *(entry(f"D-{m}", email=f"d{m}@x.org", created=now - 90 * DAY) for m in range(9))
    )
    assert not await service.in_transaction(look)
    assert not await service.in_transaction(look)
    await service.execute("UPDATE daily_generations SET counted_at = counted_at - interval '2 h'")
    assert not await service.in_transaction(look)
    assert await service.in_transaction(look)


async def test_orders_of_known_customers_are_late_by_their_money(
    service: Service, now: datetime
) -> None:
    look = late_orders_step()
    await service.ingest(entry("A-1", email="a@x.org", created=now, total="10"))
    assert not await service.in_transaction(look)
    await service.ingest(entry("A-2", email="a@x.org", created=now - 90 * DAY, total="1"))
    assert not await service.in_transaction(look)
    assert await service.in_transaction(look)


async def test_a_zone_that_postgres_does_not_know_stops_nobody(
    service: Service, now: datetime
) -> None:
    await service.execute(
        "INSERT INTO settings SELECT 2, now() - interval '2 hours', changed_by, vip_order_count,"
        " vip_total_spent, at_risk_days, inactive_days, auto_segmentation, precedence, count_from,"
        " count_free_orders, 'Mars/Olympus_Mons' FROM settings"
    )
    with pytest.raises(DBAPIError):
        await service.in_transaction(follow_time_zone)
    await service.ingest(entry("A-1", email="a@x.org", created=now))
    (finding,) = await service.findings()
    assert finding.number == 7
    assert finding.offenders == [{"storeZone": "Mars/Olympus_Mons", "countedZone": "UTC"}]
    await service.empty()


async def test_api_and_page_say_which_days_are_computed(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    await service.ingest(entry("A-1", email="a@x.org", created=now - 40 * DAY, total="20"))
    yesterday = (now - DAY).date()

    async def page() -> str:
        return " ".join((await web.get("/retention", headers=_BRITISH)).text.split())

    assert "computed from the orders by today" not in await page()
    await service.in_transaction(request_reconstruction, ReconstructionCause.ASKED)
    assert "A worker is computing the figures of past days." in await page()
    await count_days(service)
    shown = await page()
    assert "A worker is computing" not in shown
    assert f"Up to {yesterday:%-d %b %Y} these figures are computed from the orders" in shown
    assert "A refund reduces the day of its order" in shown
    items = (await web.get("/api/v1/statistics/trend", params={"days": 3})).json()["items"]
    assert [item["reconstructed"] for item in items] == [True, True, False]
    assert [item["segments"]["new"] for item in items] == [1, 1, 1]
