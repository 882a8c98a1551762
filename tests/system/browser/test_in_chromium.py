"""Sign-in with a real browser, which is stricter than an HTTP client about cookies and origins."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, async_playwright, expect

from service.core.scopes import Role
from service.db.accounts import users
from tests.conftest import Service
from tests.processes import HOST, processes
from tests.system.browser.browser import PASSWORD
from tests.system.browser.chromium import ARGUMENTS, chromium

pytestmark = pytest.mark.skipif(chromium() is None, reason="there is no Chromium here")

SECONDS = 60_000


@pytest.fixture
async def context() -> AsyncIterator[BrowserContext]:
    rules = f"--host-resolver-rules=MAP crm.test {HOST}"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(), args=[*ARGUMENTS, rules]
        )
        context = await browser.new_context()
        context.set_default_timeout(SECONDS)
        yield context
        await browser.close()


# Browsers treat localhost like https. For another name over plain http, as in an office network,
# they send no Sec-Fetch-Site, and Origin only if the page's referrer policy allows it.
@pytest.mark.parametrize("host", ["localhost", "crm.test"])
async def test_sign_in_sign_out_and_a_link_from_another_site(
    empty_service: Service, tmp_path: Path, context: BrowserContext, host: str
) -> None:
    async with empty_service.engine.begin() as connection:
        await users.add_user(connection, "jane@example.com", PASSWORD, Role.VIEWER, actor="test")
    async with processes(empty_service.servers, tmp_path) as start:
        url = f"http://{host}:{(await start.web()).port}"
        page = await context.new_page()
        # The page for somebody who is not signed in leads on at once, perhaps before it is loaded.
        await page.goto(f"{url}/?search=x", wait_until="commit")
        await page.get_by_label("E-mail").fill("jane@example.com")
        await page.get_by_label("Password").fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("is wrong", timeout=SECONDS)
        await expect(page.get_by_label("Password")).to_be_focused()
        await page.get_by_label("Password").fill(PASSWORD)
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"{url}/?search=x")

        body = f'<a href="{url}/?search=y">a link in a mail</a>'
        await context.route(
            "http://elsewhere.test/",
            lambda route: route.fulfill(body=body, content_type="text/html"),
        )
        await page.goto("http://elsewhere.test/")
        await page.get_by_role("link").click()
        await page.wait_for_url(f"{url}/?search=y")

        await page.get_by_role("button", name="Sign out").click()
        await page.wait_for_url(f"{url}/sign-in")
        await page.goto(f"{url}/", wait_until="commit")
        await expect(page.get_by_label("Password")).to_be_visible(timeout=SECONDS)
        left = {cookie["name"] for cookie in await context.cookies()}
        assert left == {"crm-device"}
