"""Figures of freely chosen spans, added up from what workers keep, equal a recount."""

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest

from service.db.statistics import answer_cache, span_figures
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.ingest.test_model import entries
from tests.integration.db.statistics.test_answer_cache import renew_all
from tests.integration.db.statistics.test_key_figures import URL, Recount, exact, history
from tests.model import world
from tests.store_zone import move_to


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every shop be too large to be read while somebody waits."""
    monkeypatch.setattr(answer_cache, "SLOW", 0)
    monkeypatch.setattr(span_figures, "FEW", -1)


def some_days(rng: random.Random, now: datetime) -> dict[str, str]:
    """Return a span of days; sometimes one that ends today, or before there was anybody."""
    first = now.date() - timedelta(days=rng.randrange(-1, 900))
    last = first + timedelta(days=rng.choice([0, 1, rng.randrange(700)]))
    return {"dateFrom": first.isoformat(), "dateTo": last.isoformat()}


def recount_of(model: Any, span: dict[str, str]) -> Recount:
    first, last = (datetime.combine(date.fromisoformat(each), datetime.min.time(), UTC)
                   for each in span.values())  # fmt: skip
    return Recount(model, first, last + timedelta(days=1))


@pytest.mark.usefixtures("large")
async def test_the_figures_of_any_days_equal_a_recount(
    service: Service, web: httpx.AsyncClient, now: datetime, rng: random.Random
) -> None:
    documents = history(rng, now)
    await service.ingest(*entries(documents))
    model = world(documents, now)
    await renew_all(service)
    kept = await service.rows("SELECT as_of FROM kept_answers WHERE name = 'spans of time'")
    for span in [some_days(rng, now) for _ in range(25)]:
        figures = exact(await web.get(URL, params=span))
        assert datetime.fromisoformat(figures.pop("asOf")) == kept[0]["as_of"]
        assert figures == recount_of(model, span).figures(), span
        body = exact(await web.get(f"{URL}/segments", params=span))
        assert body["items"] == recount_of(model, span).items(), span


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Havana", "Pacific/Apia"])
async def test_days_are_those_of_the_store(
    service: Service,
    web: httpx.AsyncClient,
    now: datetime,
    rng: random.Random,
    monkeypatch: pytest.MonkeyPatch,
    zone: str,
) -> None:
    await move_to(service, zone)
    await service.ingest(*entries(history(rng, now)))
    spans = [some_days(rng, now) for _ in range(15)]
    spans += [{"dateFrom": span["dateFrom"]} for span in spans[:5]]
    spans += [{"dateTo": span["dateTo"]} for span in spans[:5]]
    live = [await answers(web, span) for span in spans]
    monkeypatch.setattr(answer_cache, "SLOW", 0)
    monkeypatch.setattr(span_figures, "FEW", -1)
    await renew_all(service)
    await service.ingest(entry("LATER", email="later@x.org", created=now - timedelta(days=9)))
    assert [await answers(web, span) for span in spans] == live


async def answers(web: httpx.AsyncClient, span: dict[str, str]) -> list[Any]:
    figures = exact(await web.get(URL, params=span))
    del figures["asOf"]
    return [span, figures, exact(await web.get(f"{URL}/segments", params=span))]


@pytest.mark.usefixtures("large")
async def test_a_renewal_follows_every_change_and_writes_only_what_changed(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    day = now - timedelta(days=100)
    span = {"dateFrom": f"{day:%Y-%m-%d}", "dateTo": f"{now:%Y-%m-%d}"}
    for number in range(3):
        await service.ingest(entry(f"A-{number}", email=f"{number}@x.org", created=day))
    await service.ingest(entry("B", email="0@x.org", created=now), entry("C", created=now))
    await renew_all(service)
    before = await _versions(service)
    await _forget_kept(service)
    assert await _versions(service) == before
    assert (await answers(web, span))[1]["customersWhoOrdered"] == 3
    await service.ingest(
        entry("A-1", email="1@x.org", created=day, status="cancelled", version=2),
        entry("C", email="3@x.org", created=now, version=2),
        entry("D", email="4@x.org", created=now, total="7000"),
    )
    await _forget_kept(service)
    figures = (await answers(web, span))[1]
    assert (figures["customersWhoOrdered"], figures["totalCustomers"]) == (4, 5)
    assert figures["unattributedOrders"] == 0
    unchanged = set(before) & set(await _versions(service))
    assert 0 < len(unchanged) < len(before)


async def _versions(service: Service) -> list[str]:
    """Return one text for each version of a row that is kept."""
    rows = await service.rows("""
        SELECT concat_ws(' ', 'customers', ctid, xmin) AS row FROM span_customers
        UNION ALL SELECT concat_ws(' ', 'orders', ctid, xmin) FROM span_orders ORDER BY 1""")
    return [row["row"] for row in rows]


async def _forget_kept(service: Service) -> None:
    await service.execute("DELETE FROM kept_answers")
    await renew_all(service)


@pytest.mark.usefixtures("large")
async def test_moments_within_a_day_are_counted_as_of_now(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    noon = (now - timedelta(days=9)).replace(hour=12)
    await service.ingest(entry("A", email="a@x.org", created=noon))
    await renew_all(service)
    await service.ingest(entry("B", email="b@x.org", created=noon + timedelta(days=1)))
    span = {"dateFrom": noon.replace(hour=7).isoformat(), "dateTo": now.isoformat()}
    figures = (await answers(web, span))[1]
    assert (figures["totalCustomers"], figures["customersWhoOrdered"]) == (2, 2)


@pytest.mark.usefixtures("large")
async def test_a_shop_without_a_counted_order_has_nobody_who_ordered(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    await service.ingest(entry("A", email="a@x.org", created=now, status="cancelled"))
    await renew_all(service)
    figures = (await answers(web, {"dateFrom": "2020-01-01", "dateTo": f"{now:%Y-%m-%d}"}))[1]
    assert (figures["totalCustomers"], figures["customersWhoOrdered"]) == (1, 0)


async def test_a_small_shop_keeps_nothing(
    service: Service, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.ingest(entry("A", email="a@x.org", created=now))
    monkeypatch.setattr(span_figures, "FEW", -1)
    await renew_all(service)
    assert await _versions(service)
    monkeypatch.undo()
    await _forget_kept(service)
    assert not await _versions(service)


@pytest.mark.usefixtures("large")
async def test_the_customers_page_says_when_its_figures_are_from(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    for days in (0, 20, 40):
        created = now - timedelta(days=days)
        await service.ingest(entry(f"A-{days}", email=f"{days}@x.org", created=created))
    page = {"span": "last-30"}
    live = (await web.get("/", params=page, headers={"accept": "text/html"})).text
    await renew_all(service)
    kept = (await web.get("/", params=page, headers={"accept": "text/html"})).text
    words = "The figures of so many customers are renewed every few minutes."
    assert (words in live, words in kept) == (False, True)
    cards = [text[text.index('id="cards"') : text.index('id="apart"')] for text in (live, kept)]
    assert cards[0] == cards[1]
    searched = await web.post("/", data={"q": "40@x.org"}, headers={"accept": "text/html"})
    assert words not in searched.text
