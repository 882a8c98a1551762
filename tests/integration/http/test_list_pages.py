"""The pages of the customers page: everybody once, while orders come in."""

import html
import re
from datetime import datetime, timedelta
from random import Random

import httpx
import pytest

from service.db.customers import list_walks
from tests.conftest import Service
from tests.events import entry, fields
from tests.integration.db.outlook.shop import foretell
from tests.integration.http.conftest import client
from tests.integration.worker.scene import working
from tests.wait import until

HTML = {"accept": "text/html"}
CUSTOMERS = 34


async def _shop(service: Service, now: datetime, customers: int = CUSTOMERS) -> None:
    await service.ingest(
        *(
            entry(
                f"ORD-{n}",
                email=f"c{n:02}@x.org",
                name=f"Name {n * 7 % customers:02}",
                total=f"{100 + n * 11 % customers}.00",
                created=now - timedelta(days=n + 1),
            )
            for n in range(customers)
        )
    )


async def read(web: httpx.AsyncClient, address: str) -> str:
    answer = await web.get(address, headers=HTML)
    assert answer.status_code == 200, answer.text
    return answer.text


def shown(page: str) -> list[str]:
    """Return the ids of the customers on a page."""
    return re.findall(r'class="name"[^>]* href="/customers/(CUST-\d+)"', page)


def link(page: str, name: str) -> str | None:
    """Return where a link of the page leads."""
    found = re.search(rf'<a href="([^"]*)"[^>]*(?: aria-label="{name}"[^>]*>|>{name}<)', page)
    return html.unescape(found[1]) if found else None


async def walk(web: httpx.AsyncClient, address: str, way: str) -> list[list[str]]:
    """Follow a link from page to page, and return the ids on each."""
    pages: list[list[str]] = []
    following: str | None = address
    while following:
        page = await read(web, following)
        pages.append(shown(page))
        following = link(page, way)
    return pages


async def in_order(web: httpx.AsyncClient, sort: str) -> list[str]:
    answer = await web.get("/api/v1/customers", params={"sort": sort, "limit": 500})
    return [item["id"] for item in answer.json()["items"]]


@pytest.mark.parametrize("sort", ["name", "-dateCreated", "-totalSpent"])
async def test_next_leads_from_the_first_page_to_the_last_and_previous_leads_back(
    service: Service, now: datetime, sort: str
) -> None:
    await _shop(service, now)
    async with client(service) as web:
        everybody = await in_order(web, sort)
        pages = [everybody[n : n + 10] for n in range(0, CUSTOMERS, 10)]
        assert await walk(web, f"/?sort={sort}", "Next") == pages
        assert await walk(web, f"/?sort={sort}&page=last", "Previous") == pages[::-1]
        second = link(await read(web, f"/?sort={sort}"), "Next")
        third = link(await read(web, second or ""), "Next")
        assert await walk(web, third or "", "Previous") == pages[2::-1]
        assert link(await read(web, third or ""), "Last page") in {
            f"/?sort={sort}&page=last",
            "/?page=last",
        }
    assert len(pages[-1]) == 4


async def test_a_jump_to_a_page_says_that_it_is_approximate(
    service: Service, now: datetime
) -> None:
    await _shop(service, now)
    async with client(service) as web:
        for sort in ("name", "-totalSpent"):
            everybody = await in_order(web, sort)
            third = await read(web, f"/?sort={sort}&page=3")
            assert shown(third) == everybody[20:30]
            assert "Showing about 21 to 30 of 34" in third
            assert "Approximate: a jump counts" in third
            assert shown(await read(web, link(third, "Next") or "")) == everybody[30:]
            assert shown(await read(web, link(third, "Previous") or "")) == everybody[10:20]
        beyond = await read(web, "/?page=999999999")
        assert "There is no page 999,999,999" in beyond
        last = await read(web, link(beyond, "") or "/?page=last")
        assert "Showing 31 to 34 of 34" in last
        form = await web.post("/", data={"sort": "name", "page": "2"}, headers=HTML)
        assert form.headers["location"] == "/?sort=name&page=2"


async def test_a_cursor_of_another_list_is_not_believed(service: Service, now: datetime) -> None:
    await _shop(service, now)
    async with client(service) as web:
        for sort in ("name", "-totalSpent"):
            second = link(await read(web, f"/?sort={sort}"), "Next") or ""
            cursor = second.partition("page=2.")[2]
            assert len(cursor) > 20
            assert "name" not in cursor
            for other in (
                f"/?segment=new&sort={sort}&page=2.{cursor}",
                f"/?sort=email&page=2.{cursor}",
                "/?sort=name&page=2.rubbish",
            ):
                assert "Showing about 11 to 20 of 34" in await read(web, other)
    assert await service.rows("SELECT 1 FROM list_walks") == []


async def test_a_list_that_orders_change_is_read_in_the_order_of_one_moment(
    service: Service, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is missed, although the last became the first, another is merged away, one came."""
    monkeypatch.setattr(list_walks, "_CHUNK", 12)
    await _shop(service, now)
    async with client(service) as web:
        before = await in_order(web, "-totalSpent")
        first = await read(web, "/?sort=-totalSpent")
        assert "In the order of" not in first
        second = await read(web, link(first, "Next") or "")
        assert "In the order of" in second
        poorest = (await web.get(f"/api/v1/customers/{before[-1]}")).json()["email"]
        await service.ingest(
            entry("ORD-rich", email=poorest, total="9000"),
            entry("ORD-none", email="new@x.org", total="8000"),
        )
        merged = await web.post(f"/api/v1/customers/{before[0]}/merge", json={"other": before[15]})
        assert merged.status_code == 200, merged.text
        again = await read(web, link(first, "Next") or "")
        assert shown(again) == [it for it in before[10:20] if it != before[15]]
        assert "1 of this page is gone: merged or deleted." in again
        rest = await walk(web, link(again, "Next") or "", "Next")
        seen = [*before[:10], *shown(again), *(it for page in rest for it in page)]
        assert len(seen) == len(set(seen))
        assert {*before} - {*seen} == {before[15]}
        started_again = await read(web, link(again, "Start again") or "")
        assert shown(started_again)[0] == before[-1]


async def test_a_walk_is_bounded_and_forgotten(
    service: Service, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_walks, "LONGEST", 20)
    monkeypatch.setattr(list_walks, "_CHUNK", 10)
    await _shop(service, now)
    async with client(service) as web:
        second = await read(web, link(await read(web, "/?sort=-totalSpent"), "Next") or "")
        assert link(second, "Next") == "/?sort=-totalSpent&page=3"
        assert "Showing about 21 to 30 of 34" in await read(web, link(second, "Next") or "")
        await service.execute("UPDATE list_walks SET began_at = began_at - interval '61 minutes'")
        await read(web, link(await read(web, "/?sort=-totalSpent"), "Next") or "")
    assert len(await service.rows("SELECT 1 FROM list_walks")) == 1


async def test_a_list_by_what_is_expected_holds_still_while_outlooks_are_refreshed(
    service: Service, now: datetime
) -> None:
    await _shop(service, now, 70)
    async with client(service) as web:
        nothing = await read(web, "/?sort=-chance")
        assert "Nothing is predicted of these customers" in nothing
        assert "Chance 90 d" not in nothing.partition("<table")[2]
        await foretell(service)
        for sort in ("-chance", "expectedValue"):
            order = await in_order(web, sort)
            assert len(order) == 35
            first = await read(web, f"/?sort={sort}")
            assert "Showing 1 to 10 of 35. Nothing is predicted of 35 others" in first
            assert "All 70, with and without a prediction:" in first
            assert await walk(web, f"/?sort={sort}&page=last", "Previous") == [
                order[30:],
                order[20:30],
                order[10:20],
                order[:10],
            ]
            second = link(first, "Next") or ""
            assert "In the order of" in await read(web, second)
            await service.execute("UPDATE customer_outlook SET chance = 1 - chance")
            await service.execute("UPDATE customer_outlook SET value = 100 - value")
            assert (
                shown(first) + [it for page in await walk(web, second, "Next") for it in page]
                == order
            )


async def test_a_click_on_a_predicted_column_sorts_and_the_view_menu_hides_it(
    service: Service, now: datetime
) -> None:
    await _shop(service, now)
    await foretell(service)
    async with client(service) as web:
        page = await read(web, "/")
        for name, sort in (("Chance 90 d", "chance"), ("Expected 12 m", "expectedValue")):
            heading = re.search(rf'<th [^>]*><a href="([^"]*)">{name}<', page)
            assert heading is not None
            assert heading[1] == f"/?sort=-{sort}"
            sorted_page = await read(web, heading[1])
            assert re.search(
                rf'aria-sort="descending"><a href="/\?sort={sort}">{name}', sorted_page
            )
        assert '<input type="checkbox" name="chance" checked>Chance 90 d' in page
        chosen = {"columns": "1", "back": "/", "email": "on", "expectedValue": "on"}
        token = re.search(r'name="csrf" value="([^"]*)"', page)
        assert token
        await web.post("/view", data={"csrf": token[1], **chosen}, headers=HTML)
        narrow = (await read(web, "/")).partition("<table")[2]
        assert "Expected 12 m" in narrow
        assert "Chance 90 d" not in narrow


WALKS = (
    ("/?sort=-totalSpent", "Next"),
    ("/?sort=lastOrderDate&page=last", "Previous"),
    ("/?sort=segment", "Next"),
    ("/?sort=name", "Next"),
)


async def test_nobody_is_skipped_or_shown_twice_while_orders_come_in(
    service: Service, now: datetime, rng: Random
) -> None:
    """A worker applies orders between any two pages: of known people, of new ones, refunds."""
    known = 24
    await _shop(service, now, known)
    number = 0

    async def publish() -> None:
        nonlocal number
        before = number
        for n in rng.sample(range(known), 8):
            number += 1
            refund = number % 4 == 0
            total = str(rng.randrange(1, 3000))
            await service.publish(
                fields(
                    f"ORD-{n}" if refund else f"MORE-{number}",
                    email=f"c{n:02}@x.org" if number % 8 else f"new{number}@x.org",
                    total=total,
                    refunded=total if refund else "0",
                    version=number + 1,
                )
            )

        async def some_are_applied() -> bool:
            [newest] = await service.rows("SELECT max(version) AS version FROM orders")
            return bool(newest["version"] > before + 1)

        await until(some_are_applied)

    async with client(service) as web, working(service):
        for following, way in WALKS:
            there = set(await in_order(web, "name"))
            seen: list[str] = []
            address: str | None = following
            while address:
                page = await read(web, address)
                seen += shown(page)
                await publish()
                address = link(page, way)
            assert len(seen) == len(set(seen)), following
            assert there <= set(seen), following
