"""Staff work with keys, select customers, choose how pages look, and take back a mistake."""

import re
from datetime import UTC, datetime, timedelta

from playwright.async_api import Browser, Page, expect

from tests.events import entry
from tests.system.browser.conftest import Site

WIDTHS = (1280, 1176, 1090, 1001, 1000, 768, 390)
CUT = """() => [...document.querySelectorAll(".scroll, .top nav, .panel > header")]
  .filter((it) => it.scrollWidth > it.clientWidth + 1).map((it) => it.className || it.tagName)"""


async def fill(site: Site) -> None:
    """Create customers, one of whom has the longest values that shops have."""
    now = datetime.now(UTC)
    long = {
        "email": f"{'w' * 60}@example.org",
        "name": "Wolfeschlegel " * 4,
        "total": "98765432.10",
    }
    await site.service.ingest(
        *(
            entry(f"ORD-{n}", email=f"c{n}@x.org", name=f"C {n}", created=now - timedelta(days=n))
            for n in range(1, 12)
        ),
        entry("ORD-long", **long, created=now - timedelta(days=5)),
    )


async def test_the_list_is_worked_with_keys(site: Site, tab: Page) -> None:
    await fill(site)
    await tab.goto("/")
    names, dialog = tab.locator("#results .name"), tab.get_by_role("dialog")
    await tab.keyboard.press("j")
    await expect(names.nth(0)).to_be_focused()
    await tab.keyboard.press("j")
    await tab.keyboard.press("j")
    await tab.keyboard.press("k")
    await expect(names.nth(1)).to_be_focused()
    await tab.keyboard.press("e")
    await expect(dialog.get_by_role("heading", name="Edit C 2")).to_be_visible()
    await tab.keyboard.press("Escape")
    await tab.keyboard.press("?")
    await expect(dialog.get_by_role("heading", name="Keyboard shortcuts")).to_be_visible()
    await tab.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await tab.keyboard.press("/")
    await expect(tab.get_by_role("searchbox")).to_be_focused()
    await tab.keyboard.type("je/?k")
    await expect(tab.get_by_role("searchbox")).to_have_value("je/?k")


async def test_a_selection_stays_and_a_removed_note_comes_back(site: Site, tab: Page) -> None:
    await fill(site)
    await tab.goto("/")
    await tab.get_by_role("checkbox", name="Select all of this page").check()
    await expect(tab.get_by_text("Selected customers of this page:")).to_be_visible()
    await site.service.ingest(entry("ORD-new", email="new@x.org"))
    await expect(tab.locator("#cards .figure").first).to_have_text("13")
    await expect(tab.locator("td.pick :checked")).to_have_count(10)
    await tab.get_by_role("checkbox", name="Select C 1", exact=True).uncheck()
    await tab.get_by_role("button", name="Set segment…").click()
    await expect(tab.get_by_role("heading", name="Set the segment of 9 customers")).to_be_visible()

    await tab.goto("/customers/CUST-1001")
    await tab.get_by_label("What happened").fill("Called about blue")
    await tab.locator("form.note").get_by_role("button", name="Add").click()
    await tab.get_by_role("button", name="Remove your entry").click()
    await expect(tab.get_by_text("Called about blue")).to_be_hidden()
    await tab.get_by_role("button", name="Undo").click()
    await expect(tab.get_by_text("Called about blue")).to_be_visible()


async def test_the_usual_filters_come_first_and_the_others_in_sections(
    site: Site, tab: Page, browser: Browser
) -> None:
    await fill(site)
    await tab.goto("/?country=BE,NL")
    shown = tab.locator(".add-filter .field:visible")
    await tab.locator(".add-filter > summary").press("Enter")
    # One section is open, because it has a filter that is set.
    await expect(tab.locator("#f-country")).to_have_value("BE,NL")
    await expect(shown).to_have_count(6 + 3)
    await tab.locator(".section summary", has_text="Orders").press("Enter")
    await tab.get_by_label("Spent, at most").fill("50")
    await expect(tab).to_have_url(re.compile("spentTo=50"))
    await expect(shown).to_have_count(6 + 3 + 4)

    phone = await browser.new_context(
        base_url=site.url, java_script_enabled=False, viewport={"width": 390, "height": 900}
    )
    plain = await phone.new_page()
    await plain.goto("/?spentTo=500")
    await plain.get_by_text("Add filter").click()
    await expect(plain.get_by_label("Spent, at most")).to_have_value("500")
    await plain.locator(".section summary", has_text="Contact and consent").click()
    await plain.get_by_label("Has an e-mail").select_option("Yes")
    assert await plain.evaluate("document.documentElement.scrollWidth") <= 390
    await plain.locator(".add-filter").get_by_role("button", name="Apply").click()
    await expect(plain).to_have_url(re.compile("hasEmail=yes&|hasEmail=yes$"))
    await expect(plain).to_have_url(re.compile("spentTo=500"))
    await phone.close()


async def test_nothing_is_cut_off_at_any_width(site: Site, tab: Page) -> None:
    await fill(site)
    await tab.goto("/")
    await tab.get_by_role("button", name="Dark").click()
    await expect(tab.locator("html")).to_have_class(re.compile("dark"))
    await tab.get_by_text("View", exact=True).click()
    await tab.get_by_role("checkbox", name="Created").check()
    await tab.get_by_role("button", name="Show it so").click()
    await expect(tab.get_by_role("columnheader", name="Created")).to_be_visible()
    for width in WIDTHS:
        await tab.set_viewport_size({"width": width, "height": 900})
        assert await tab.evaluate(CUT) == [], width
        assert await tab.evaluate("document.documentElement.scrollWidth") <= width
        # In one step: a live update may exchange the row between two.
        right = "document.querySelector('[title=Delete]').getBoundingClientRect().right"
        assert 0 < await tab.evaluate(right) <= width
    await tab.get_by_label("Sorted by").select_option("Name, Z to A")
    await expect(tab.locator("#results .name").first).to_contain_text("Wolfeschlegel")
    await expect(tab).to_have_url(re.compile("sort=-name"))
    colour = "getComputedStyle(document.body).backgroundColor"
    assert await tab.evaluate(colour) == "rgb(14, 17, 22)"
