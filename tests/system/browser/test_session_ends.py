"""When a session ends, the sign-in page says why, and what was typed comes back."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from service.core.scopes import Role
from service.db.accounts import users
from tests.conftest import Service
from tests.events import entry
from tests.system.browser.browser import PASSWORD
from tests.system.browser.conftest import PATIENCE
from tests.wait import until

JANE, JOHN = "jane@example.com", "john@example.com"
IDLE = "Your session ended after one hour without use. Sign in again to go on."
KEPT = "What you typed is kept in this tab."
BACK = "What you typed is back, and it is not saved yet."


@dataclass(frozen=True, repr=False)
class Desk:
    """A browser at a service with two admins and one customer, Ada."""

    context: BrowserContext
    service: Service

    async def tab(self, path: str) -> Page:
        """Open a tab at this path, as Jane."""
        tab = await self.context.new_page()
        await tab.goto(f"/sign-in?next={path}")
        await sign_in(tab)
        await expect(tab.get_by_role("navigation", name="Main")).to_be_visible()
        return tab

    async def idle(self) -> None:
        """Let an hour pass without use, and wait until the web process notices."""
        ended = "UPDATE sessions SET last_seen_at = now() - interval '1 hour'"
        await self.service.execute(ended)

        async def refused() -> bool:
            answer = await self.context.request.get(
                "/api/v1/statistics", headers={"X-Background": "1"}
            )
            return answer.status == 401

        await until(refused)


@pytest.fixture
async def desk(empty_service: Service, web_process: str, browser: Browser) -> AsyncIterator[Desk]:
    async with empty_service.engine.begin() as connection:
        for email in (JANE, JOHN):
            await users.add_user(connection, email, PASSWORD, Role.ADMIN, actor="test")
    await empty_service.ingest(entry(email="ada@example.com", name="Ada"))
    context = await browser.new_context(base_url=web_process)
    context.set_default_timeout(PATIENCE)

    async def knows_of_users() -> bool:
        return (await context.request.get("/api/v1/statistics")).status == 401

    await until(knows_of_users)
    yield Desk(context, empty_service)
    await context.close()


async def sign_in(tab: Page, email: str = JANE) -> None:
    await tab.get_by_role("textbox", name="E-mail", exact=True).fill(email)
    await tab.get_by_label("Password").fill(PASSWORD)
    await tab.keyboard.press("Enter")


async def open_editor(tab: Page) -> None:
    ada = tab.locator("tr").filter(has_text="Ada")
    await ada.get_by_role("link", name="Edit").click()
    await expect(tab.locator("#dialog")).to_be_visible()


async def test_what_was_typed_into_a_dialog_comes_back_after_signing_in(desk: Desk) -> None:
    tab = await desk.tab("/")
    await open_editor(tab)
    dialog = tab.locator("#dialog")
    await dialog.get_by_label("Phone").fill("123")
    await dialog.get_by_label("Marketing e-mails").check()
    await dialog.get_by_label("Segment", exact=True).select_option("vip")
    await desk.idle()
    await dialog.get_by_role("button", name="Save changes").click()
    await expect(tab.get_by_text(IDLE)).to_be_visible()
    await expect(tab.get_by_text(KEPT)).to_be_visible()
    await tab.get_by_label("E-mail").fill(JANE)
    await tab.get_by_label("Password").fill("wrong")
    await tab.keyboard.press("Enter")
    await expect(tab.get_by_role("alert")).to_contain_text("is wrong")
    await expect(tab.get_by_text(KEPT)).to_be_visible()
    await sign_in(tab)
    await expect(tab.get_by_text(BACK)).to_be_focused()
    await expect(tab.get_by_label("Phone")).to_have_value("123")
    assert await desk.service.rows("SELECT 1 FROM customers WHERE phone = '123'") == []
    await tab.get_by_role("button", name="Save changes").click()
    await expect(tab.locator("#toast")).to_have_text("Changes saved.")
    [row] = await desk.service.rows("SELECT name, phone, email_opt_in, segment FROM customers")
    assert tuple(row.values()) == ("Ada", "123", True, "vip")
    await tab.reload()
    await expect(tab.get_by_text(BACK)).to_have_count(0)
    assert await tab.evaluate("sessionStorage.length") == 0


async def test_what_was_typed_into_a_page_comes_back_after_signing_in(desk: Desk) -> None:
    tab = await desk.tab("/customers/CUST-1001")
    await tab.get_by_label("What happened").fill("She asked for\na refund")
    await desk.idle()
    await tab.get_by_role("button", name="Add", exact=True).click()
    await expect(tab.get_by_text(IDLE)).to_be_visible()
    await sign_in(tab)
    await expect(tab.get_by_text(BACK)).to_be_focused()
    await tab.get_by_role("button", name="Add", exact=True).click()
    await expect(tab.locator("#toast")).to_have_text("Interaction added.")
    await expect(tab.get_by_text(BACK)).to_have_count(0)
    assert await tab.evaluate("sessionStorage.length") == 0
    [row] = await desk.service.rows("SELECT text FROM interactions")
    assert row["text"].splitlines() == ["She asked for", "a refund"]


async def test_a_form_that_somebody_else_overtook_still_asks_which_value_to_keep(
    desk: Desk,
) -> None:
    """The choice that was made in that dialog comes back too, not the values given up in it."""
    tab = await desk.tab("/")
    await open_editor(tab)
    dialog = tab.locator("#dialog")
    await dialog.get_by_label("Name").fill("Ada Byron")
    await dialog.get_by_label("Phone").fill("123")
    etag = (await desk.context.request.get("/api/v1/customers/CUST-1001")).headers["etag"]
    csrf = await tab.evaluate("document.body.dataset.csrf")
    theirs = {"name": "Ada King", "phone": "456", "notes": "theirs"}
    saved = await desk.context.request.patch(
        "/api/v1/customers/CUST-1001",
        data=theirs,
        headers={"If-Match": etag, "X-CSRF-Token": csrf, "Origin": await tab.evaluate("origin")},
    )
    assert saved.status == 200, await saved.text()
    await dialog.get_by_role("button", name="Save changes").click()
    await dialog.get_by_label("Phone: theirs").check()
    await desk.idle()
    await dialog.get_by_role("button", name="Save this choice").click()
    await sign_in(tab)
    await expect(tab.get_by_text(BACK)).to_be_focused()
    await tab.get_by_role("button", name="Save changes").click()
    await expect(tab.locator("#toast")).to_have_text("Changes saved.")
    rows = await desk.service.rows("SELECT name, phone, notes FROM customers")
    assert rows == [{"name": "Ada Byron", "phone": "456", "notes": "theirs"}]


async def test_new_rules_come_back_from_their_preview(desk: Desk) -> None:
    tab = await desk.tab("/settings")
    spent = tab.get_by_role("spinbutton").first
    await spent.fill("7")
    await tab.get_by_label("Automatic segmentation").uncheck()
    await tab.get_by_role("button", name="Preview the change").click()
    await expect(tab.get_by_role("button", name="Save and apply")).to_be_visible()
    await desk.idle()
    await tab.get_by_role("button", name="Save and apply").click()
    await sign_in(tab)
    await expect(tab.get_by_text(BACK)).to_be_focused()
    await expect(spent).to_have_value("7")
    await expect(tab.locator("[name=auto_segmentation]")).not_to_be_checked()


async def test_a_page_that_nobody_uses_goes_to_the_sign_in_page(desk: Desk) -> None:
    tab = await desk.tab("/?search=ada")
    await desk.idle()
    await expect(tab.get_by_text(IDLE)).to_be_visible()
    await expect(tab.get_by_text(KEPT)).not_to_be_visible()
    await expect(tab.get_by_text("Ada")).to_have_count(0)
    await sign_in(tab)
    await expect(tab).to_have_url("/?search=ada")


async def test_another_user_does_not_see_what_was_typed(desk: Desk) -> None:
    tab = await desk.tab("/customers/CUST-1001/edit")
    await tab.get_by_label("Phone").fill("123")
    await desk.idle()
    await tab.get_by_role("button", name="Save changes").click()
    await expect(tab.get_by_text(KEPT)).to_be_visible()
    await sign_in(tab, JOHN)
    await expect(tab.get_by_label("Phone")).to_have_value("")
    await expect(tab.get_by_text(BACK)).to_have_count(0)
    assert await tab.evaluate("sessionStorage.length") == 0


async def test_signing_out_drops_what_was_typed(desk: Desk) -> None:
    tab = await desk.tab("/customers/CUST-1001/edit")
    await tab.get_by_label("Phone").fill("123")
    await desk.idle()
    await tab.get_by_role("button", name="Save changes").click()
    await expect(tab.get_by_text(KEPT)).to_be_visible()
    await tab.goto("/sign-in?next=/retention")
    await expect(tab.get_by_text(KEPT)).to_be_visible()
    await sign_in(tab)
    await expect(tab).to_have_url("/retention")
    await tab.get_by_role("button", name="Sign out").click()
    await expect(tab.locator("#toast")).to_have_text("You are signed out.")
    await expect(tab.get_by_text(KEPT)).not_to_be_visible()
    await expect(tab.get_by_text("Your session")).to_have_count(0)


async def test_a_form_can_be_saved_after_signing_in_again_in_another_tab(desk: Desk) -> None:
    tab = await desk.tab("/")
    await open_editor(tab)
    dialog = tab.locator("#dialog")
    await dialog.get_by_label("Phone").fill("123")
    await desk.context.clear_cookies()
    await desk.tab("/")
    await dialog.get_by_role("button", name="Save changes").click()
    await expect(tab.locator("#toast")).to_have_text("Changes saved.")
    await expect(dialog).to_contain_text("123")


async def test_a_browser_that_stores_nothing_keeps_the_form_open(desk: Desk) -> None:
    await desk.context.add_init_script(
        "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError') }"
    )
    tab = await desk.tab("/")
    await open_editor(tab)
    dialog = tab.locator("#dialog")
    await dialog.get_by_label("Phone").fill("123")
    await desk.idle()
    await dialog.get_by_role("button", name="Save changes").click()
    await expect(tab.locator("#toast")).to_contain_text(
        "You are signed out. Sign in in another tab"
    )
    await expect(dialog.get_by_label("Phone")).to_have_value("123")


async def test_the_sign_in_page_leaves_alone_what_somebody_types(desk: Desk) -> None:
    """A page that loaded itself again took the form for unsaved work, and went away with it."""
    tab = await desk.context.new_page()
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.resource_type))
    await tab.goto("/sign-in", wait_until="networkidle")
    assert not {"xhr", "fetch"} & set(asked)
