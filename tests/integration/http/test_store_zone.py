"""Whatever the store's time zone is, all that counts by days and months agrees, for every reader.

The model computes local dates with `zoneinfo`, order by order. Orders lie around midnights and
around changes of the clocks. List, `total`, cards, segments, statistics, export, cohorts and trend
have to say the same as the model, to readers of any language, and whatever cookie they bring.
"""

import csv
import html
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from service.core.envelope import Entry
from tests.conftest import Service
from tests.events import cloud_event, entry
from tests.integration.db.ingest.test_model import entries
from tests.integration.http.conftest import client
from tests.integration.transfer.files import customers_csv, load
from tests.model import Customer, Document, world
from tests.store_zone import move_to

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",  # half an hour
    "Australia/Lord_Howe",  # changes by half an hour
    "Pacific/Apia",  # 13 hours ahead
    "Asia/Kathmandu",  # a quarter of an hour
    "Africa/Casablanca",  # changes for Ramadan
    "Africa/Cairo",  # changes at midnight
    "Atlantic/Azores",  # midnight comes twice
]
READERS = [
    {"accept-language": "en-US"},
    {"accept-language": "de-DE", "cookie": "crm_zone=Pacific/Kiritimati"},
]
SEGMENTS = ("new", "returning", "vip", "at_risk", "inactive")
DAY = timedelta(days=1)


def midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


def changes_of_clocks(zone: ZoneInfo, now: datetime) -> list[date]:
    """Return the days of the last two years that had not 24 hours."""
    days = [now.date() - n * DAY for n in range(2, 700)]
    return [day for day in days if midnight(day + DAY, zone) - midnight(day, zone) != DAY]


def orders_around_midnights(rng: Random, zone: ZoneInfo, now: datetime) -> list[Document]:
    changes = changes_of_clocks(zone, now)
    months = [(now.date() - n * 30 * DAY).replace(day=1) for n in range(1, 20)]
    documents = []
    for number in range(70):
        day = rng.choice([*changes, *months, now.date() - rng.randrange(2, 700) * DAY])
        moment = midnight(day + rng.choice([0, 1]) * DAY, zone) + rng.choice(
            [
                timedelta(0),
                -timedelta(microseconds=1),
                timedelta(minutes=rng.choice([-61, -59, -29, -1, 1, 29, 59, 61])),
                timedelta(seconds=rng.randrange(-86_400, 86_400)),
            ]
        )
        customer = int(rng.triangular(0, 45, 0))
        documents.append(
            cloud_event(
                f"ORD-{number}",
                email=f"c{customer}@x.org",
                name=f"Name {customer % 4}",
                created=moment,
                status=rng.choice(["completed"] * 6 + ["cancelled"]),
                total=str(rng.randrange(30_000) / 100),
            )
        )
    return documents


@dataclass(frozen=True)
class Filter:
    """A filter of the list. Days belong to it, the last one too."""

    segment: str | None
    search: str
    days: tuple[date, date] | None

    @property
    def of_api(self) -> dict[str, str]:
        first, last = self.days or (None, None)
        given = {
            "segment": self.segment,
            "search": self.search,
            "dateFrom": first and first.isoformat(),
            "dateTo": last and last.isoformat(),
        }
        return {name: value for name, value in given.items() if value}

    @property
    def of_page(self) -> dict[str, str]:
        first, last = self.days or (None, None)
        given = {
            "segment": self.segment,
            "q": self.search,
            "span": "custom" if self.days else None,
            "from": first and first.isoformat(),
            "to": last and last.isoformat(),
        }
        return {name: value for name, value in given.items() if value}

    def holds(self, email: str, customer: Customer, zone: ZoneInfo) -> bool:
        name = (customer.name or "").lower()
        searched = self.search.strip('"')
        return (
            self.segment in {None, customer.segment}
            and (searched in email or searched in name)
            and (not self.days or self.days[0] <= local_day(customer, zone) <= self.days[1])
        )


def local_day(customer: Customer, zone: ZoneInfo) -> date:
    return customer.created.astimezone(zone).date()


def filters(rng: Random, zone: ZoneInfo, now: datetime) -> Iterator[Filter]:
    days = changes_of_clocks(zone, now) or [now.date() - 100 * DAY]
    yield Filter(None, "", None)
    yield Filter("vip", "", None)
    yield Filter(None, '"name 1"', None)
    for _ in range(9):
        first = rng.choice([*days, now.date() - rng.randrange(2, 700) * DAY])
        last = first + rng.choice([0, 0, 1, 30, 365]) * DAY
        segment = rng.choice([None, None, *SEGMENTS])
        yield Filter(segment, rng.choice(["", "", "c1", '"name 3"']), (first, last))


def digits(written: str) -> str:
    return re.sub(r"\D", "", written)


@dataclass(frozen=True)
class Shown:
    """What the page of customers shows, as digits: languages write them with other signs."""

    cards: list[str]
    total: int
    segments: dict[str, int]

    @classmethod
    def read(cls, answer: httpx.Response) -> "Shown":
        assert answer.status_code == 200, answer.text
        page = html.unescape(answer.text)
        total = re.search(r"Showing \S+ to \S+ of ([^<]+)<", page)
        legend = re.findall(r'<li class="(\w+)"><span class="key">.*?<b>([^<]*)</b>', page)
        return cls(
            [digits(card) for card in re.findall(r'<dd class="figure">(.*?)</dd>', page)],
            int(digits(total[1])) if total else 0,
            {name: int(digits(count)) for name, count in legend},
        )


def cents(amount: Decimal) -> str:
    return digits(str(amount.quantize(Decimal("0.01"), ROUND_HALF_UP)))


async def pages_of(web: httpx.AsyncClient, chosen: Filter) -> list[Shown]:
    """Return the page of customers as each reader sees it."""
    shown = []
    for reader in READERS:
        headers = {"accept": "text/html", **reader}
        if chosen.search:
            answer = await web.post("/", data=chosen.of_page, headers=headers)
        else:
            answer = await web.get("/", params=chosen.of_page, headers=headers)
        shown.append(Shown.read(answer))
    return shown


async def lines_of(web: httpx.AsyncClient, method: str, path: str, **sent: Any) -> Any:
    answer = await web.request(method, path, **sent)
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))


@pytest.mark.parametrize("name", ZONES)
async def test_list_cards_total_export_and_segments_agree_in_any_zone(
    service: Service, now: datetime, rng: Random, name: str
) -> None:
    zone = ZoneInfo(name)
    documents = orders_around_midnights(rng, zone, now)
    await service.ingest(*entries(documents))
    await move_to(service, name)
    customers = world(documents, now).customers
    async with client(service) as web:
        for chosen in filters(rng, zone, now):
            expected = {
                customer.email: customer
                for customer in customers.values()
                if chosen.holds(customer.email or "", customer, zone)
            }
            listed = (
                await web.get("/api/v1/customers", params={**chosen.of_api, "limit": "500"})
            ).json()
            assert {each["email"] for each in listed["items"]} == set(expected), chosen
            assert listed["total"] == len(expected), chosen

            spent = sum((customer.spent for customer in expected.values()), Decimal(0))
            mean = spent / len(expected) if expected else Decimal(0)
            active = [c for c in expected.values() if c.segment in {"new", "returning", "vip"}]
            of_all_segments = Counter(
                customer.segment
                for customer in customers.values()
                if Filter(None, chosen.search, chosen.days).holds(
                    customer.email or "", customer, zone
                )
            )
            for shown in await pages_of(web, chosen):
                assert shown.total == len(expected), chosen
                assert shown.cards[:3] == [str(len(expected)), cents(mean), str(len(active))]
                assert shown.segments == {each: of_all_segments[each] for each in SEGMENTS}

            for lines in (
                await lines_of(web, "GET", "/api/v1/customers/export.csv", params=chosen.of_api),
                await lines_of(web, "POST", "/export", data=chosen.of_page),
            ):
                days = {line["Email"]: line["Day Created"] for line in lines}
                assert days == {
                    email: local_day(customer, zone).isoformat()
                    for email, customer in expected.items()
                }
            if chosen.days and not chosen.search and not chosen.segment:
                figures = (await web.get("/api/v1/statistics", params=chosen.of_api)).json()
                assert figures["totalCustomers"] == len(expected)
                assert Decimal(str(figures["totalRevenue"])) == spent
                by_segment = await web.get("/api/v1/statistics/segments", params=chosen.of_api)
                counts = {each["segment"]: each["count"] for each in by_segment.json()["items"]}
                assert counts == {each: of_all_segments[each] for each in SEGMENTS}


@pytest.mark.parametrize("name", ZONES)
async def test_cohorts_have_the_months_of_the_store(
    service: Service, now: datetime, rng: Random, name: str
) -> None:
    zone = ZoneInfo(name)
    documents = orders_around_midnights(rng, zone, now)
    await service.ingest(*entries(documents))
    await move_to(service, name)
    months: dict[str, Counter[str]] = defaultdict(Counter)
    for order in world(documents, now).orders.values():
        if order.counts() and order.owner:
            months[order.owner][f"{order.created.astimezone(zone):%Y-%m}"] += 1
    this_month = f"{datetime.now(zone):%Y-%m}"
    async with client(service) as web:
        cohorts = (await web.get("/api/v1/statistics/cohorts", params={"months": 60})).json()
    assert cohorts["items"][-1]["month"] == this_month
    for cohort in cohorts["items"]:
        members = [ordered for ordered in months.values() if min(ordered) == cohort["month"]]
        assert cohort["size"] == len(members)
        own, *later = cohort["retention"]
        assert (own["monthsLater"], own["month"]) == (0, cohort["month"])
        assert own["customers"] == sum(ordered[cohort["month"]] >= 2 for ordered in members)
        for month in later:
            assert month["customers"] == sum(month["month"] in ordered for ordered in members)
        for month in cohort["retention"]:
            assert month["complete"] is (month["month"] < this_month)


@pytest.mark.parametrize("name", ZONES)
async def test_the_trend_has_the_days_of_the_store_and_adds_up_to_the_list(
    service: Service, now: datetime, rng: Random, name: str
) -> None:
    zone = ZoneInfo(name)
    documents = orders_around_midnights(rng, zone, now)
    await service.ingest(*entries(documents))
    await move_to(service, name)
    orders, revenue = Counter[str](), defaultdict[str, Decimal](Decimal)
    model = world(documents, now)
    for order in model.orders.values():
        if order.counts():
            day = order.created.astimezone(zone).date().isoformat()
            orders[day] += 1
            revenue[day] += order.total - order.refunded
    created = Counter(local_day(each, zone).isoformat() for each in model.customers.values())
    async with client(service) as web:
        trend = (await web.get("/api/v1/statistics/trend", params={"days": 731})).json()["items"]
        assert abs(date.fromisoformat(trend[-1]["date"]) - now.astimezone(zone).date()) <= DAY
        for day in trend:
            assert day["newCustomers"] == created[day["date"]], day
            assert day["orders"] == orders[day["date"]], day
            assert Decimal(str(day["revenue"])) == revenue[day["date"]], day
        # The days of the trend that a filter chooses add up to the list.
        for first in (1, *(rng.randrange(1, 700) for _ in range(4))):
            days = trend[first : first + rng.randrange(1, 60)]
            span = {"dateFrom": days[0]["date"], "dateTo": days[-1]["date"]}
            listed = (await web.get("/api/v1/customers", params=span)).json()
            assert listed["total"] == sum(day["newCustomers"] for day in days)
            before = trend[first - 1]["totalCustomers"]
            assert listed["total"] == days[-1]["totalCustomers"] - before


async def test_a_day_in_a_file_of_customers_is_one_of_the_store(
    service: Service, tmp_path: Path
) -> None:
    await move_to(service, "Europe/Berlin")
    path = customers_csv(
        tmp_path / "c.csv",
        {"Email": "a@x.org", "Date Created": "2026-11-01"},
        {"Email": "b@x.org", "Date Created": "2026-11-01T00:30:00"},
        {"Email": "c@x.org", "Date Created": "2026-11-01T00:30:00Z"},
    )
    assert (await load(service, path)).complete
    rows = await service.rows("SELECT date_created FROM customers ORDER BY email")
    assert [row["date_created"] for row in rows] == [
        datetime(2026, 10, 31, 23, 0, tzinfo=UTC),
        datetime(2026, 10, 31, 23, 30, tzinfo=UTC),
        datetime(2026, 11, 1, 0, 30, tzinfo=UTC),
    ]


async def test_texts_of_the_api_name_days_of_the_store(service: Service, now: datetime) -> None:
    zone = ZoneInfo("Pacific/Kiritimati")  # 14 hours ahead
    await service.ingest(entry("ORD-1", email="a@x.org", created=now))
    await move_to(service, zone.key)
    async with client(service) as web:
        why = (await web.get("/api/v1/customers/CUST-1001/segment")).json()
    at_risk = why["upcoming"][0]
    day = datetime.fromisoformat(at_risk["at"]).astimezone(zone).date()
    assert at_risk["text"] == f"At Risk on {day} unless they order"


async def test_dead_letters_are_selected_by_days_of_the_store(service: Service) -> None:
    await service.ingest(Entry("1-0", {b"data": b"{"}))
    await service.execute("UPDATE dead_letters SET first_seen = '2026-10-31T23:30:00Z'")
    async with client(service) as web:
        for zone, total in (("UTC", 1), ("Europe/Berlin", 0)):
            await move_to(service, zone)
            answer = await web.get("/api/v1/dead-letters", params={"before": "2026-11-01"})
            assert answer.json()["total"] == total
            page = await web.get(
                "/operations/dead-letters/discard",
                params={"before": "2026-11-01"},
                headers={"accept": "text/html"},
            )
            assert ("will be deleted for good" in page.text) is bool(total)


async def test_days_of_statistics_are_compared_with_as_many_days(service: Service) -> None:
    """The day before had 25 hours. Somebody who ordered in its first hour came back."""
    for number, at in enumerate(("2026-10-25T00:30:00+02:00", "2026-10-26T12:00:00+01:00")):
        order = entry(f"ORD-{number}", email="a@x.org", created=datetime.fromisoformat(at))
        await service.ingest(order)
    await move_to(service, "Europe/Berlin")
    day = {"dateFrom": "2026-10-26", "dateTo": "2026-10-26"}
    async with client(service) as web:
        figures = (await web.get("/api/v1/statistics", params=day)).json()
        assert (figures["customersWhoOrdered"], figures["periodRetention"]) == (1, 100.0)
        backwards = {"dateFrom": "2026-10-26", "dateTo": "2026-10-25"}
        assert (await web.get("/api/v1/statistics", params=backwards)).status_code == 422
