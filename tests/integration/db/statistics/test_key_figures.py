"""The key figures equal a recount in plain Python."""

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from statistics import median
from typing import Any

import httpx
import pytest

from service.db.statistics.counters import read_medians
from service.http.api.statistics import SegmentItems, Statistics
from service.http.problems import Problem
from tests.conftest import Service
from tests.events import cloud_event, entry
from tests.integration.db.ingest.test_model import entries
from tests.model import Customer, Document, Order, World, world

URL = "/api/v1/statistics"
SEGMENTS = ["new", "returning", "vip", "at_risk", "inactive"]
LABELS = ["New", "Returning", "VIP", "At Risk", "Inactive"]
PERIODS = {"day": 1, "week": 7, "month": 30, "year": 365}
MONEY = ["averageLTV", "medianLTV", "totalRevenue", "totalSpent"]
ZERO = {
    "totalCustomers": 0,
    "activeCustomers": 0,
    "newCustomers": 0,
    "returningCustomers": 0,
    "vipCustomers": 0,
    "atRiskCustomers": 0,
    "inactiveCustomers": 0,
    "averageLTV": 0,
    "medianLTV": 0,
    "totalRevenue": 0,
    "retentionRate": 0,
    "repeatPurchaseRate": 0,
    "otherCurrencies": [],
    "unattributedOrders": 0,
}


def exact(response: httpx.Response) -> dict[str, Any]:
    """Return the body with its decimals as written, after checking it against its model."""
    assert response.status_code == 200, response.text
    model = Statistics if response.url.path == URL else SegmentItems
    model.model_validate_json(response.content, strict=True)
    body: dict[str, Any] = json.loads(response.text, parse_float=Decimal)
    return body


def cents(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.01"), ROUND_HALF_UP)


def percent(part: int, whole: int) -> Decimal:
    return cents(Decimal(100 * part) / whole) if whole else Decimal(0)


def middle(customers: Sequence[Customer]) -> Decimal:
    return cents(median(each.spent for each in customers)) if customers else Decimal(0)


def mean(customers: Sequence[Customer]) -> Decimal:
    spent = sum((each.spent for each in customers), Decimal(0))
    return cents(spent / len(customers)) if customers else Decimal(0)


@dataclass(frozen=True)
class Recount:
    """The contract's definitions of the figures, computed from the model in plain Python."""

    world: World
    start: datetime | None = None
    end: datetime | None = None

    def contains(self, moment: datetime) -> bool:
        return self.start is None or self.end is None or self.start <= moment < self.end

    @property
    def customers(self) -> list[Customer]:
        return [each for each in self.world.customers.values() if self.contains(each.created)]

    def in_segment(self, segment: str) -> list[Customer]:
        return [each for each in self.customers if each.segment == segment]

    def buyers(self, start: datetime, end: datetime) -> set[str]:
        orders: Sequence[Order] = [*self.world.orders.values()]
        return {o.owner for o in orders if o.owner and o.counts() and start <= o.created < end}

    def figures(self) -> dict[str, Any]:
        count = {segment: len(self.in_segment(segment)) for segment in SEGMENTS}
        everybody = self.customers
        kept = count["returning"] + count["vip"]
        answer = {
            "totalCustomers": len(everybody),
            "activeCustomers": count["new"] + kept,
            "newCustomers": count["new"],
            "returningCustomers": count["returning"],
            "vipCustomers": count["vip"],
            "atRiskCustomers": count["at_risk"],
            "inactiveCustomers": count["inactive"],
            "averageLTV": mean(everybody),
            "medianLTV": middle(everybody),
            "totalRevenue": sum((each.spent for each in everybody), Decimal(0)),
            "retentionRate": percent(kept, len(everybody) - count["new"]),
            "repeatPurchaseRate": percent(
                sum(each.orders >= 2 for each in everybody),
                sum(each.orders >= 1 for each in everybody),
            ),
            "otherCurrencies": [],  # the generated orders are all in the store's
            "unattributedOrders": sum(
                order.owner is None and self.contains(order.created)
                for order in self.world.orders.values()
            ),
        }
        if self.start and self.end:
            buyers = self.buyers(self.start, self.end)
            buyers_before = self.buyers(self.before, self.start)
            answer["customersWhoOrdered"] = len(buyers)
            answer["periodRetention"] = percent(len(buyers & buyers_before), len(buyers_before))
        return answer

    @property
    def before(self) -> datetime:
        assert self.start
        assert self.end
        return self.start - (self.end - self.start)

    def items(self) -> list[dict[str, Any]]:
        return [
            {
                "segment": segment,
                "label": label,
                "count": len(self.in_segment(segment)),
                "percentage": percent(len(self.in_segment(segment)), len(self.customers)),
                "averageLTV": mean(self.in_segment(segment)),
                "medianLTV": middle(self.in_segment(segment)),
                "totalSpent": sum((each.spent for each in self.in_segment(segment)), Decimal(0)),
            }
            for segment, label in zip(SEGMENTS, LABELS, strict=True)
        ]


def history(rng: random.Random, now: datetime) -> list[Document]:
    """Return orders of about 150 customers over two years, half an hour away from any edge."""
    return [
        cloud_event(
            f"ORD-{number}",
            email=rng.choice([None, *(f"c{int(rng.triangular(0, 150, 0))}@x.org" for _ in "1234")]),
            created=now - timedelta(hours=int(rng.expovariate(1 / 2000)), minutes=30),
            status=rng.choice(["completed"] * 5 + ["cancelled"]),
            total=str(rng.randrange(20_000) / 100),
        )
        for number in range(400)
    ]


async def test_figures_of_all_time_and_of_each_period_equal_a_recount(
    service: Service, web: httpx.AsyncClient, now: datetime, rng: random.Random
) -> None:
    documents = history(rng, now)
    await service.ingest(*entries(documents))
    model = world(documents, now)
    spans = {"": Recount(model), "?period=all": Recount(model)}
    spans |= {
        f"?period={period}": Recount(model, now - timedelta(days=days), now)
        for period, days in PERIODS.items()
    }
    for query, recount in spans.items():
        figures = exact(await web.get(URL + query))
        as_of = datetime.fromisoformat(figures.pop("asOf"))
        assert abs(as_of - now) < timedelta(minutes=1)
        assert figures == recount.figures(), query
        for path in ("/segments", "/ltv"):
            body = exact(await web.get(URL + path + query))
            assert body == {"items": recount.items(), "total": 5, "nextCursor": None}


async def test_figures_of_any_window_equal_a_recount(
    service: Service, web: httpx.AsyncClient, now: datetime, rng: random.Random
) -> None:
    documents = history(rng, now)
    await service.ingest(*entries(documents))
    model = world(documents, now)
    for _ in range(10):
        start = now - timedelta(seconds=rng.randrange(9 * 10**6))
        end = start + timedelta(seconds=rng.randrange(1, 9 * 10**6))
        span = {"dateFrom": start.isoformat(), "dateTo": end.isoformat().replace("+00:00", "Z")}
        figures = exact(await web.get(URL, params=span))
        del figures["asOf"]
        assert figures == Recount(model, start, end).figures(), span
        body = exact(await web.get(f"{URL}/segments", params=span))
        assert body["items"] == Recount(model, start, end).items(), span


async def test_the_start_of_a_window_is_in_it_and_its_end_is_not(
    service: Service, web: httpx.AsyncClient
) -> None:
    start, end = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
    tick = timedelta(microseconds=1)
    for number, created in enumerate((start - tick, start, end - tick, end)):
        await service.ingest(entry(f"ORD-{number}", email=f"{number}@x.org", created=created))
    span = {"dateFrom": start.isoformat(), "dateTo": end.isoformat()}
    figures = exact(await web.get(URL, params=span))
    assert figures["totalCustomers"] == 2
    assert figures["customersWhoOrdered"] == 2
    as_days = exact(await web.get(URL, params={"dateFrom": "2026-03-01", "dateTo": "2026-03-31"}))
    assert figures | {"asOf": None} == as_days | {"asOf": None}
    from_then_on = exact(await web.get(URL, params={"dateFrom": "2026-03-01"}))
    assert from_then_on["totalCustomers"] == 3
    until_then = exact(await web.get(URL, params={"dateTo": "2026-03-31"}))
    assert until_then["totalCustomers"] == 3
    abroad = {"dateFrom": "2026-03-01T05:00:00+05:00", "dateTo": "2026-03-31T19:00:00-05:00"}
    assert exact(await web.get(URL, params=abroad))["totalCustomers"] == 2


async def test_period_retention_compares_with_the_window_before(
    service: Service, web: httpx.AsyncClient
) -> None:
    def day(number: int) -> datetime:
        return datetime(2026, 3, number, 12, tzinfo=UTC)

    placed = [("a", 2), ("a", 9), ("b", 3), ("b", 4), ("c", 10), ("d", 5), ("d", 20)]
    for number, (who, when) in enumerate(placed):
        await service.ingest(entry(f"ORD-{number}", email=f"{who}@x.org", created=day(when)))
    await service.ingest(
        entry("ORD-X", email="b@x.org", created=day(9), status="cancelled"),
        entry("ORD-Y", created=day(9)),
    )
    span = {"dateFrom": "2026-03-08", "dateTo": "2026-03-14"}
    figures = exact(await web.get(URL, params=span))
    assert figures["customersWhoOrdered"] == 2
    assert figures["periodRetention"] == Decimal("33.33")
    assert figures["totalCustomers"] == 1
    assert figures["unattributedOrders"] == 1


async def test_an_empty_database_gives_zeros(web: httpx.AsyncClient) -> None:
    figures = exact(await web.get(URL))
    assert figures.pop("asOf")
    assert figures == ZERO
    in_period = exact(await web.get(f"{URL}?period=week"))
    assert in_period.pop("asOf")
    assert in_period == ZERO | {"customersWhoOrdered": 0, "periodRetention": 0}
    for path in ("/segments", "/ltv", "/segments?period=day"):
        body = exact(await web.get(URL + path))
        assert [item["segment"] for item in body["items"]] == SEGMENTS
        assert [item["label"] for item in body["items"]] == LABELS
        for item in body["items"]:
            assert not any(item[name] for name in item.keys() - {"segment", "label"})


async def test_money_is_a_json_number_with_two_decimals(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(
        entry("ORD-1", email="a@x.org", total="999999999999.99"),
        entry("ORD-2", email="b@x.org", total="0.1"),
        entry("ORD-3", email="c@x.org", total="7"),
    )
    text = "".join([(await web.get(URL + path)).text for path in ("", "/segments", "/ltv")])
    for name in MONEY:
        values = re.findall(rf'"{name}":([^,}}]*)', text)
        assert values
        assert all(re.fullmatch(r"\d+\.\d\d", value) for value in values), (name, values)
    assert '"totalRevenue":1000000000007.09' in text
    assert '"medianLTV":7.00' in text


@pytest.mark.parametrize(
    ("low", "high", "between"),
    [("1.10", "1.13", "1.12"), ("0.01", "0.02", "0.02"), ("8.41", "16.72", "12.57")],
)
async def test_a_median_between_two_cents_is_rounded_half_up(
    service: Service, web: httpx.AsyncClient, low: str, high: str, between: str
) -> None:
    await service.ingest(
        entry("ORD-1", email="a@x.org", total=low), entry("ORD-2", email="b@x.org", total=high)
    )
    assert exact(await web.get(URL))["medianLTV"] == Decimal(between)


async def test_medians_of_many_pairs_are_exact(service: Service, now: datetime) -> None:
    """Binary floating point would round some of these medians the wrong way."""
    rng = random.Random(3)
    async with service.engine.connect() as connection:
        for _ in range(60):
            amounts = [Decimal(rng.randrange(100_000)) / 100 for _ in range(2)]
            await service.empty()
            await service.ingest(
                *(
                    entry(f"ORD-{n}", email=f"{n}@x.org", total=str(amount), created=now)
                    for n, amount in enumerate(amounts)
                )
            )
            medians = await read_medians(connection)
            assert medians[None] == cents(median(amounts))
            await connection.rollback()


async def test_as_of_is_in_utc_and_ends_in_z(web: httpx.AsyncClient) -> None:
    as_of = json.loads((await web.get(URL)).text)["asOf"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z", as_of)


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("period=decade", "query.period"),
        ("period=", "query.period"),
        ("period=week&dateFrom=2026-01-01", "query.period"),
        ("period=all&dateTo=2026-01-01", "query.period"),
        ("dateFrom=2026-02-01&dateTo=2026-01-01", "query.dateTo"),
        ("dateFrom=2026-02-01T00:00:00Z&dateTo=2026-02-01T00:00:00Z", "query.dateTo"),
        ("dateFrom=2026-02-01T00:00:00", "query.dateFrom"),
        ("dateFrom=yesterday", "query.dateFrom"),
        ("dateTo=2026-02-30", "query.dateTo"),
        ("dateTo=", "query.dateTo"),
        ("dateFrom=5", "query.dateFrom"),
        ("dateTo=9999-12-31", "query.dateTo"),
        ("dateTo=9999-12-31T23:59:59-10:00", "query.dateTo"),
        ("dateFrom=0001-01-01", "query.dateFrom"),
        ("dateFrom=0001-01-01T00:00:00%2B10:00", "query.dateFrom"),
    ],
)
@pytest.mark.parametrize("path", ["", "/segments", "/ltv"])
async def test_an_invalid_query_is_a_problem_that_says_where(
    web: httpx.AsyncClient, path: str, query: str, where: str
) -> None:
    response = await web.get(f"{URL}{path}?{query}")
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate_json(response.content, strict=True)
    assert (problem.status, problem.title) == (422, "Invalid request")
    assert {fault.where for fault in problem.errors} == {where}
    assert all(fault.message for fault in problem.errors)
    assert where in problem.detail


async def test_an_unknown_path_is_a_problem_too(web: httpx.AsyncClient) -> None:
    for response in (await web.get(f"{URL}/nothing"), await web.post(URL)):
        assert response.headers["content-type"] == "application/problem+json"
        assert Problem.model_validate_json(response.content).status == response.status_code
        assert response.status_code in {404, 405}


async def test_segments_of_a_later_release_are_left_out(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    """Its migration comes first: until this release is replaced, it goes on answering."""
    await service.ingest(entry("ORD-1", email="a@x.org", created=now))
    await service.execute("INSERT INTO segment_counters (slot, segment) VALUES (0, 'later')")
    await service.execute(
        "INSERT INTO daily_changes (day, slot, segment) VALUES (CURRENT_DATE, 0, 'later')"
    )
    try:
        for path in ("", "?period=month", "/segments", "/trend"):
            answer = await web.get(f"/api/v1/statistics{path}")
            assert answer.status_code == 200, answer.text
            assert "later" not in answer.text
        assert (await web.get("/api/v1/statistics")).json()["totalCustomers"] == 1
    finally:
        await service.execute("DELETE FROM segment_counters WHERE segment = 'later'")
        await service.execute("DELETE FROM daily_changes WHERE segment = 'later'")
