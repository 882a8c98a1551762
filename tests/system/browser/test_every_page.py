"""Every page there is: accessible, of a bounded size, on a phone, on paper, and by HEAD.

The pages are those of the application's routes, so a new one fails here until it is listed.
"""

import json
from collections.abc import Mapping

import pytest
from fastapi.routing import APIRoute
from playwright.async_api import Page, expect

from service.core.endpoints import EventKind, make_secret
from service.core.envelope import Entry
from service.core.scopes import Scope
from service.db.accounts import api_keys
from service.db.operations import endpoints
from service.db.operations.endpoints import NewEndpoint
from service.http import dashboard
from tests.events import entry
from tests.system.browser.accessibility import serious_faults
from tests.system.browser.conftest import Site
from tests.wait import until

ONE = "/customers/CUST-1001"
SHOP = "a-shop-with-a-long-name.myshopify.com"
PAGES: Mapping[str, str] = {
    "/": "/?segment=new&spentFrom=1",
    "/customers/new": "/customers/new",
    "/customers/{id}": ONE,
    "/customers/{id}/delete": f"{ONE}/delete",
    "/customers/{id}/edit": f"{ONE}/edit",
    "/customers/{id}/identifiers/new": f"{ONE}/identifiers/new",
    "/customers/{id}/merge": f"{ONE}/merge",
    "/customers/{id}/merge/{other}": f"{ONE}/merge/CUST-1002",
    "/customers/{id}/split": f"{ONE}/split",
    "/duplicates": "/duplicates",
    "/fields": "/fields",
    "/fields/{key}/delete": "/fields/plan/delete",
    "/imports": "/imports",
    "/imports/{number}": "/imports/1",
    "/insight": "/insight",
    "/insight/lists/{name}": "/insight/lists/overdue",
    "/operations": "/operations",
    "/operations/assign": "/operations/assign?order=ORD-nobody",
    "/operations/dead-letters/discard": "/operations/dead-letters/discard",
    "/operations/dead-letters/{id}": "/operations/dead-letters/1",
    "/operations/endpoints/new": "/operations/endpoints/new",
    "/operations/endpoints/{id}": "/operations/endpoints/1",
    "/operations/endpoints/{id}/edit": "/operations/endpoints/1/edit",
    "/operations/shop-requests/{id}/erase": "/operations/shop-requests/1/erase",
    "/retention": "/retention?table=1",
    "/settings": "/settings",
    "/shortcuts": "/shortcuts",
    "/tags": "/tags",
    "/views": "/views",
}
NO_PAGES = {
    "/bulk-segment": "leads to the list",
    "/bulk-tag": "leads to the list",
    "/customers/{id}/not-a-person": "leads to the customer",
    "/duplicates/count": "a number",
    "/filter-fields": "leads to the list",
    "/imports/{number}/refused.csv": "a file",
    "/insight/rounds/{number}/export": "a file",
    "/settings/preview": "leads to the settings",
    "/sign-in": "only for whoever has to sign in",
    "/static/{name}": "a file",
    "/views/{id}": "leads to the list",
}
FORMS = {
    "bulk-segment": ("/bulk-segment", {"segment": "new"}),
    "bulk-tag": ("/bulk-tag", {"segment": "new"}),
    "filter-fields": ("/filter-fields", {}),
    "not-a-person": (f"{ONE}/not-a-person", {"identifier": "email:jane@x.org"}),
    "split": (f"{ONE}/split", {"take.0": "email:second@x.org"}),
    "preview": ("/settings/preview", {"expected": "1", "at_risk_days": "30"}),
    "shop": ("/operations/shop-requests/1/erase", {"confirm": "another shop"}),
    "endpoint": ("/operations/endpoints/new", {"url": "ftp://x"}),
}
"""Pages that only a form leads to."""
MOST_BYTES = 50_000
_SEND = """([action, fields]) => {
  const form = Object.assign(document.createElement("form"), { method: "post", action });
  for (const [name, value] of Object.entries(fields))
    form.append(Object.assign(document.createElement("input"), { type: "hidden", name, value }));
  document.body.append(form);
  form.submit();
}"""


def routes() -> set[str]:
    """Return the paths that a browser may open."""
    return {
        route.path_format
        for router in dashboard.ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and "GET" in (route.methods or ())
    }


@pytest.fixture
async def filled(site: Site, tab: Page) -> Page:
    """Return a tab of a site that has one of everything, with long names."""
    who = {"name": "Jane Wolfeschlegelsteinhausen", "phone": "+15125550199"}
    service = site.service
    await service.ingest(
        entry("ORD-1", customer={"id": "7", "email": "jane@x.org", **who}),
        entry("ORD-2", email="jane.wolfeschlegelsteinhausen@example.org", **who),
        entry("ORD-nobody"),
        Entry("1700000000000-0", {b"data": b"{oops <b>"}),
    )
    new = NewEndpoint("https://8.8.8.8/hook?token=1", tuple(EventKind), "the mailing list")
    await service.in_transaction(endpoints.add, new, make_secret(), "test")
    await service.execute(
        "INSERT INTO shop_requests (platform, domain, kind, digest)"
        f" VALUES ('shopify', '{SHOP}', 'erase_shop', 'x')"
    )
    await service.execute(
        "INSERT INTO imports (begun_by, file_name, changed_at, state, summary, report)"
        " VALUES ('test', 'orders.csv', now(), 'done', '[]', '[]')"
    )
    await tab.request.post(
        f"{site.url}/api/v1{ONE}/identifiers", data={"kind": "email", "value": "second@x.org"}
    )
    await tab.request.post(f"{site.url}{ONE}/tags", form={"add": "Wholesale, Regular"})
    field: dict[str, str | float | bool] = {
        "label": "Plan",
        "kind": "choice",
        "more": "gold\nsilver",
    }
    await tab.request.post(f"{site.url}/fields", form=field)
    await tab.request.post(f"{site.url}/views", form={"view": "Regulars", "segment": "new"})
    return tab


async def assert_fine(tab: Page, name: str) -> None:
    """Check what is shown: readable for everybody, and not wider than the screen."""
    assert await serious_faults(tab) == [], name
    assert await tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), name


def test_every_page_is_listed() -> None:
    assert routes() == PAGES.keys() | NO_PAGES.keys()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_is_accessible_on_a_phone(site: Site, filled: Page, scheme: str) -> None:
    tab = filled
    await tab.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    await tab.set_viewport_size({"width": 390, "height": 900})
    for path, address in PAGES.items():
        answer = await tab.goto(address)
        assert answer
        assert answer.status == 200, path
        assert len(await answer.body()) < MOST_BYTES, path
        # What is closed is a part of the page as well.
        await tab.evaluate("for (const it of document.querySelectorAll('details')) it.open = true")
        await assert_fine(tab, path)
    for name, (action, fields) in FORMS.items():
        await tab.goto("/shortcuts")
        async with tab.expect_navigation():
            await tab.evaluate(_SEND, json.loads(json.dumps([action, fields])))
        await assert_fine(tab, name)
    await site.service.in_transaction(
        lambda connection: api_keys.create_key(connection, "test", [Scope.READ], actor="test")
    )

    async def asks_to_sign_in() -> bool:  # the process may still remember that nobody has to
        return "Password" in await (await tab.request.get("/sign-in")).text()

    # No page asks for news once a session is needed.
    await tab.goto("about:blank")
    await until(asks_to_sign_in)
    await tab.goto("/sign-in")
    await assert_fine(tab, "/sign-in")


async def test_every_page_has_a_head_and_is_printed_without_its_controls(filled: Page) -> None:
    tab = filled
    await tab.emulate_media(media="print")
    for path, address in PAGES.items():
        assert (await tab.request.head(address)).status == 200, path
        await tab.goto(address)
        await expect(tab.locator(".top")).to_be_hidden()
        if path != "/":
            await expect(tab.locator("main h1").first).to_be_visible()
        pressed = tab.locator("main :is(button, .button, .pick input):visible")
        await expect(pressed, path).to_have_count(0)
