"""Own fields in a browser: defined on their page, filled in with a customer, filtered by."""

import re

import httpx
import pytest
from playwright.async_api import Page, expect

from service.core.own_fields import MOST_FIELDS, FieldKind
from service.db.customers.own_fields import catalogue
from tests.events import entry
from tests.system.browser.accessibility import serious_faults
from tests.system.browser.conftest import Site
from tests.wait import PATIENCE

_FIELDS = {
    "Allergies and other things that the pharmacist must know": FieldKind.TEXT,
    "Shoe size": FieldKind.NUMBER,
    "Birthday": FieldKind.DATE,
    "Skin type": FieldKind.CHOICE,
}


@pytest.fixture
async def shop(site: Site) -> Site:
    """Return a site with two customers and a field of each kind."""
    await site.service.ingest(*(entry(f"ORD-{n}", email=f"c{n}@x.org") for n in range(2)))
    for label, kind in _FIELDS.items():
        choices = ["Dry", "Oily"] if kind is FieldKind.CHOICE else []
        await site.service.in_transaction(catalogue.create, "test", label, kind, choices)
    return site


async def test_a_field_is_added_renamed_moved_and_deleted(site: Site, tab: Page) -> None:
    await tab.goto("/settings")
    await tab.get_by_role("link", name="Own fields of customers").click()
    await expect(tab.get_by_role("heading", name="No own fields yet")).to_be_visible()
    add = tab.get_by_role("region", name="Add a field")
    for label, kind in (("Skin", "a choice"), ("Shoe size", "a number")):
        await add.get_by_label("Name").fill(label)
        await add.get_by_label("It takes").select_option(kind)
        await add.get_by_label("Choices").fill("Dry\nOily")
        await add.get_by_role("button", name="Add field").click()
        await expect(tab.get_by_role("status")).to_contain_text("Field added")
    rows = tab.get_by_role("region", name="Fields", exact=True).locator("tbody tr")
    await expect(rows).to_contain_text(["Skin", "Shoe size"])
    await tab.get_by_text("Change Skin").click()
    await rows.first.get_by_label("Choice 1").fill("Very dry")
    await rows.first.get_by_label("More choices").fill("Normal")
    await rows.first.get_by_role("button", name="Save").click()
    await expect(rows.first).to_contain_text("Very dry, Oily, Normal")
    await tab.get_by_text("Change Skin").click()
    await tab.get_by_role("button", name="Move Skin down").click()
    await expect(rows).to_contain_text(["Shoe size", "Skin"])
    await tab.get_by_text("Change Shoe size").click()
    await tab.get_by_role("link", name="Delete Shoe size").click()
    dialog = tab.get_by_role("dialog")
    await expect(dialog).to_contain_text("No customer has a value in it")
    await dialog.get_by_role("button", name="Delete Shoe size").click()
    await expect(tab.get_by_role("status")).to_contain_text("Field deleted")
    await expect(rows).to_have_count(1)
    assert await site.service.findings() == []


@pytest.mark.usefixtures("shop")
async def test_values_are_filled_in_and_customers_found_by_them(tab: Page) -> None:
    await tab.goto("/customers/CUST-1001")
    await tab.get_by_role("link", name="Edit").click()
    dialog = tab.get_by_role("dialog")
    await dialog.get_by_label("Shoe size").fill("forty")
    await dialog.get_by_label("Skin type").select_option("Oily")
    await dialog.get_by_label("Birthday").fill("1990-04-01")
    await dialog.get_by_role("button", name="Save changes").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("check Shoe size")
    await expect(dialog).to_contain_text("Shoe size must be a number, such as 42 or 99.5.")
    await dialog.get_by_label("Shoe size").fill("42.50")
    await dialog.get_by_role("button", name="Save changes").click()
    await expect(tab.locator("main")).to_contain_text("Apr 1, 1990")
    await expect(tab.locator("main")).to_contain_text("42.5")
    await tab.goto("/")
    await tab.get_by_role("checkbox", name="New").check()
    for label, value in (("Shoe size, at least", "42"), ("Skin type", "Dry")):
        await tab.get_by_text("Add filter").click()
        await tab.get_by_role("button", name="Own fields…").click()
        await tab.get_by_label(label, exact=True).fill(value)
        await tab.get_by_role("button", name="Show customers").click()
        await expect(tab.locator("#chips")).to_contain_text(label.partition(",")[0])
    await expect(tab.get_by_role("heading", name="No customers found")).to_be_visible()
    await expect(tab.get_by_role("checkbox", name="New")).to_be_checked()
    await expect(tab.locator("#chips")).to_contain_text("Shoe size: 42 or more")
    assert "field.shoe_sizeFrom=42" in tab.url
    await tab.get_by_role("button", name="Remove filter: Skin type: Dry").click()
    await expect(tab.get_by_text("Showing 1 to 1 of 1")).to_be_visible()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (800, "dark"), (1300, "light")])
@pytest.mark.usefixtures("shop")
async def test_the_pages_are_accessible_and_fit_the_screen(
    tab: Page, width: int, scheme: str
) -> None:
    await tab.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    await tab.set_viewport_size({"width": width, "height": 900})
    edit = "/customers/CUST-1001/edit"
    for path in ("/fields", "/fields/skin_type/delete", edit, "/customers/CUST-1001", "/"):
        await tab.goto(path)
        if path == "/":
            await tab.get_by_text("Add filter").click()
            await tab.get_by_role("button", name="Own fields…").click()
            await tab.wait_for_url("**/filter-fields")
        for summary in await tab.locator("main summary").all():
            await summary.click()
        assert await serious_faults(tab) == [], path
        assert await tab.evaluate("document.documentElement.scrollWidth") <= width, path


async def test_pages_stay_small_with_all_the_fields_that_there_can_be(site: Site) -> None:
    await site.service.ingest(*(entry(f"ORD-{n}", email=f"c{n}@x.org") for n in range(20)))
    for n in range(MOST_FIELDS):
        kind = list(FieldKind)[n % 4]
        choices = [f"Choice {m}" for m in range(10)] if kind is FieldKind.CHOICE else []
        await site.service.in_transaction(catalogue.create, "test", f"Field {n}", kind, choices)
    async with httpx.AsyncClient(base_url=site.url, timeout=PATIENCE) as http:
        edit = "/customers/CUST-1001/edit"
        for path in ("/", "/filter-fields", "/fields", "/customers/CUST-1001", edit):
            way = "POST" if path == "/filter-fields" else "GET"
            answer = await http.request(way, path, headers={"accept": "text/html"})
            weight = len(answer.content)
            for asset in re.findall(r'(?:src|href)="(/static/[^"]+)"', answer.text):
                weight += (await http.get(asset)).num_bytes_downloaded
            assert weight < 51_200, f"{path} weighs {weight} bytes with all it needs"
