"""The cards above the list of customers: they follow its filters, and say what changed in words."""

import html
import re
from datetime import datetime, timedelta

import httpx
import pytest

from service.db.customers import filters
from tests.conftest import Service
from tests.events import entry
from tests.integration.http.conftest import client
from tests.store_zone import move_to


async def cards_of(web: httpx.AsyncClient, **query: str) -> dict[str, tuple[str, str]]:
    """Return the figure and the change of each card, as people read them."""
    if "q" in query:
        answer = await web.post("/", data=query, headers={"accept": "text/html"})
    else:
        answer = await web.get("/", params=query, headers={"accept": "text/html"})
    assert answer.status_code == 200, answer.text
    cards = re.findall(
        r'<dt>([^<]*)</dt>\s*<dd class="figure">(.*?)</dd>\s*<dd class="change">(.*?)</dd>',
        answer.text,
        re.DOTALL,
    )
    return {name: (words(figure), words(change)) for name, figure, change in cards}


def words(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", markup)).split())


async def test_the_day_after_a_25_hour_day_is_compared_with_all_of_it(service: Service) -> None:
    """Two customers came on a day of 25 hours, one of them in its first hour; one the day after."""
    for number, at in enumerate(
        ("2026-10-25T00:30:00+02:00", "2026-10-25T12:00:00+01:00", "2026-10-26T12:00:00+01:00")
    ):
        order = entry(f"ORD-{number}", email=f"c{number}@x.org", created=datetime.fromisoformat(at))
        await service.ingest(order)
    await move_to(service, "Europe/Berlin")
    async with client(service) as web:
        cards = await cards_of(web, span="custom", **{"from": "2026-10-26", "to": "2026-10-26"})
    assert cards["Total Customers"] == ("1", "▼ down 50% from the day before")
    assert cards["Average LTV"] == ("$100.00", "no change from the day before")
    assert cards["Active Customers"] == ("1", "▼ down 50% from the day before")
    assert cards["Retention Rate"] == ("–", "all of them are New")


async def test_a_tiny_change_is_neither_none_nor_zero_percent(
    service: Service, now: datetime
) -> None:
    for days, amount in ((3, "10000.00"), (4, "9999.00")):
        await service.ingest(
            entry(
                f"ORD-{days}",
                email=f"c{days}@x.org",
                total=amount,
                created=now - timedelta(days=days),
            )
        )
    day = f"{now - timedelta(days=3):%Y-%m-%d}"
    async with client(service) as web:
        cards = await cards_of(web, span="custom", **{"from": day, "to": day})
    assert cards["Average LTV"] == ("$10,000.00", "▲ up less than 0.1% from the day before")


async def test_a_figure_that_was_0_is_compared_without_a_percentage(
    service: Service, now: datetime
) -> None:
    old, new = now - timedelta(days=100), now - timedelta(days=99)
    await service.ingest(
        entry("ORD-1", email="a@x.org", created=old),
        entry("ORD-2", email="b@x.org", created=new),
        entry("ORD-3", email="b@x.org", created=now),
    )
    day = f"{new:%Y-%m-%d}"
    async with client(service) as web:
        cards = await cards_of(web, span="custom", **{"from": day, "to": day})
        assert cards["Active Customers"] == ("1", "0 the day before")
        assert cards["Retention Rate"] == ("100%", "▲ up 100 points from the day before")
        day = f"{old:%Y-%m-%d}"
        cards = await cards_of(web, span="custom", **{"from": day, "to": day})
        assert cards["Total Customers"] == ("1", "nobody the day before")


async def test_cards_follow_segment_and_search(service: Service, now: datetime) -> None:
    for number, total in enumerate(("900", "800", "30", "20")):
        for order in (1, 2):
            await service.ingest(
                entry(
                    f"ORD-{number}-{order}",
                    email=f"c{number}@x.org",
                    name="Jane" if number % 2 else "Joe",
                    total=total,
                    created=now - timedelta(days=order),
                )
            )
    async with client(service) as web:
        everybody = await cards_of(web)
        vip = await cards_of(web, segment="vip")
        jane = await cards_of(web, q="jane")
        vip_jane = await cards_of(web, q="jane", segment="vip")
        nobody = await cards_of(web, q="zoe")
    assert [card[0] for card in everybody.values()] == ["4", "$875.00", "4", "100%"]
    assert [card[0] for card in vip.values()] == ["2", "$1,700.00", "2", "100%"]
    assert [card[0] for card in jane.values()] == ["2", "$820.00", "2", "100%"]
    assert [card[0] for card in vip_jane.values()] == ["1", "$1,600.00", "1", "100%"]
    assert [card[0] for card in nobody.values()] == ["0", "$0.00", "0", "–"]
    assert {card[1] for card in everybody.values()} == {"no figures from 30 days ago"}
    assert {card[1] for card in jane.values()} == {"of the customers found"}
    assert nobody["Retention Rate"][1] == "nobody to count"


async def test_a_search_that_finds_very_many_only_counts_them(
    service: Service, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.ingest(
        *(entry(f"ORD-{n}", email=f"c{n}@x.org", created=now - timedelta(days=n)) for n in range(3))
    )
    monkeypatch.setattr(filters, "_FEW_HITS", 2)
    async with client(service) as web:
        cards = await cards_of(web, q="x.org")
        assert cards.pop("Total Customers") == ("3", "of the customers found")
        assert set(cards.values()) == {("–", "too many customers to add up")}
        day = f"{now - timedelta(days=1):%Y-%m-%d}"
        of_a_day = await cards_of(web, q="x.org", span="custom", **{"from": day, "to": day})
    assert [card[0] for card in of_a_day.values()] == ["1", "$100.00", "1", "–"]


@pytest.mark.parametrize("segment", ["", "new"])
async def test_without_dates_cards_are_compared_with_30_days_ago(
    service: Service, now: datetime, segment: str
) -> None:
    await service.ingest(entry("ORD-1", email="a@x.org", created=now - timedelta(days=5)))
    await service.execute("UPDATE daily_changes SET day = day - 40")  # it was known for 40 days
    await service.ingest(
        entry("ORD-2", email="b@x.org", created=now - timedelta(days=4)),
        entry("ORD-3", email="c@x.org", created=now - timedelta(days=3)),
    )
    async with client(service) as web:
        cards = await cards_of(web, segment=segment)
    assert cards["Total Customers"] == ("3", "▲ up 200% in 30 days")
    assert cards["Average LTV"] == ("$100.00", "no change in 30 days")
