"""Staff import a file in a browser."""

from playwright.async_api import Browser, FilePayload, Page, expect

from tests.system.browser.accessibility import serious_faults
from tests.system.browser.conftest import Site

FILE = FilePayload(
    name="customers.csv",
    mimeType="text/csv",
    buffer=b"Email,Name,Plan\njane@x.org,Jane Smith,gold\nnobody,Nobody,gold\nal@x.org,Al,gold\n",
)


async def assert_fine(tab: Page) -> None:
    """Check that a page is accessible and fits the screen, however wide and dark it is."""
    for width, scheme in ((390, "dark"), (800, "light"), (1300, "dark")):
        await tab.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        await tab.set_viewport_size({"width": width, "height": 900})
        assert await serious_faults(tab) == []
        assert await tab.evaluate("document.documentElement.scrollWidth") <= width


async def test_a_file_is_looked_at_and_imported(site: Site, tab: Page) -> None:
    await tab.goto("/imports")
    chosen = tab.get_by_label("Choose a file")
    await chosen.evaluate("input => input.dataset.largest = 10")
    await chosen.set_input_files(FILE)
    await expect(tab.get_by_text("This file is too large to be sent.")).to_be_visible()
    await chosen.evaluate("input => input.dataset.largest = 1000")
    await chosen.set_input_files(FILE)
    await expect(tab.get_by_text("This file is too large to be sent.")).to_be_hidden()
    await tab.get_by_text("Options", exact=True).click()
    await tab.get_by_label("Values for all lines").fill("Notes=From the fair")
    await assert_fine(tab)
    await tab.get_by_role("button", name="Look at it").click()

    await expect(tab.get_by_role("button", name="Import 2 records")).to_be_visible()
    await expect(tab.get_by_role("table").last).to_contain_text("Is not an e-mail address")
    await assert_fine(tab)
    await tab.get_by_role("button", name="Import 2 records").click()
    await expect(tab.get_by_role("status").first).to_contain_text("Imported on")
    async with tab.expect_download() as download:
        await tab.get_by_role("link", name="Download all refused lines").click()
    assert (await download.value).suggested_filename == "import-1-refused.csv"
    await tab.get_by_role("link", name="All imports").click()
    row = tab.get_by_role("row").filter(has_text="customers.csv")
    await expect(row).to_contain_text("imported")
    rows = await site.service.rows("SELECT DISTINCT notes FROM customers")
    assert rows == [{"notes": "From the fair"}]


async def test_a_file_is_imported_without_scripts(site: Site, browser: Browser) -> None:
    context = await browser.new_context(base_url=site.url, java_script_enabled=False)
    plain = await context.new_page()
    await plain.goto("/imports")
    await plain.get_by_label("Choose a file").set_input_files(FILE)
    await plain.get_by_role("button", name="Look at it").click()
    while await plain.get_by_role("link", name="Load the page again").is_visible():
        await plain.get_by_role("link", name="Load the page again").click()
    await plain.get_by_role("button", name="Import 2 records").click()
    while await plain.get_by_role("link", name="Load the page again").is_visible():
        await plain.get_by_role("link", name="Load the page again").click()
    await expect(plain.get_by_role("status").first).to_contain_text("Imported on")
    await context.close()
