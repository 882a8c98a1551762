"""Days of the store's time zone, and figures of past days that are computed from the orders."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from service.core.reconstruction import ReconstructionCause
from service.db.operations.past_days import compute_past_days
from service.db.segments import rule_settings
from service.db.statistics.daily import figures_at, read_totals
from service.db.statistics.generations import follow_time_zone, request_reconstruction
from service.db.statistics.trend import Trend, trend
from tests.conftest import Service
from tests.events import cloud_event
from tests.integration.db.ingest.test_model import entries
from tests.model import Document, Rules, world
from tests.past_days import DAY, past_days

TICK = timedelta(microseconds=1)
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",  # clocks change at midnight
    "America/Havana",  # midnight comes twice
    "Australia/Lord_Howe",  # by half an hour
    "Asia/Kathmandu",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
]


async def save(service: Service, **changes: Any) -> None:
    await service.in_transaction(rule_settings.save, "test", changes, None)


async def settle(service: Service) -> None:
    """Do what the chores of a worker do, until nothing is left to do."""
    while await service.in_transaction(follow_time_zone) or await service.in_transaction(
        compute_past_days
    ):
        pass


async def ask(service: Service) -> None:
    await service.in_transaction(request_reconstruction, ReconstructionCause.ASKED)
    await settle(service)


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


async def compare(
    service: Service, documents: Sequence[Document], zone: ZoneInfo, now: datetime, rules: Rules
) -> None:
    """Compare all past days with the model."""
    model = world(documents, now, rules)
    today = now.astimezone(zone).date()
    first = min(order.created for order in model.orders.values()).astimezone(zone).date()
    async with service.engine.connect() as connection:
        stored = await read_totals(connection, first)
        for right in past_days(model, first, today - DAY, zone, rules):
            figures = await figures_at(connection, right.day) or {}
            found = {segment.value: tuple(sums) for segment, sums in figures.items() if any(sums)}
            assert found == right.figures, right.day
            total = stored.get(right.day)
            assert ((total and tuple(total)) or (0, 0, Decimal(0))) == right[2:], right.day
    points, generation = await read(service, (today - first).days + 3, now)
    assert generation.time_zone == zone.key
    assert generation.reconstructed_until == today - DAY
    assert [point.reconstructed for point in points[-2:]] == [True, False]
    for point in points:
        assert sum(point.segments.values()) == point.total_customers


@pytest.mark.parametrize("precedence", ["recency_first", "value_first"])
@pytest.mark.parametrize("name", ZONES)
async def test_past_days_equal_a_walk_from_day_to_day(
    service: Service, now: datetime, rng: Random, name: str, precedence: str
) -> None:
    zone = ZoneInfo(name)
    documents = random_orders(rng, now, zone)
    half = len(documents) // 2
    await service.ingest(*entries(documents[:half]))
    vip_orders, vip_spent = rng.randrange(1, 6), Decimal(rng.choice([0, 200, 500]))
    await save(
        service,
        time_zone=name,
        precedence=precedence,
        vip_order_count=vip_orders,
        vip_total_spent=vip_spent,
    )
    await ask(service)
    # What comes after that is added to the days of its own date, and known from today on.
    await service.ingest(*entries(documents[half:]))
    await ask(service)
    rules = Rules(vip_orders, vip_spent, recency_first=precedence == "recency_first")
    await compare(service, documents, zone, now, rules)
