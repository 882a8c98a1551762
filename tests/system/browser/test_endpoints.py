"""Endpoints of webhooks in a browser: on Operations, and on a page of their own."""

import pytest
from playwright.async_api import Page, expect

from service.core.endpoints import EventKind, make_secret
from service.db.operations import endpoints
from service.db.operations.endpoints import NewEndpoint
from tests.events import entry
from tests.system.browser.accessibility import serious_faults
from tests.system.browser.conftest import Site


@pytest.fixture
async def failing(site: Site) -> Site:
    """Return a site with an endpoint that fails."""
    new = NewEndpoint("https://8.8.8.8/hook?token=1", tuple(EventKind), "the mailing list")
    await site.service.in_transaction(endpoints.add, new, make_secret(), "test")
    await site.service.execute(
        "UPDATE endpoints SET failures = 2, failing_since = now(), next_attempt_at = now(),"
        " last_error = 'answered 500'"
    )
    return site


@pytest.mark.usefixtures("failing")
async def test_an_endpoint_is_looked_at_and_paused(tab: Page) -> None:
    await tab.goto("/operations")
    await expect(tab.locator("#endpoint-list")).to_contain_text("It answered 500")
    await tab.get_by_role("link", name="Open the mailing list").click()
    dialog = tab.get_by_role("dialog")
    await expect(dialog).to_contain_text("If the same event fails for three days")
    await dialog.get_by_text("Pause", exact=True).first.click()
    await dialog.get_by_label("Reason").fill("maintenance")
    await dialog.get_by_role("button", name="Pause").click()
    await expect(tab.get_by_role("status")).to_contain_text("Nothing is sent until somebody")
    await expect(tab.locator("#endpoint-list")).to_contain_text("Maintenance")


async def test_an_endpoint_is_added_and_its_secret_shown(tab: Page) -> None:
    await tab.goto("/operations")
    await tab.get_by_role("link", name="Add an endpoint").click()
    dialog = tab.get_by_role("dialog")
    await dialog.get_by_label("URL").fill("https://127.0.0.1/hook")
    await dialog.get_by_role("button", name="Add").click()
    await expect(dialog).to_contain_text("This URL leads to an address that is not allowed")
    await dialog.get_by_label("URL").fill("https://8.8.8.8/hook")
    await dialog.get_by_label("A customer’s segment changed").uncheck()
    await dialog.get_by_role("button", name="Add").click()
    await expect(dialog.locator(".secret")).to_contain_text("whsec_")
    await dialog.get_by_role("link", name="I have copied it").click()
    await expect(dialog).to_have_count(0)
    await expect(tab.locator("#endpoint-list")).to_contain_text("8.8.8.8")
    await tab.get_by_role("link", name="Open 8.8.8.8").click()
    await expect(dialog).to_contain_text("removed customers")
    await dialog.get_by_role("link", name="Edit").click()
    await dialog.get_by_label("Name").fill("the warehouse")
    await dialog.get_by_role("button", name="Save").click()
    await expect(tab.locator("#endpoint-list")).to_contain_text("the warehouse")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.usefixtures("failing")
async def test_its_pages_are_accessible_and_fit_a_phone(tab: Page, scheme: str) -> None:
    await tab.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    await tab.set_viewport_size({"width": 390, "height": 900})
    endpoints = "/operations/endpoints"
    for path in ("/operations", f"{endpoints}/1", f"{endpoints}/1/edit", f"{endpoints}/new"):
        await tab.goto(path)
        for summary in await tab.locator("summary").all():
            await summary.click()
        assert await serious_faults(tab) == []
        assert await tab.evaluate("document.documentElement.scrollWidth") <= 390


async def test_a_shop_that_asks_for_it_is_erased_step_by_step(site: Site, tab: Page) -> None:
    number = 501  # more than one step erases
    await site.service.ingest(
        *(
            entry(f"ORD-{n}", source="shop.example", customer={"id": str(n), "name": f"C {n}"})
            for n in range(number)
        ),
        entry("ORD-other", email="other@x.org"),
    )
    await site.service.execute(
        "INSERT INTO shop_requests (platform, domain, kind, digest)"
        " VALUES ('shopify', 'shop.example', 'erase_shop', 'x')"
    )
    await tab.goto("/operations")
    await tab.get_by_role("link", name="Erase the customers of shop.example").click()
    dialog = tab.get_by_role("dialog")
    await dialog.get_by_role("button", name=f"Erase {number} customers").is_visible()
    await dialog.get_by_label("To erase them, type").fill("shop")
    await dialog.get_by_role("button", name="Erase").click()
    await expect(dialog).to_contain_text("Type shop.example, exactly as it is here.")
    await dialog.get_by_label("To erase them, type").fill("shop.example")
    await dialog.get_by_role("button", name="Erase").click()
    await expect(dialog).to_contain_text("left. Keep this page open")
    await expect(tab.get_by_role("status")).to_contain_text("All customers of the shop are erased")
    await expect(tab.locator("#shop-requests")).not_to_contain_text("shop.example")
    rows = await site.service.rows("SELECT email FROM customers")
    assert [row["email"] for row in rows] == ["other@x.org"]
