"""Staff use the pages in a browser: customers, retention, settings, operations."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Literal

import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from service.core.envelope import Entry
from service.db.segments.reclassify import advance
from tests.conftest import Service
from tests.events import entry, fields
from tests.integration.db.operations.dead_letters.conftest import refused_earlier
from tests.integration.db.outlook.shop import foretell
from tests.store_zone import move_to
from tests.system.browser.accessibility import serious_faults
from tests.system.browser.conftest import Site
from tests.wait import PATIENCE

SECONDS = 30_000
LIVE_SECONDS = 10.0
"""How long a change may take to show. Two are promised; a loaded machine gets more."""
PAGES = (
    "/",
    "/views",
    "/tags",
    "/duplicates",
    "/retention",
    "/insight",
    "/settings",
    "/fields",
    "/operations",
    "/imports",
)
SIGN_IN = "/sign-in"
_WEBHOOKS = (
    """INSERT INTO hooks (platform, domain, last_failure_at, last_failure)
       VALUES ('shopify', 'a-shop-with-a-long-name.myshopify.com', now(),
         'The signature was wrong. Run `crm hooks rotate`.')""",
    """INSERT INTO hook_deliveries (hook_id, topic, outcome, deliveries, last_at)
       SELECT id, topic, outcome, 1200, now() FROM hooks, (VALUES ('', 'wrong_signature'),
         ('orders/partially_fulfilled', 'published')) AS d (topic, outcome)""",
    """INSERT INTO shop_requests (platform, domain, kind, digest, customer_id)
       SELECT 'shopify', 'a-shop-with-a-long-name.myshopify.com', kind, 'x', customer
       FROM (VALUES ('data', 1001), ('data', NULL), ('erase_shop', NULL)) AS r (kind, customer)
       ON CONFLICT DO NOTHING""",
)
ACCEPT = {"accept": "text/html"}


@pytest.fixture
async def shop(site: Site) -> Site:
    """Fill the site: 25 customers in three segments, one dead letter, one unattributed order.

    A shop's webhooks fail, and it has asked about people's data.
    """
    now = datetime.now(UTC)
    orders = [
        entry(f"ORD-{n}", email=f"c{n:02}@x.org", name=f"Customer {n:02}", total=str(10 + n),
              created=now - timedelta(days=days, minutes=n))
        for n, days in enumerate([1] * 10 + [65] * 8 + [120] * 7)
    ]  # fmt: skip
    await site.service.ingest(*orders, entry("ORD-nobody"))
    await site.service.ingest(Entry("1700000000000-0", {b"data": b"{oops <b>"}))
    for statement in _WEBHOOKS:
        await site.service.execute(statement)
    return site


@pytest.mark.usefixtures("shop")
async def test_the_list_is_searched_filtered_sorted_and_paged_by_its_address(
    tab: Page,
) -> None:
    await tab.goto("/")
    await expect(tab.get_by_text("Showing 1 to 10 of 25")).to_be_visible()
    await tab.get_by_role("link", name="Next").click()
    await expect(tab.get_by_text("Showing 11 to 20 of 25")).to_be_visible()
    assert "page=2" in tab.url

    await tab.get_by_role("link", name="Total Spent").click()
    rows = tab.locator("#results tbody tr")
    await expect(rows.first).to_contain_text("Customer 24")
    await tab.get_by_role("link", name="Total Spent").click()
    await expect(rows.first).to_contain_text("Customer 00")

    await tab.get_by_role("checkbox", name="At Risk").check()
    await expect(tab.get_by_text("Showing 1 to 8 of 8")).to_be_visible()
    await tab.get_by_role("searchbox").press_sequentially("r 12", delay=20)
    await expect(tab.get_by_text("Showing 1 to 1 of 1")).to_be_visible()
    await expect(tab.get_by_role("searchbox")).to_be_focused()
    await expect(rows).to_contain_text(["Customer 12"])

    shared = tab.url
    assert "segment=at_risk" in shared
    assert "sort=totalSpent" in shared
    await tab.goto("/settings")
    await tab.go_back()
    assert tab.url == shared
    await expect(tab.get_by_text("Showing 1 to 1 of 1")).to_be_visible()
    await expect(tab.get_by_role("checkbox", name="At Risk")).to_be_checked()

    await tab.get_by_role("searchbox").fill("nobody at all")
    await expect(tab.get_by_role("heading", name="No customers found")).to_be_visible()


async def test_days_are_chosen_in_the_stores_zone(shop: Site, tab: Page) -> None:
    await move_to(shop.service, "Pacific/Auckland")
    await tab.goto("/")
    await expect(tab.get_by_role("contentinfo")).to_contain_text("Pacific/Auckland")
    await tab.locator("#span").select_option("Last 7 days")
    await expect(tab.get_by_text("Showing 1 to 10 of 10")).to_be_visible()
    await expect(tab.locator("#cards .figure").first).to_have_text("10")
    first = (datetime.now(UTC) - timedelta(days=70)).date()
    last = (datetime.now(UTC) - timedelta(days=60)).date()
    await tab.locator("#span").select_option("Custom")
    await tab.get_by_label("From", exact=True).fill(first.isoformat())
    await tab.get_by_label("To", exact=True).fill(last.isoformat())
    await expect(tab.get_by_text("Showing 1 to 8 of 8")).to_be_visible()
    assert f"from={first}" in tab.url


async def test_the_page_updates_live_but_not_below_a_dialog(shop: Site, tab: Page) -> None:
    await tab.goto("/")
    await tab.evaluate("window.same = true")
    total = tab.locator("#cards .figure").first
    await expect(total).to_have_text("25")
    await tab.wait_for_function("performance.getEntriesByType('resource').length > 0")
    await shop.service.ingest(entry("ORD-new", email="new@x.org", name="Just Now"))
    await expect(total).to_have_text("26", timeout=LIVE_SECONDS * 1000)
    await expect(tab.locator(".happenings")).to_contain_text("ORD-new")
    await expect(tab.locator("#results")).to_contain_text("Just Now")

    await tab.get_by_role("link", name="New Customer").click()
    await expect(tab.get_by_role("dialog")).to_be_visible()
    await shop.service.ingest(entry("ORD-newer", email="newer@x.org"))
    async with tab.expect_event("console", lambda it: it.text == "looked", timeout=SECONDS):
        await tab.evaluate(
            """() => {
              const source = new EventSource("/api/v1/activity/stream?after=0");
              source.onmessage = (event) => {
                if (!event.data.includes("ORD-newer")) return;
                source.close();
                setTimeout(() => console.log("looked"), 1500);
              };
            }"""
        )
    assert await total.text_content() == "26"
    await tab.keyboard.press("Escape")
    await expect(total).to_have_text("27", timeout=LIVE_SECONDS * 1000)
    assert await tab.evaluate("window.same"), "the page was loaded again"


async def test_retention_shows_cohorts_and_revenue(shop: Site, tab: Page) -> None:
    now = datetime.now(UTC)
    again = [
        entry(f"AGAIN-{n}", email=f"c{n:02}@x.org", created=now - timedelta(days=2))
        for n in range(18, 25)
    ]
    await shop.service.ingest(*again)
    await tab.goto("/retention")
    row = tab.locator(".cohorts tbody tr").first
    await expect(row).to_contain_text("7")
    await expect(row).to_contain_text("100%")
    await expect(tab.locator(".cohorts td.open").first).to_have_attribute(
        "title", re.compile("so far")
    )
    await expect(tab.get_by_text("Revenue by day")).to_be_visible()
    await tab.get_by_role("link", name="1 year").click()
    assert "days=365" in tab.url
    await expect(tab.get_by_role("link", name="1 year")).to_have_attribute("aria-current", "true")


async def test_settings_are_previewed_saved_and_their_progress_is_shown(
    shop: Site, tab: Page
) -> None:
    await tab.goto("/settings")
    await tab.get_by_label("Days until At Risk").fill("95")
    await tab.get_by_role("button", name="Preview").click()
    await expect(tab.locator("#inactive_days-says")).to_contain_text(
        "more than the days until At Risk"
    )
    await expect(tab.get_by_label("Days until At Risk")).to_have_value("95")
    await expect(tab.get_by_label("Days until Inactive")).to_be_focused()

    await tab.get_by_label("Days until At Risk").fill("30")
    await tab.get_by_label("Days until Inactive").fill("62")
    await tab.get_by_role("button", name="Preview").click()
    dialog = tab.get_by_role("dialog")
    await expect(dialog).to_contain_text("8 customers would move")
    await expect(dialog.locator(".moves")).to_have_text(["8"])
    current = await shop.service.rows("SELECT max(version) AS version FROM settings")
    assert current == [{"version": 1}], "a preview saves nothing"
    await dialog.get_by_role("button", name="Save and apply").click()
    await expect(tab.get_by_role("status")).to_contain_text("Settings saved")
    await expect(tab.locator("#progress")).to_contain_text("running")
    await expect(tab.locator("tbody tr").first).to_contain_text("60 → 30")
    await finish_applying(shop.service)
    await expect(tab.locator("#progress")).to_contain_text("8 moved", timeout=SECONDS)
    await expect(tab.locator("#progress")).to_contain_text("done")


async def test_what_counts_and_the_time_zone_are_previewed_and_changed(
    shop: Site, tab: Page
) -> None:
    await shop.service.ingest(
        *(
            entry(f"OPEN-{n}", email="open@x.org", payment_status="pending", total="300")
            for n in range(3)
        )
    )
    await tab.goto("/settings")
    await expect(tab.get_by_label("Time zone of the store")).to_have_value("UTC")
    await expect(tab.get_by_text("Your browser is in America/Chicago")).to_be_visible()
    await tab.get_by_role("button", name="Choose it").click()
    await expect(tab.get_by_label("Time zone of the store")).to_have_value("America/Chicago")
    await tab.get_by_label("Once they are paid").check()
    await tab.get_by_label("Free orders count").uncheck()
    await tab.get_by_role("button", name="Preview").click()
    dialog = tab.get_by_role("dialog")
    for words in (
        "Orders count: as soon as they are placed → once they are paid",
        "Free orders count: on → off",
        "Time zone of the store: UTC → America/Chicago",
        "1 customer would move to another segment",
        "1 customer would have other figures.",
        "Counted orders: 28 → 25. Revenue: $1,450.00 → $550.00",
    ):
        await expect(dialog).to_contain_text(words)
    await dialog.get_by_role("button", name="Save and apply").click()
    await expect(tab.get_by_role("status")).to_contain_text("Settings saved")
    await expect(tab.locator("tbody tr").first).to_contain_text("once they are paid")
    await finish_applying(shop.service)
    progress = tab.locator("#progress")
    await expect(progress).to_contain_text("done", timeout=SECONDS)
    await expect(progress).to_contain_text("29 of 29 orders counted again; 3 orders count")
    await expect(progress).to_contain_text("1 moved")
    await expect(tab.get_by_text("Your browser is in")).to_be_hidden()


async def test_settings_saved_by_somebody_else_are_not_overwritten_unnoticed(
    shop: Site, tab: Page
) -> None:
    await tab.goto("/settings")
    async with httpx.AsyncClient(base_url=shop.url, timeout=PATIENCE) as other:
        await other.put("/api/v1/settings", json={"vipOrderCount": 9})
    await tab.get_by_label("Days until At Risk").fill("30")
    await tab.get_by_role("button", name="Preview").click()
    await expect(tab.get_by_role("alert")).to_contain_text("while you were editing")
    await expect(tab.get_by_label("Days until At Risk")).to_have_value("30")
    await expect(tab.locator("#vip_order_count-says")).to_contain_text("now 9")
    await finish_applying(shop.service)


async def test_dead_letters_are_inspected_replayed_and_discarded(shop: Site, tab: Page) -> None:
    await tab.goto("/operations")
    await expect(tab.locator("#order-list")).to_contain_text("ORD-nobody")
    await tab.get_by_role("link", name="Inspect").click()
    dialog = tab.get_by_role("dialog")
    await expect(dialog.locator("pre")).to_have_text("{oops <b>")
    await dialog.get_by_role("button", name="Retry").click()
    await expect(tab.get_by_role("status")).to_contain_text("refused again")
    await dialog.get_by_text("Discard this dead letter").click()
    await dialog.get_by_label("Reason").fill("a test of the shop's")
    await dialog.get_by_role("button", name="Discard for good").click()
    await expect(tab.get_by_role("heading", name="No dead letters")).to_be_visible()
    await expect(dialog).to_be_hidden()
    audit = await shop.service.rows(
        "SELECT details ->> 'reason' AS why FROM audit WHERE action = 'dead-letter.discarded'"
    )
    assert audit == [{"why": "a test of the shop's"}]


async def test_a_dead_letter_that_is_accepted_now_is_applied(site: Site, tab: Page) -> None:
    entry = Entry("1700000000000-0", fields("ORD-7", currency="EUR"))
    await refused_earlier(site.service, entry)
    await tab.goto("/operations")
    await tab.get_by_role("link", name="Inspect").click()
    await tab.get_by_role("dialog").get_by_role("button", name="Retry").click()
    await expect(tab.get_by_role("status")).to_contain_text("the entry is applied")
    await expect(tab.locator("#order-list")).to_contain_text("ORD-7")


async def test_a_loss_is_open_until_somebody_acknowledges_it(site: Site, tab: Page) -> None:
    await site.service.execute(
        "INSERT INTO losses (stream, kind, after_id, until_id, entries, since, noticed_at,"
        " last_noticed_at) VALUES ('orders', 'removed', '5-0', '9-3', 4, now(), now(), now())"
    )
    await tab.goto("/operations")
    await expect(tab.locator("#losses")).to_contain_text("9-3")
    await tab.get_by_role("button", name="Acknowledge").click()
    await expect(tab.get_by_role("status")).to_contain_text("Loss acknowledged")
    await expect(tab.locator("#losses")).to_contain_text("acknowledged by the local user")


async def test_what_somebody_else_wrote_is_open_until_it_is_acknowledged(
    site: Site, tab: Page
) -> None:
    await site.service.execute(
        "INSERT INTO foreign_entries (stream, kind, first_id, last_id, entries, reason, sample,"
        " noticed_at, last_noticed_at) VALUES ('customer-segment-changed', 'foreign', '5-0', '9-3',"
        " 4, 'it is not a segment change', '', now(), now())"
    )
    await tab.goto("/operations")
    await expect(tab.locator("#foreign")).to_contain_text("9-3")
    await tab.get_by_role("button", name="Acknowledge").click()
    await expect(tab.get_by_role("status")).to_contain_text("Acknowledged")
    await expect(tab.locator("#foreign")).to_contain_text("acknowledged by the local user")


@pytest.mark.usefixtures("site")
async def test_an_empty_shop_says_what_to_do_next(tab: Page) -> None:
    await tab.goto("/")
    await expect(tab.get_by_role("heading", name="No customers yet")).to_be_visible()
    await expect(tab.locator("#results")).to_contain_text("XADD orders '*' data")
    await tab.get_by_role("link", name="Import your file").click()
    await expect(tab.get_by_role("heading", name="Nothing was imported here yet")).to_be_visible()
    await tab.goto("/retention")
    await expect(tab.get_by_role("heading", name="No first orders")).to_be_visible()
    await tab.goto("/operations")
    await expect(tab.get_by_role("heading", name="No dead letters")).to_be_visible()


@pytest.mark.parametrize("path", [*PAGES, SIGN_IN, "/customers/CUST-1001", "/customers/new"])
@pytest.mark.parametrize("width", [390, 1300])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.usefixtures("shop")
async def test_pages_are_accessible_and_fit_the_screen(
    tab: Page, path: str, width: int, scheme: str
) -> None:
    await tab.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    await tab.set_viewport_size({"width": width, "height": 900})
    await tab.goto(path)
    await _is_accessible(tab, width)


async def _is_accessible(tab: Page, width: int) -> None:
    assert await serious_faults(tab) == []
    assert await tab.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_what_is_predicted_is_accessible_on_every_screen(
    shop: Site, tab: Page, scheme: Literal["light", "dark"]
) -> None:
    await foretell(shop.service, everybody=True)
    await tab.emulate_media(color_scheme=scheme)
    for width in (1300, 800, 390):
        await tab.set_viewport_size({"width": width, "height": 900})
        for path in ("/insight", "/?sort=-chance"):
            await tab.goto(path)
            await _is_accessible(tab, width)
        await expect(tab.locator("#results tbody tr").first).to_contain_text("85.7%")


@pytest.fixture
async def plain(site: Site, browser: Browser) -> AsyncIterator[Page]:
    """Open a tab without scripts, with German as its language."""
    context = await browser.new_context(
        base_url=site.url, java_script_enabled=False, locale="de-DE"
    )
    yield await context.new_page()
    await context.close()


@pytest.mark.usefixtures("shop")
async def test_everything_can_be_read_without_scripts(plain: Page) -> None:
    await plain.goto("/")
    await plain.get_by_role("checkbox", name="Inactive").check()
    await plain.get_by_role("button", name="Apply").click()
    assert "Showing 1 to 7 of 7" in await plain.inner_text("#results")
    await (
        plain.get_by_role("table").get_by_role("link", name="Customer 20", exact=True).first.click()
    )
    assert "c20@x.org" in await plain.inner_text("main")
    await plain.goto("/operations")
    await plain.get_by_role("link", name="Inspect").click()
    assert "{oops <b>" in await plain.inner_text("main")


async def test_a_field_of_the_rfm_table_leads_to_its_customers_without_scripts(
    shop: Site, plain: Page
) -> None:
    await foretell(shop.service, everybody=True)
    await plain.goto("/insight")
    await plain.locator("table.grid").get_by_role("link", name="Champions").click()
    assert "Showing 1 to 10 of 25" in await plain.inner_text("#results")
    assert "RFM: Champions" in await plain.inner_text("#chips")
    await plain.goto("/insight")
    await plain.get_by_role("link", name="RFM: Dormant").click()
    assert "No customers found" in await plain.inner_text("#results")


async def test_numbers_and_dates_follow_the_readers_language(site: Site, plain: Page) -> None:
    date = datetime(2026, 3, 4, 12, tzinfo=UTC)
    await site.service.ingest(
        entry("ORD-1", email="rich@x.org", name="Rich", total="1234567890.50", created=date)
    )
    await plain.goto("/")
    shown = await plain.inner_text("#results")
    assert "1.234.567.890,50\xa0$" in shown
    assert "04.03.2026" in shown


AWKWARD = {
    "xss": "<img src=x onerror=alert(1)><script>alert(2)</script>",
    "long": "Wolfeschlegelsteinhausenbergerdorff" * 5,
    "rtl": "محمد بن عبد الله",
    "emoji": "👩‍👩‍👧‍👦 Familie 🎉",
    "quotes": "\"'><svg onload=alert(3)>",
}


@pytest.mark.parametrize("width", [390, 1300])
async def test_awkward_names_are_shown_as_they_are(site: Site, tab: Page, width: int) -> None:
    for n, (kind, name) in enumerate(AWKWARD.items()):
        await site.service.ingest(
            entry(f"ORD-{n}", email=f"{kind}@x.org", name=name, total="9999999999.99")
        )
    tab.on("dialog", lambda _: pytest.fail("a script ran"))
    await tab.set_viewport_size({"width": width, "height": 900})
    await tab.goto("/")
    shown = await tab.locator("#results .name").all_text_contents()
    assert set(shown) == set(AWKWARD.values())
    assert await tab.evaluate("document.documentElement.scrollWidth") <= width


async def test_pages_are_small_and_have_a_strict_content_policy(shop: Site) -> None:
    await foretell(shop.service, everybody=True)
    async with httpx.AsyncClient(base_url=shop.url, headers=ACCEPT, timeout=PATIENCE) as http:
        for path in PAGES:
            answer = await http.get(path)
            weight = len(answer.content)
            for asset in re.findall(r'(?:src|href)="(/static/[^"]+)"', answer.text):
                found = await http.get(asset)
                assert "immutable" in found.headers["cache-control"]
                assert found.content
                weight += found.num_bytes_downloaded
            assert weight < 51_200, f"{path} weighs {weight} bytes with all it needs"
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none';")
            assert "require-trusted-types-for 'script'" in policy
            assert "unsafe" not in policy
            assert not re.search(r"https?://(?!www\.w3\.org)", answer.text)


async def test_nonsense_in_the_query_is_told_beside_its_field(shop: Site) -> None:
    async with httpx.AsyncClient(base_url=shop.url, headers=ACCEPT, timeout=PATIENCE) as http:
        rubbish = "segment=x&span=y&from=z&to=0001-01-01&sort=email;drop&page=-1&q=%00"
        answer = await http.get(f"/?{rubbish}")
        assert answer.status_code == 422
        assert "“x” is not used" in answer.text
        assert "Showing 1 to 10 of 25" in answer.text
        beyond = await http.get("/?page=999999999")
        assert "There is no page 999,999,999" in beyond.text
        missing = await http.get("/nowhere")
        assert missing.status_code == 404
        assert missing.headers["content-type"].startswith("text/html")


async def test_a_card_is_compared_with_the_period_before(site: Site) -> None:
    now = datetime.now(UTC)
    await site.service.ingest(
        *(entry(f"A{n}", email=f"a{n}@x.org", created=now - timedelta(days=3)) for n in range(3)),
        *(entry(f"B{n}", email=f"b{n}@x.org", created=now - timedelta(days=9)) for n in range(2)),
    )
    async with httpx.AsyncClient(base_url=site.url, headers=ACCEPT, timeout=PATIENCE) as http:
        answer = await http.get("/?span=last-7")
    page = re.sub(r"\s+", " ", answer.text)
    assert "50%</b> so far, from the 7 days before" in page
    assert '<dd class="change"> no change so far, from the 7 days before' in page, "the average LTV"


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("vip_order_count", "", "Enter a whole number."),
        ("vip_order_count", "0", "Enter 1 or more."),
        ("at_risk_days", "99999", "Enter 36,500 or less."),
        ("inactive_days", "60", "Enter more than the days until At Risk."),
        ("vip_total_spent", "1.234", "Enter an amount with at most two decimals."),
        ("vip_total_spent", "much", "Enter an amount with at most two decimals."),
        ("vip_total_spent", "1000000000000", "This amount is too large."),
        ("precedence", "x", "Choose one of the two."),
        ("count_from", "", "Choose one of the two."),
        (
            "time_zone",
            "Mars/Base",
            "Choose a time zone from the list. Its name is written like Europe/Berlin.",
        ),
    ],
)
async def test_a_mistake_in_the_settings_is_explained_at_its_field(
    site: Site, field: str, value: str, sentence: str
) -> None:
    fields = {
        "version": "1",
        "vip_order_count": "3",
        "vip_total_spent": "500",
        "at_risk_days": "60",
        "inactive_days": "90",
        "precedence": "recency_first",
        "auto_segmentation": "on",
        "count_from": "placed",
        "count_free_orders": "on",
        "time_zone": "UTC",
    }
    async with httpx.AsyncClient(base_url=site.url, headers=ACCEPT, timeout=PATIENCE) as http:
        answer = await http.post("/settings/preview", data=fields | {field: value})
    assert answer.status_code == 422
    assert f'<p id="{field}-says" class="fault">{sentence}</p>' in answer.text
    assert answer.text.count('class="fault"') == 1


async def finish_applying(service: Service) -> None:
    """Do the worker's part: move every customer by the settings in force."""
    while True:
        async with service.engine.begin() as connection:
            if not await advance(connection):
                return
