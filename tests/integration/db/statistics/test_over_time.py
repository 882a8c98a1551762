"""Cohorts and the daily trend equal a recount in plain Python."""

import json
import random
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from sqlalchemy import text

from service.db.customers import editing
from service.db.locks import read_clock
from service.db.statistics.answer_cache import renew
from service.db.statistics.cohorts import CACHE_NAME, cohorts, compute
from service.db.statistics.trend import trend
from service.http.api.statistics import CohortItems, TrendDays
from tests.conftest import Service
from tests.events import cloud_event, entry
from tests.integration.db.ingest.test_model import entries
from tests.model import Document, world
from tests.store_zone import move_to

URL = "/api/v1/statistics"
SEGMENTS = ["new", "returning", "vip", "at_risk", "inactive"]


def random_orders(rng: random.Random, now: datetime) -> list[Document]:
    return [
        cloud_event(
            f"ORD-{number}",
            email=rng.choice([None, *(f"c{int(rng.triangular(0, 80, 0))}@x.org" for _ in "1234")]),
            created=now - timedelta(hours=int(rng.expovariate(1 / 3000)), minutes=30),
            status=rng.choice(["completed"] * 5 + ["cancelled"]),
            total=str(rng.randrange(20_000) / 100),
        )
        for number in range(400)
    ]


async def exact(response: httpx.Response, model: Any) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    model.model_validate_json(response.content, strict=True)
    answer: dict[str, Any] = json.loads(response.text, parse_float=Decimal)
    return answer


def month_number(moment: datetime) -> int:
    return moment.year * 12 + moment.month - 1


def name(month: int) -> str:
    return f"{month // 12}-{month % 12 + 1:02}"


def percent(part: int, whole: int) -> Decimal:
    exactly = Decimal(100 * part) / whole if whole else Decimal(0)
    return exactly.quantize(Decimal("0.01"), ROUND_HALF_UP)


@pytest.mark.parametrize("months", [1, 12, 30])
async def test_cohorts_equal_a_recount(
    service: Service, web: httpx.AsyncClient, now: datetime, rng: random.Random, months: int
) -> None:
    documents = random_orders(rng, now)
    await service.ingest(*entries(documents))
    ordered: dict[str, Counter[int]] = defaultdict(Counter)
    for order in world(documents, now).orders.values():
        if order.owner and order.counts():
            ordered[order.owner][month_number(order.created)] += 1
    this_month = month_number(now)
    expected = []
    for cohort in range(this_month - months + 1, this_month + 1):
        members = [months_of for months_of in ordered.values() if min(months_of) == cohort]
        active = Counter(month for months_of in members for month in months_of if month > cohort)
        active[cohort] = sum(months_of[cohort] >= 2 for months_of in members)
        retention = [
            {
                "monthsLater": month - cohort,
                "month": name(month),
                "customers": active[month],
                "percentage": percent(active[month], len(members)),
                "complete": month < this_month,
            }
            for month in range(cohort, this_month + 1)
        ]
        expected.append({"month": name(cohort), "size": len(members), "retention": retention})
    response = await web.get(f"{URL}/cohorts", params={"months": months})
    answer = await exact(response, CohortItems)
    assert now <= datetime.fromisoformat(answer.pop("asOf"))
    assert answer == {"items": expected, "total": months, "nextCursor": None}


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Havana"])
async def test_cohorts_use_the_stores_months_that_begin_at_midnight(
    service: Service, zone: str
) -> None:
    await move_to(service, zone)
    tick, june = timedelta(microseconds=1), datetime(2026, 6, 1, tzinfo=ZoneInfo(zone))
    placed = [("a", june - tick), ("a", june), ("b", june), ("c", june - timedelta(days=31))]
    for number, (who, when) in enumerate(placed):
        await service.ingest(entry(f"ORD-{number}", email=f"{who}@x.org", created=when))
    await service.ingest(
        entry("ORD-X", email="d@x.org", created=june - tick, status="cancelled"),
        entry("ORD-Y", email="c@x.org", created=june, payment_status="failed"),
    )
    async with service.engine.connect() as connection:
        items = (await cohorts(connection, 2, june + timedelta(days=1))).items
    assert [(cohort.month, cohort.size) for cohort in items] == [("2026-05", 2), ("2026-06", 1)]
    assert [month.customers for month in items[0].retention] == [0, 1]
    assert [month.complete for month in items[0].retention] == [True, False]
    assert items[0].retention[1].percentage == Decimal("50.00")
    assert [month[:3] for month in items[1].retention] == [(0, "2026-06", 0)]


async def test_month_0_shows_who_came_back_in_the_month_of_the_first_order(
    service: Service,
) -> None:
    placed = [("a", 1), ("a", 28), ("b", 2), ("b", 40), ("c", 3), ("c", 3), ("c", 40), ("d", 4)]
    for number, (who, day) in enumerate(placed):
        created = datetime(2026, 6, 1, tzinfo=UTC) + timedelta(days=day)
        await service.ingest(entry(f"ORD-{number}", email=f"{who}@x.org", created=created))
    await service.ingest(
        entry(
            "ORD-X", email="d@x.org", created=datetime(2026, 6, 9, tzinfo=UTC), status="cancelled"
        )
    )
    async with service.engine.connect() as connection:
        [june, _] = (await cohorts(connection, 2, datetime(2026, 7, 31, tzinfo=UTC))).items
    assert june.size == 4
    assert [(month.months_later, month.customers) for month in june.retention] == [(0, 2), (1, 2)]
    assert june.retention[0].percentage == Decimal("50.00")


async def test_cached_cohorts_of_another_zone_are_not_shown(service: Service) -> None:
    """An order in Berlin's November. UTC has it in October."""
    placed = datetime(2026, 10, 31, 23, 30, tzinfo=UTC)
    await service.ingest(entry("ORD-1", email="a@x.org", created=placed))
    async with service.owner.begin() as connection:
        cells = await compute(connection, await read_clock(connection))
        values = ":name, clock_timestamp(), 1, CAST(:answer AS jsonb)"
        await connection.execute(
            text(f"INSERT INTO kept_answers (name, as_of, seconds, answer) VALUES ({values})"),
            {"name": CACHE_NAME, "answer": json.dumps(cells)},
        )

    async def months() -> dict[str, int]:
        async with service.engine.connect() as connection:
            items = (await cohorts(connection, 12)).items
        return {cohort.month: cohort.size for cohort in items if cohort.size}

    assert await months() == {"2026-10": 1}
    await move_to(service, "Europe/Berlin")
    assert await months() == {"2026-11": 1}
    # The cached answer is due at once, although it is young.
    assert await service.in_transaction(renew, {CACHE_NAME: compute}, {})
    [kept] = await service.rows("SELECT answer ->> 'zone' AS zone FROM kept_answers")
    assert kept == {"zone": "Europe/Berlin"}


async def test_the_trend_equals_a_recount(
    service: Service, web: httpx.AsyncClient, now: datetime, rng: random.Random
) -> None:
    documents = random_orders(rng, now)
    await service.ingest(*entries(documents))
    model = world(documents, now)
    counted: Counter[date] = Counter()
    revenue: defaultdict[date, Decimal] = defaultdict(Decimal)
    for order in model.orders.values():
        if order.counts():
            counted[order.created.date()] += 1
            revenue[order.created.date()] += order.total - order.refunded
    created = [customer.created.date() for customer in model.customers.values()]
    for days in (1, 90, 200):
        response = await web.get(f"{URL}/trend", params={"days": days})
        answer = await exact(response, TrendDays)
        assert answer["total"] == len(answer["items"]) == days
        assert answer["items"][-1]["date"] == now.date().isoformat()
        for back, item in enumerate(reversed(answer["items"])):
            day = now.date() - timedelta(days=back)
            names = ("date", "orders", "revenue", "newCustomers", "totalCustomers")
            assert [item[name] for name in names] == [
                day.isoformat(),
                counted[day],
                revenue[day],
                sum(each == day for each in created),
                sum(each <= day for each in created),
            ]
    segments = Counter(customer.segment for customer in model.customers.values())
    assert answer["items"][-1]["segments"] == {each: segments[each] for each in SEGMENTS}


async def test_the_trend_has_the_segments_at_the_end_of_each_day(
    service: Service, now: datetime, rng: random.Random
) -> None:
    """Orders are ingested day by day. Later the trend must return how each day ended."""
    midnight = datetime(now.year, now.month, now.day, tzinfo=UTC)
    at_end: list[dict[str, int]] = []
    for back in range(9, -1, -1):
        evening = midnight - timedelta(days=back) + timedelta(hours=23, minutes=59)
        for number in range(3):
            placed = evening - timedelta(days=rng.choice([0, 0, 61, 91]), hours=number)
            order = f"ORD-{back}-{number}"
            customer = f"c{rng.randrange(12)}@x.org"
            await service.ingest(
                entry(order, email=customer, created=placed, total="200"), now=evening
            )
        rows = await service.rows("SELECT segment, count(*) AS n FROM customers GROUP BY segment")
        at_end.append({row["segment"]: row["n"] for row in rows})
    # An erased customer counts on no day, although their segment changes stay.
    await service.ingest(entry("ORD-E", email="erased@x.org", created=midnight), now=midnight)
    async with service.engine.begin() as connection:
        (row,) = await service.rows("SELECT max(id) AS id FROM customers")
        await editing.delete(connection, "test", row["id"])
    async with service.engine.connect() as connection:
        points, _ = await trend(
            connection, 12, midnight + timedelta(hours=23, minutes=59, seconds=30)
        )
    expected = [{each: day.get(each, 0) for each in SEGMENTS} for day in [{}, {}, *at_end]]
    assert [point.segments for point in points] == expected
    # The customers were judged at moments of the past, so the invariants do not hold now.
    await service.empty()


async def test_an_empty_service_has_days_and_cohorts_without_customers(
    web: httpx.AsyncClient,
) -> None:
    answer = await exact(await web.get(f"{URL}/trend"), TrendDays)
    assert len(answer["items"]) == 90
    assert not any(sum(item["segments"].values()) for item in answer["items"])
    empty = await exact(await web.get(f"{URL}/cohorts"), CohortItems)
    assert len(empty["items"]) == 12
    assert not any(item["size"] for item in empty["items"])


@pytest.mark.parametrize("query", ["trend?days=0", "trend?days=9999", "cohorts?months=0"])
async def test_the_number_of_days_and_months_is_bounded(web: httpx.AsyncClient, query: str) -> None:
    assert (await web.get(f"{URL}/{query}")).status_code == 422
