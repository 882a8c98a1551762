"""Staff search for a person, and no address that leaves the browser says for whom."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote_plus

import httpx
import pytest
from playwright.async_api import Browser, Page, Request, expect

from service.core.scopes import Role
from service.db.accounts import users
from tests.conftest import Service
from tests.events import entry
from tests.processes import HOST, processes
from tests.system.browser.browser import PASSWORD, words
from tests.system.browser.conftest import PATIENCE, Site
from tests.wait import PATIENCE as SLOW_MACHINE

TERM = "jäne+smith"
"""Every customer's e-mail has it. It needs escaping in an address, and has a plus sign."""


async def fill(service: Service) -> None:
    """Create 25 customers called Jane, and one who is not."""
    now = datetime.now(UTC)
    await service.ingest(
        *(
            entry(
                f"ORD-{n}",
                email=f"{TERM}{n:02}@x.org",
                name=f"Jane {n:02}",
                total=str(10 + n),
                created=now - timedelta(days=1, minutes=n),
            )
            for n in range(25)
        ),
        entry("ORD-other", email="other@x.org", name="Other", total="1000"),
    )


@pytest.fixture
async def shop(site: Site) -> Site:
    await fill(site.service)
    return site


@pytest.fixture
async def sent(tab: Page) -> AsyncIterator[list[str]]:
    """Collect what a proxy could log of each request, and check it after the test."""
    found: list[str] = []

    def note(request: Request) -> None:
        found.extend([request.url, request.headers.get("referer", "")])

    tab.context.on("request", note)
    yield found
    assert len(found) > 5
    assert [it for it in found if "smith" in unquote_plus(it.partition("#")[0]).lower()] == []


async def search(tab: Page) -> None:
    await tab.get_by_role("searchbox").press_sequentially(TERM, delay=10)
    await expect(tab.get_by_text("Showing 1 to 10 of 25")).to_be_visible()


@pytest.mark.usefixtures("shop", "sent")
async def test_pages_and_sorting_of_a_search_keep_the_term_out_of_addresses(tab: Page) -> None:
    await tab.goto("/?span=last-7")
    await search(tab)
    rows = tab.locator("#results tbody tr")
    await tab.get_by_role("button", name="Total Spent").click()
    await expect(rows.first).to_contain_text("Jane 24")
    await expect(tab.get_by_role("columnheader", name="Total Spent")).to_have_attribute(
        "aria-sort", "descending"
    )
    await tab.get_by_role("button", name="Next").click()
    await expect(tab.get_by_text("Showing 11 to 20 of 25")).to_be_visible()
    await expect(rows.first).to_contain_text("Jane 14")
    await expect(tab.get_by_role("searchbox")).to_have_value(TERM)
    path, _, hidden = tab.url.partition("#")
    assert "/?span=last-7&sort=-totalSpent&page=2." in path
    assert unquote_plus(hidden) == f"q={unquote_plus(TERM.replace('+', '%2B'))}"

    await tab.reload()
    await expect(tab.get_by_text("Showing 11 to 20 of 25")).to_be_visible()
    await expect(rows.first).to_contain_text("Jane 14")
    await tab.go_back()
    await expect(tab.get_by_text("Showing 1 to 10 of 25")).to_be_visible()
    await expect(rows.first).to_contain_text("Jane 24")
    await tab.go_back()
    await expect(rows.first).to_contain_text("Jane 00")
    await expect(tab.get_by_role("searchbox")).to_have_value(TERM)

    await tab.get_by_role("button", name="Total Spent").click()
    await expect(rows.first).to_contain_text("Jane 24")
    await tab.get_by_role("searchbox").fill(f"{TERM}24")
    await expect(tab.get_by_text("Showing 1 to 1 of 1")).to_be_visible()
    assert "sort=-totalSpent" in tab.url
    await tab.get_by_role("searchbox").fill("")
    await expect(tab.get_by_text("Showing 1 to 10 of 26")).to_be_visible()
    assert "#" not in tab.url


@pytest.mark.usefixtures("sent")
async def test_a_search_survives_dialogs_live_updates_and_a_shared_link(
    shop: Site, tab: Page
) -> None:
    await tab.goto("/")
    await search(tab)
    await tab.get_by_role("link", name="Jane 03").first.click()
    await expect(tab.get_by_role("dialog")).to_contain_text("Jane 03")
    await tab.go_back()
    await expect(tab.get_by_role("dialog")).to_be_hidden()
    await expect(tab.get_by_text("Showing 1 to 10 of 25")).to_be_visible()

    await shop.service.ingest(entry("ORD-new", email=f"{TERM}99@x.org", name="Just Now"))
    await expect(tab.get_by_text("Showing 1 to 10 of 26")).to_be_visible()
    await expect(tab.get_by_role("searchbox")).to_have_value(TERM)

    copy = await tab.context.new_page()
    await copy.goto(tab.url)
    await expect(copy.get_by_text("Showing 1 to 10 of 26")).to_be_visible()
    await expect(copy.get_by_role("searchbox")).to_have_value(TERM)
    await copy.get_by_role("link", name="Retention").click()
    await expect(copy.get_by_role("heading", name="Retention", exact=True)).to_be_visible()
    await copy.go_back()
    await expect(copy.get_by_text("Showing 1 to 10 of 26")).to_be_visible()
    await copy.get_by_role("searchbox").fill("nobody at all")
    await copy.get_by_role("link", name="Show all customers").click()
    await expect(copy.get_by_text("Showing 1 to 10 of 27")).to_be_visible()
    await expect(copy.get_by_role("searchbox")).to_have_value("")


@pytest.mark.usefixtures("shop", "sent")
async def test_a_search_is_exported_with_the_filters_that_are_shown(tab: Page) -> None:
    await tab.goto("/")
    await search(tab)
    for term, found in ((TERM, 25), ("", 26)):
        await tab.get_by_role("searchbox").fill(term)
        await expect(tab.get_by_text(f"Showing 1 to 10 of {found}")).to_be_visible()
        async with tab.expect_download(timeout=PATIENCE) as begun:
            await tab.get_by_role("button", name="Export").click()
        exported = (await (await begun.value).path()).read_text("utf-8-sig")
        assert len(exported.splitlines()) == found + 1
        await expect(tab.get_by_text(f"Showing 1 to 10 of {found}")).to_be_visible()


async def test_a_search_survives_signing_in(
    empty_service: Service, tmp_path: Path, browser: Browser
) -> None:
    await fill(empty_service)
    async with empty_service.engine.begin() as connection:
        await users.add_user(connection, "staff@x.org", PASSWORD, Role.VIEWER, actor="test")
    async with processes(empty_service.servers, tmp_path) as start:
        url = f"http://{HOST}:{(await start.web(rate_limit_burst=1_000_000)).port}"
        context = await browser.new_context(base_url=url)
        context.set_default_timeout(PATIENCE)
        page = await context.new_page()
        await page.goto("/?sort=-totalSpent#q=jane")
        await page.get_by_label("E-mail").fill("staff@x.org")
        await page.get_by_label("Password").fill(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Showing 1 to 10 of 25")).to_be_visible()
        await expect(page.locator("#results tbody tr").first).to_contain_text("Jane 24")
        assert page.url == f"{url}/?sort=-totalSpent#q=jane"

        elsewhere = f'<a href="{url}/#q=jane">a link in a chat</a>'
        await context.route(
            "http://elsewhere.test/",
            lambda route: route.fulfill(body=elsewhere, content_type="text/html"),
        )
        await page.goto("http://elsewhere.test/")
        await page.get_by_role("link").click()
        await expect(page.get_by_text("Showing 1 to 10 of 25")).to_be_visible()
        await context.close()


@pytest.fixture
async def http(shop: Site) -> AsyncIterator[httpx.AsyncClient]:
    """Return a browser without scripts."""
    async with httpx.AsyncClient(
        base_url=shop.url, timeout=SLOW_MACHINE, headers={"accept": "text/html"}
    ) as client:
        yield client


async def test_without_scripts_a_search_is_a_form(http: httpx.AsyncClient) -> None:
    fields = {"q": TERM, "segment": "new", "span": "", "sort": ""}
    first = await http.post("/", data=fields)
    assert "Showing 1 to 10 of 25" in words(first)
    [page] = re.findall(r'name="page" value="(2\.[\w-]+)"', first.text)
    second = await http.post("/", data=fields | {"page": page})
    assert "Showing 11 to 20 of 25" in words(second)
    everybody = await http.post("/", data=fields | {"q": ""})
    assert (everybody.status_code, everybody.headers["location"]) == (303, "/?segment=new")
    written = await http.get("/", params={"q": "a b", "segment": "vip"})
    assert (written.status_code, written.headers["location"]) == (303, "/?segment=vip#q=a+b")
