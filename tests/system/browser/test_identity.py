"""Staff merge, split and mark customers, and give orders to them, with scripts and without."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from playwright.async_api import Page, expect

from service.core.envelope import Entry
from service.core.scopes import Role
from service.db.customers.identity import duplicates
from service.db.statistics import answer_cache
from tests.events import entry
from tests.integration.http.auth.conftest import Web
from tests.system.browser.accessibility import serious_faults
from tests.system.browser.browser import browser as open_browser
from tests.system.browser.browser import user, words
from tests.system.browser.conftest import Site
from tests.wait import PATIENCE

ONE, TWO = "/customers/CUST-1001", "/customers/CUST-1002"
SHOP = "orders@myshop.example"


def order(number: int, **customer: Any) -> Entry:
    at = datetime.now(UTC) - timedelta(minutes=100 - number)
    return entry(f"ORD-{number}", customer=customer, created=at)


@pytest.fixture
async def shop(site: Site) -> Site:
    """Fill the site: two entries of one person, a marketplace, and an order of nobody."""
    await site.service.ingest(
        order(1, id=7, email="a@x.example", name="Jane Smith", phone="+1 512 555 0199")
    )
    await site.service.ingest(order(2, email="b@x.example", name="J. Smith", phone="512-555-0199"))
    await site.service.ingest(*(order(n, email=SHOP, name="Market") for n in range(10, 30)))
    await site.service.ingest(entry("ORD-99"))
    return site


async def names(site: Site) -> list[tuple[int, str, int]]:
    rows = await site.service.rows("SELECT id, name, total_orders FROM customers ORDER BY id")
    return [tuple(row.values()) for row in rows]


async def test_two_entries_of_a_person_are_found_compared_merged_and_split_again(
    shop: Site, tab: Page
) -> None:
    await tab.goto("/")
    await tab.get_by_role("link", name="Jane Smith", exact=True).first.click()
    dialog = tab.get_by_role("dialog")
    await dialog.get_by_role("link", name="Merge with…").click()
    await dialog.get_by_role("searchbox").fill("b@x")
    await dialog.get_by_role("button", name="Search").click()
    await dialog.get_by_role("link", name="Compare with J. Smith, CUST-1002").click()
    await expect(dialog.get_by_role("heading", name="Merge these two?")).to_be_visible()
    row = dialog.get_by_role("row").filter(has_text="Orders")
    await expect(row.first).to_contain_text(re.compile(r"Orders\s*1\s*1\s*2"))
    assert len(await names(shop)) == 3, "a preview merges nobody"
    await dialog.get_by_role("button", name="Merge", exact=True).click()
    await expect(tab.get_by_role("status")).to_contain_text("This is the customer who stays")
    assert (await names(shop))[0] == (1001, "J. Smith", 2)
    timeline = dialog.locator("section:has(#events)")
    await expect(timeline).to_contain_text("Customers merged CUST-1002 by the local user")

    await dialog.get_by_role("link", name="These are two people").click()
    await dialog.get_by_role("checkbox", name="CUST-1002").check()
    await dialog.get_by_role("checkbox", name="b@x.example").check()
    await dialog.get_by_role("button", name="Preview").click()
    await expect(dialog.get_by_role("heading", name="Split into these two?")).to_be_visible()
    assert len(await names(shop)) == 2
    await dialog.get_by_role("button", name="Split", exact=True).click()
    await expect(tab.get_by_role("status")).to_contain_text("Split into two customers")
    found = await names(shop)
    assert found[0] == (1001, "Jane Smith", 1)
    assert found[-1][1:] == ("J. Smith", 1)


async def test_a_marketplace_is_marked_and_the_mark_taken_away(shop: Site, tab: Page) -> None:
    await tab.goto("/customers/CUST-1003")
    await tab.get_by_role("button", name=f"{SHOP} is not a person").click()
    await expect(tab.get_by_role("main")).to_contain_text("20 orders belong to nobody")
    await expect(tab.get_by_role("main")).to_contain_text("The customer CUST-1003 is removed")
    assert len(await names(shop)) == 3, "so far this only says what would happen"
    await tab.get_by_role("button", name="Mark as not a person").click()
    await expect(tab.get_by_role("status")).to_contain_text("Marked as not a person")
    assert [name for _, name, _ in await names(shop)] == ["Jane Smith", "J. Smith"]
    await tab.goto("/operations")
    await expect(tab.locator("#order-list")).to_contain_text(SHOP)
    await tab.goto("/duplicates")
    await tab.get_by_role("button", name=f"Take the mark of {SHOP} away").click()
    await expect(tab.get_by_role("status")).to_contain_text("belong to a customer again")
    assert (await names(shop))[-1][2] == 20


async def test_duplicates_are_counted_in_the_navigation_and_decided(shop: Site, tab: Page) -> None:
    await tab.goto("/settings")
    link = tab.get_by_role("navigation", name="Main").get_by_role("link", name="Duplicates")
    await expect(link).to_have_text("Duplicates1")
    await link.click()
    pairs = tab.locator("#pairs")
    await expect(pairs).to_contain_text("Same phone")
    await pairs.get_by_role("link", name="Compare and merge CUST-1001 and CUST-1002").click()
    dialog = tab.get_by_role("dialog")
    await expect(dialog).to_contain_text("CUST-1001 stays")
    await dialog.get_by_role("link", name="Cancel").click()
    await pairs.get_by_role("button", name="CUST-1001 and CUST-1002 are two people").click()
    await expect(tab.get_by_role("status")).to_contain_text("no longer listed")
    await expect(tab.get_by_role("heading", name="No likely duplicates")).to_be_visible()
    assert len(await shop.service.rows("SELECT 1 FROM separations")) == 1


async def test_an_order_of_nobody_is_given_to_a_customer(shop: Site, tab: Page) -> None:
    await tab.goto("/operations")
    await tab.get_by_role("link", name="Assign ORD-99 to a customer").click()
    dialog = tab.get_by_role("dialog")
    await dialog.get_by_role("searchbox").fill("nobody at all")
    await dialog.get_by_role("button", name="Search").click()
    await expect(dialog).to_contain_text("Nobody matches this")
    await dialog.get_by_role("searchbox").fill("Jane")
    await dialog.get_by_role("button", name="Search").click()
    await dialog.get_by_role("button", name="Assign to Jane Smith, CUST-1001").click()
    await expect(tab.get_by_role("status")).to_contain_text("belongs to the customer now")
    await expect(tab.get_by_role("heading", name="No unattributed orders")).to_be_visible()
    assert (await names(shop))[0] == (1001, "Jane Smith", 2)


async def test_an_identifier_is_added_and_one_that_is_taken_leads_to_the_merge(
    shop: Site, tab: Page
) -> None:
    await tab.goto(ONE)
    await tab.get_by_role("link", name="Add", exact=True).click()
    dialog = tab.get_by_role("dialog")
    await dialog.get_by_label("Value").fill("B@x.example")
    await dialog.get_by_role("button", name="Add").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("CUST-1002 has this already")
    await dialog.get_by_label("Value").fill("c@x.example")
    await dialog.get_by_role("button", name="Add").click()
    await expect(tab.get_by_role("status")).to_contain_text("Identifier added")
    await expect(tab.get_by_role("main")).to_contain_text("entered by the local user")
    await shop.service.ingest(order(5, email="c@x.example"))
    assert (await names(shop))[0][2] == 2
    await tab.goto(f"{ONE}/edit")
    await tab.get_by_label("E-mail", exact=True).fill("b@x.example")
    await tab.get_by_role("button", name="Save changes").click()
    await tab.get_by_role("link", name="compare and merge the two").click()
    await expect(tab.get_by_role("heading", name="Merge these two?")).to_be_visible()


async def test_a_customer_without_an_email_is_created_and_shown(site: Site, tab: Page) -> None:
    await tab.goto("/")
    await tab.get_by_role("link", name="New Customer").click()
    dialog = tab.get_by_role("dialog")
    await dialog.get_by_label("Name").fill("Rahim")
    await dialog.get_by_label("Phone").fill("+880 1711-000001")
    await dialog.get_by_role("button", name="Create customer").click()
    await expect(tab.get_by_role("status")).to_contain_text("Customer created")
    await expect(dialog).to_contain_text("+8801711000001")
    await tab.goto("/?sort=email")
    await expect(tab.locator("#results tbody tr")).to_contain_text("+880 1711-000001")
    await site.service.ingest(order(1, phone="+8801711000001"))
    assert await names(site) == [(1001, "Rahim", 1)]


@pytest.mark.parametrize(
    "path",
    [
        f"{ONE}/merge",
        f"{ONE}/merge/CUST-1002",
        f"{ONE}/split",
        f"{ONE}/identifiers/new",
        "/duplicates",
        "/operations/assign?order=ORD-99",
    ],
)
@pytest.mark.parametrize("width", [390, 800, 1300])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.usefixtures("shop")
async def test_the_pages_are_accessible_and_fit_the_screen(
    tab: Page, path: str, width: int, scheme: str
) -> None:
    await tab.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    await tab.set_viewport_size({"width": width, "height": 900})
    await tab.goto(path)
    assert await serious_faults(tab) == []
    assert await tab.evaluate("document.documentElement.scrollWidth") <= width


async def test_pages_of_a_merged_customer_lead_to_the_one_who_stays(shop: Site) -> None:
    async with httpx.AsyncClient(
        base_url=shop.url, headers={"accept": "text/html"}, timeout=PATIENCE
    ) as http:
        await http.post(f"/api/v1{ONE}/merge", json={"other": "CUST-1002"})
        for path in ("", "/edit", "/merge", "/split"):
            answer = await http.get(f"{TWO}{path}")
            assert (answer.status_code, answer.headers["location"]) == (301, f"{ONE}{path}")
        # A form does nothing: whoever sent it saw another customer.
        for path in ("/delete", "/edit", "/interactions"):
            fields = {"kind": "note", "text": "x"}
            if path == "/edit":
                fields = {"was": "{}"}
            answer = await http.post(f"{TWO}{path}", data=fields)
            assert answer.status_code in {303, 422}
            if answer.status_code == 303:
                assert answer.headers["location"] == ONE
        assert (await http.get(f"/api/v1{ONE}")).json()["totalOrders"] == 2


@pytest.fixture
async def many(web: Web) -> Web:
    """Return a site with users, a pair of duplicates, a mark and an order of nobody."""
    await web.service.ingest(
        order(1, id=7, email="a@x.example", name="Jane", phone="+15125550199"),
        order(2, email="b@x.example", name="J.", phone="+15125550199"),
        order(3, email=SHOP),
        entry("ORD-99"),
    )
    await user(web, Role.VIEWER, "viewer@example.com")
    await user(web, Role.EDITOR, "editor@example.com")
    return web


FORMS: tuple[tuple[str, dict[str, str]], ...] = (
    (f"{ONE}/merge", {"q": "j"}),
    (f"{ONE}/merge/CUST-1002", {}),
    (f"{ONE}/split", {"take.1": "email:a@x.example", "confirm": "yes"}),
    (f"{ONE}/identifiers/new", {"kind": "email", "value": "c@x.example"}),
    (f"{ONE}/identifiers/remove", {"identifier": "email:a@x.example"}),
    (f"{ONE}/identifiers/restore", {"identifier": "email:a@x.example"}),
    (f"{ONE}/not-a-person", {"identifier": "email:a@x.example", "confirm": "yes"}),
    ("/not-a-person/undo", {"identifier": "email:a@x.example"}),
    ("/duplicates/dismiss", {"one": "CUST-1001", "other": "CUST-1002"}),
    ("/operations/assign", {"order": "ORD-99", "customer": "CUST-1001"}),
)
BUTTONS = {
    ONE: ("Merge with…", "These are two people", "Not a person"),
    "/duplicates": ("They are two people", "Compare and merge"),
    "/operations": ("Assign…",),
}


async def test_only_those_who_may_edit_customers_see_the_buttons_and_may_use_them(
    many: Web,
) -> None:
    for role, may in (("viewer", False), ("editor", True)):
        async with open_browser(many) as visitor:
            await visitor.sign_in(f"{role}@example.com")
            for path, buttons in BUTTONS.items():
                shown = words(await visitor.get(path))
                assert [each in shown for each in buttons] == [may] * len(buttons), (role, path)
            assert (await visitor.get("/duplicates/count")).json() == 1
            for path in (f"{ONE}/merge", f"{ONE}/split", "/operations/assign?order=ORD-99"):
                assert (await visitor.get(path)).status_code == (200 if may else 403)
            csrf = await visitor.csrf()
            for path, fields in FORMS:
                without = await visitor.post(path, data=fields)
                assert without.status_code == 403, "a form of another page has no token"
                if not may:
                    refused = await visitor.post(path, data={**fields, "csrf": csrf})
                    assert refused.status_code == 403, path
    rows = await many.service.rows("SELECT count(*) AS n FROM customers")
    assert rows == [{"n": 3}]


async def test_a_form_that_is_out_of_date_changes_nothing(shop: Site) -> None:
    headers = {"accept": "text/html"}
    async with httpx.AsyncClient(base_url=shop.url, headers=headers, timeout=PATIENCE) as http:
        page = await http.get(f"{ONE}/merge/CUST-1002")
        (tag,) = re.findall(r'name="etag" value="([^"]+)"', page.text)
        await http.patch(f"/api/v1{ONE}", json={"notes": "meanwhile"})
        merge = await http.post(f"{ONE}/merge/CUST-1002", data={"etag": tag.replace("&#34;", '"')})
        assert merge.status_code == 412
        assert "Somebody edited one of them meanwhile" in merge.text
        split = {"take.1": "email:a@x.example", "confirm": "yes", "etag": '"old"'}
        answer = await http.post(f"{ONE}/split", data=split)
        assert answer.status_code == 422
        assert "Somebody edited this customer meanwhile" in answer.text
        nothing = await http.post(f"{ONE}/split", data={})
        assert "Choose at least one of them" in nothing.text
        everything = {"take.1": "email:a@x.example", "take.2": "external:/order-management#7"}
        answer = await http.post(f"{ONE}/split", data=everything)
        assert "Leave at least one of them" in answer.text
        for fields in ({"one": "CUST-1001", "other": "CUST-9999"}, {"one": "x"}):
            answer = await http.post("/duplicates/dismiss", data=fields)
            assert answer.headers["location"] == "/duplicates"
        assigned = {"order": "ORD-98", "customer": "CUST-1001"}
        answer = await http.post("/operations/assign", data=assigned)
        assert answer.headers["location"] == "/operations"
        missing = await http.get("/operations/assign?order=ORD-98")
        assert missing.status_code == 404
    assert len(await names(shop)) == 3


async def test_a_large_shop_shows_when_its_duplicates_were_looked_for(
    shop: Site, tab: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_cache, "SLOW", 0.0)
    answers = {duplicates.CACHE_NAME: duplicates.find}
    await shop.service.in_transaction(answer_cache.renew, answers, {})
    await shop.service.execute(
        "UPDATE kept_answers SET as_of = '2026-01-02T12:00:00Z', seconds = 9"
    )
    await tab.goto("/duplicates")
    await expect(tab.get_by_role("main")).to_contain_text("Looked for on Jan 2, 2026")
    await expect(tab.locator("#pairs")).to_contain_text("Same phone")
