"""Customers are shown, created, edited, held and erased, in dialogs and by plain forms."""

import asyncio
import html
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from playwright.async_api import Locator, Page, Route, expect

from service.core.scopes import Role
from tests.conftest import Service
from tests.events import entry
from tests.integration.http.auth.conftest import Web, serve
from tests.store_zone import move_to
from tests.system.browser.accessibility import serious_faults
from tests.system.browser.browser import Browser, user, words
from tests.system.browser.browser import browser as open_browser
from tests.system.browser.conftest import PATIENCE, Site

EVIL = '<img src=x onerror="alert(1)"><script>alert(2)</script>'
RTL = "مريم العلي 👩🏽‍⚕️"


@pytest.fixture
async def web(service: Service) -> AsyncIterator[Web]:
    async with serve(service) as web:
        yield web


@pytest.fixture
async def plain(web: Web) -> AsyncIterator[Browser]:
    """Yield a browser without scripts, on the machine of a service that has no users yet."""
    async with open_browser(web) as visitor:
        yield visitor


def form_of(page: httpx.Response, action: str) -> dict[str, str]:
    """Return the fields of a form as a browser would send them when nothing is touched."""
    match = re.search(rf'<form [^>]*action="{action}".*?</form>', page.text, re.DOTALL)
    assert match, page.text
    form, fields = match[0], dict[str, str]()
    for tag in re.findall(r"<input [^>]*>", form):
        attributes = {
            name: html.unescape(value) for name, value in re.findall(r'([\w-]+)="(.*?)"', tag)
        }
        if attributes.get("type") not in {"checkbox", "radio"} or " checked" in tag:
            fields[attributes["name"]] = attributes.get("value", "on")
    for name, inside in re.findall(r'<select [^>]*name="(\w+)".*?>(.*?)</select>', form, re.DOTALL):
        selected = re.search(r'value="([^"]*)" selected', inside) or re.search(
            r'value="([^"]*)"', inside
        )
        assert selected
        fields[name] = selected[1]
    for name, inside in re.findall(
        r'<textarea [^>]*name="(\w+)".*?>(.*?)</textarea>', form, re.DOTALL
    ):
        fields[name] = html.unescape(inside).removeprefix("\n").replace("\n", "\r\n")
    return fields


async def edit_form(visitor: Browser, customer: str = "CUST-1001") -> dict[str, str]:
    path = f"/customers/{customer}/edit"
    return form_of(await visitor.get(path), path)


async def read(visitor: Browser, customer: str = "CUST-1001") -> dict[str, Any]:
    found: dict[str, Any] = (await visitor.get(f"/api/v1/customers/{customer}")).json()
    return found


async def create(visitor: Browser, **body: Any) -> str:
    answer = await visitor.post(
        "/api/v1/customers", json={"name": "Jane Smith", "email": "jane@example.com", **body}
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def patch(visitor: Browser, customer: str = "CUST-1001", **body: Any) -> None:
    answer = await visitor.http.patch(f"/api/v1/customers/{customer}", json=body)
    assert answer.status_code == 200, answer.text


async def test_a_form_that_was_not_touched_changes_nothing(
    plain: Browser, service: Service, now: datetime
) -> None:
    await service.ingest(
        entry(
            email="jane@example.com",
            name=" Jane  Smith",
            phone="555",
            shippingAddress={"street": "1 Main St", "city": "Austin"},
        )
    )
    until = now + timedelta(days=2)
    await patch(
        plain, notes="\nfirst\n\nthird", segment="vip", segmentPinnedUntil=until.isoformat()
    )
    before = await service.rows("SELECT * FROM customers")
    fields = await edit_form(plain)
    assert (fields["name"], fields["segment"], fields["keep"]) == ("Jane  Smith", "vip", "date")
    answer = await plain.post("/customers/CUST-1001/edit", data=fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "/customers/CUST-1001")
    assert "Nothing was changed" in words(await plain.get("/customers/CUST-1001"))
    assert await service.rows("SELECT * FROM customers") == before


async def test_a_form_writes_only_changed_fields_so_events_may_change_the_others(
    plain: Browser, service: Service
) -> None:
    first = {"street": "1 Main St", "city": "Austin"}
    await service.ingest(
        entry(email="jane@example.com", name="Jane", phone="1", shippingAddress=first)
    )
    fields = await edit_form(plain) | {"name": "Jane Smith", "email_opt_in": "on"}
    assert (await plain.post("/customers/CUST-1001/edit", data=fields)).status_code == 303
    later = {"street": "2 High St", "city": "Dallas"}
    await service.ingest(
        entry("ORD-2", email="jane@example.com", name="J.", phone="2", shippingAddress=later)
    )
    customer = await read(plain)
    assert (customer["name"], customer["phone"], customer["address"]["city"]) == (
        "Jane Smith",
        "2",
        "Dallas",
    )
    assert customer["preferences"] == {"emailOptIn": True, "smsOptIn": False}
    fields = await edit_form(plain) | {"zip": "75001", "state": "TX"}
    assert (await plain.post("/customers/CUST-1001/edit", data=fields)).status_code == 303
    address = (await read(plain))["address"]
    assert address == {**later, "zip": "75001", "state": "TX", "country": None}


async def test_a_customer_without_a_name_can_be_edited(plain: Browser, service: Service) -> None:
    await service.ingest(entry(email="jane@example.com"))
    fields = await edit_form(plain) | {"notes": "called"}
    assert (await plain.post("/customers/CUST-1001/edit", data=fields)).status_code == 303
    assert ((await read(plain))["name"], (await read(plain))["notes"]) == (None, "called")


@pytest.mark.parametrize(
    ("changed", "control", "said"),
    [
        (
            {"name": " ", "email": "", "phone": ""},
            "name",
            "Name is missing; give a name, an e-mail or a phone.",
        ),
        ({"email": "nobody"}, "email", "E-mail must be an address such as jane@example.com."),
        ({"email": "JOHN@example.com"}, "email", "E-mail already belongs to CUST-1002."),
        ({"street": "x" * 1001}, "street", "Street must not be longer than 1,000 characters."),
        ({"segment": "vip", "keep": "date"}, "until", "Last day must be today or later."),
        (
            {"segment": "vip", "keep": "date", "until": "2020-01-01"},
            "until",
            "Last day must be today or later.",
        ),
        (
            {"segment": "vip", "keep": "date", "until": "9999-12-31"},
            "until",
            "Last day must be today or later.",
        ),
    ],
)
async def test_a_mistake_is_shown_at_its_field_and_the_input_is_kept(
    plain: Browser, changed: dict[str, str], control: str, said: str
) -> None:
    await create(plain)
    await create(plain, name="John", email="john@example.com")
    path = "/customers/CUST-1001/edit"
    fields = await edit_form(plain) | {"phone": "999", "notes": "a\r\n<b>"} | changed
    answer = await plain.post(path, data=fields)
    assert answer.status_code == 422
    assert said in html.unescape(words(answer))
    label = {"name": "Name", "email": "E-mail", "street": "Street", "until": "Last day"}[control]
    assert f"Not saved: check {label}." in words(answer)
    assert re.search(rf'name="{control}" aria-invalid="true" aria-describedby="edit-', answer.text)
    assert answer.text.count("aria-invalid") == 1
    assert form_of(answer, path) == fields | {"name": fields["name"].strip()}
    assert (await read(plain))["phone"] is None
    new = {name: value for name, value in fields.items() if name not in {"was", "etag"}}
    again = await plain.post("/customers/new", data={"name": "X", "email": "x@x.org"} | new)
    assert again.status_code == 422
    assert form_of(again, "/customers/new")["phone"] == fields["phone"]


async def test_a_customer_is_created(plain: Browser, service: Service) -> None:
    asked = form_of(await plain.get("/customers/new"), "/customers/new")
    fields = asked | {"name": RTL, "email": "mary@example.com", "city": "Aleppo", "segment": "vip"}
    answer = await plain.post("/customers/new", data=fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "/customers/CUST-1001")
    page = await plain.get("/customers/CUST-1001")
    assert RTL in page.text
    assert "Customer created." in words(page)
    assert "Customer created." not in words(await plain.get("/customers/CUST-1001"))
    customer = await read(plain)
    assert (customer["segment"], customer["segmentSource"], customer["segmentPinned"]) == (
        "vip",
        "manual",
        False,
    )
    [row] = await service.rows("SELECT phone_at, address_at FROM customers")
    assert row["phone_at"] is None, "an event may still set the phone"


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"segment": "vip", "keep": "good"}, ("vip", "manual", True, None)),
        ({"segment": "at_risk", "keep": "order"}, ("at_risk", "manual", False, None)),
        (
            {"segment": "vip", "keep": "date", "until": "2100-02-28"},
            ("vip", "manual", False, "2100-03-01T06:00:00Z"),
        ),
        ({"segment": ""}, ("new", "rules", False, None)),
    ],
)
async def test_a_segment_is_held_for_the_chosen_time(
    plain: Browser, service: Service, chosen: dict[str, str], expected: tuple[object, ...]
) -> None:
    await move_to(service, "America/Chicago")
    await create(plain, segment="inactive", segmentPinned=True)
    fields = await edit_form(plain)
    assert (fields["segment"], fields["keep"]) == ("inactive", "good")
    assert (await plain.post("/customers/CUST-1001/edit", data=fields | chosen)).status_code == 303
    customer = await read(plain)
    held = ("segment", "segmentSource", "segmentPinned", "segmentPinnedUntil")
    assert tuple(customer[name] for name in held) == expected
    assert {**await edit_form(plain), "etag": "", "was": ""} == {
        **fields,
        "keep": "order",
        "until": "",
        **chosen,
        "etag": "",
        "was": "",
    }


async def test_an_edit_by_somebody_else_is_shown_beside_the_own_edit(plain: Browser) -> None:
    await create(plain, phone="1", notes="old")
    path = "/customers/CUST-1001/edit"
    fields = await edit_form(plain) | {"phone": "2", "city": "Austin", "name": "Jane Doe"}
    await patch(plain, phone="3", notes="theirs", name="Jane Doe", segment="vip")
    answer = await plain.post(path, data=fields)
    assert answer.status_code == 409
    assert "Your other changes will be saved as well: Name, City." in words(answer)
    offered = form_of(answer, path)
    assert {n: v for n, v in offered.items() if n.startswith("take.")} == {
        "take.phone": "mine",
        "take.segment": "theirs",
        "take.notes": "theirs",
    }
    assert (await read(plain))["phone"] == "3"
    assert (await plain.post(path, data=offered)).status_code == 303
    customer = await read(plain)
    assert (customer["phone"], customer["notes"], customer["segment"]) == ("2", "theirs", "vip")
    assert (customer["address"]["city"], customer["name"]) == ("Austin", "Jane Doe")


async def test_the_other_value_can_be_chosen_in_a_conflict(plain: Browser) -> None:
    await create(plain, phone="1", notes="old")
    path = "/customers/CUST-1001/edit"
    fields = await edit_form(plain) | {"phone": "2"}
    await patch(plain, phone="3", notes="theirs")
    offered = form_of(await plain.post(path, data=fields), path)
    await patch(plain, phone="4")
    chosen = offered | {"take.phone": "theirs", "take.notes": "mine"}
    again = await plain.post(path, data=chosen)
    assert again.status_code == 409, "edited once more, so the form asks once more"
    offered = form_of(again, path)
    assert (offered["take.phone"], offered["notes"]) == ("theirs", "old")
    assert "take.notes" not in offered
    assert (await plain.post(path, data=offered)).status_code == 303
    customer = await read(plain)
    assert (customer["phone"], customer["notes"]) == ("4", "old")


async def test_a_change_by_the_rules_alone_is_no_conflict(plain: Browser, service: Service) -> None:
    await create(plain)
    fields = await edit_form(plain) | {"notes": "called"}
    await service.ingest(*(entry(f"ORD-{n}", email="jane@example.com") for n in range(3)))
    assert (await read(plain))["segment"] == "vip"
    assert (await plain.post("/customers/CUST-1001/edit", data=fields)).status_code == 303
    assert (await read(plain))["notes"] == "called"


async def test_an_unknown_segment_is_refused(plain: Browser) -> None:
    await create(plain)
    fields = await edit_form(plain) | {"segment": "platinum"}
    answer = await plain.post("/customers/CUST-1001/edit", data=fields)
    assert answer.status_code == 422
    assert "Segment is not one of the choices." in words(answer)


@pytest.mark.parametrize("was", ["", "{", "[]", "{}", "null", '{"name": "x"}'])
async def test_a_form_without_its_original_values_is_refused(plain: Browser, was: str) -> None:
    await create(plain)
    fields = await edit_form(plain) | {"was": was, "name": "X"}
    assert (await plain.post("/customers/CUST-1001/edit", data=fields)).status_code == 422
    assert (await read(plain))["name"] == "Jane Smith"


async def test_the_profile_explains_the_segment_and_lists_what_happened(
    plain: Browser, service: Service, now: datetime
) -> None:
    last = now - timedelta(days=10)
    await service.ingest(
        entry("ORD-1", email="a@x.org", name="Ann", total="300", created=last - timedelta(days=9)),
        entry("ORD-2", email="a@x.org", total="79.50", refunded="10", created=last),
        entry("ORD-3", email="a@x.org", total="50", status="cancelled", created=last),
    )
    await patch(plain, notes="likes tea")
    said = words(await plain.get("/customers/CUST-1001"))
    for expected in (
        "Orders 2 ",
        "Total spent $369.50",
        "Average order $184.75",
        "Because they have ordered more than once, and no other rule fits.",
        "VIP with 1 more order, or $130.50 more spent",
        "An order now would make them VIP",
        "ORD-3",
        "Does not count: cancelled.",
        "1 order does not count: 1 cancelled.",
        "$10.00",
        "likes tea",
        "Customer edited by the local user",
        "Marketing consent none",
        "Notes: empty → likes tea",
        "Returning because of an order",
    ):
        assert expected in said, expected
    assert re.search(r"At Risk on \w+ \d+, \d{4} unless they order", said)
    await patch(plain, segment="inactive", segmentPinned=True)
    held = words(await plain.get("/customers/CUST-1001"))
    assert "kept for good" in held
    assert "By the rules they would be Returning" in held
    assert "unless they order" not in held


async def test_long_lists_are_shown_in_pieces(
    plain: Browser, service: Service, now: datetime
) -> None:
    await service.ingest(
        *(
            entry(f"ORD-{n:02}", email="a@x.org", created=now - timedelta(days=n), event_id=f"e{n}")
            for n in range(12)
        )
    )
    page = await plain.get("/customers/CUST-1001")
    rows = r'<th scope="row" class="id'
    assert len(re.findall(rows, page.text)) == 10
    [more] = re.findall(r'href="(/customers/CUST-1001\?orders=[^"]*)"', page.text)
    page = await plain.get(html.unescape(more))
    assert len(re.findall(rows, page.text)) == 12
    assert "Show more orders" not in page.text
    for odd in ("orders=x", "orders=-1", "orders=99999999999", "events=٣"):
        assert (await plain.get(f"/customers/CUST-1001?{odd}")).status_code == 200


async def test_interactions_are_added_and_removed_only_by_their_author(
    plain: Browser, service: Service
) -> None:
    await move_to(service, "America/Chicago")
    await create(plain)
    path = "/customers/CUST-1001/interactions"
    bad = await plain.post(path, data={"kind": "call", "text": " ", "when": "noon"})
    assert bad.status_code == 422
    assert "This must not be blank." in words(bad)
    assert "Enter a date and a time." in words(bad)
    assert form_of(bad, path)["when"] == "noon"
    fields = {"kind": "meeting", "text": "Lunch", "when": "2026-01-02T12:00"}
    assert (await plain.post(path, data=fields)).status_code == 303
    [noted] = (await plain.get(f"/api/v1{path}")).json()["items"]
    assert (noted["happenedAt"], noted["author"]) == ("2026-01-02T18:00:00Z", "local")
    assert "Lunch" in words(await plain.get("/customers/CUST-1001"))
    await service.execute("UPDATE interactions SET author = 'somebody else'")
    page = await plain.get("/customers/CUST-1001")
    assert f"{path}/{noted['id']}/remove" not in page.text
    assert (await plain.post(f"{path}/{noted['id']}/remove")).status_code == 404
    await service.execute("UPDATE interactions SET author = 'local'")
    page = await plain.get("/customers/CUST-1001")
    assert f"{path}/{noted['id']}/remove" in page.text
    assert (await plain.post(f"{path}/{noted['id']}/remove")).status_code == 303
    assert (await plain.get(f"/api/v1{path}")).json()["total"] == 0


async def test_a_former_email_is_still_shown(plain: Browser, service: Service) -> None:
    await service.ingest(entry(email="jnae@example.com"))
    await patch(plain, email="jane@example.com")
    said = words(await plain.get("/customers/CUST-1001"))
    assert re.search(r"jnae@example\.com E-mail [^@]*, from an order 1 ", said)
    assert re.search(r" jane@example\.com E-mail [^@]*, entered by the local user 0 ", said)
    assert "Orders that come with one of these belong to this customer." in said


async def test_the_confirmation_of_a_deletion_lists_what_goes_and_what_stays(
    plain: Browser, service: Service
) -> None:
    await service.ingest(
        entry(email="jane@example.com", name="Jane", total="1234.50"),
        entry("ORD-2", email="jane@example.com", total="-1"),
    )
    await service.ingest(entry("jane@example.com-3", email="jane@example.com", total="0"))
    await patch(plain, notes="x", email="jane.smith@example.com")
    await create(plain, email="other@example.com", name="Other", notes="ask jane@example.com")
    await plain.post(
        "/customers/CUST-1001/interactions", data={"kind": "note", "text": "x", "when": ""}
    )
    asked = await plain.get("/customers/CUST-1001/delete")
    said = words(asked)
    assert "2 orders of $1,234.50, without a name" in said
    assert "1 order ID that holds an e-mail, phone or name, replaced by a pseudonym" in said
    assert "The order events in Redis are deleted within minutes" in said
    assert "CUST-1002 : notes," in said
    assert "marketing consent, notes" in said
    assert "1 call, e-mail, meeting or note" in said
    assert "the old and new values of 1 edit" in said
    assert "1 dead letter that names them" in said, "the one with their former e-mail"
    assert "Delete Jane " in said
    assert (await service.rows("SELECT count(*) AS n FROM customers")) == [{"n": 2}]
    answer = await plain.post("/customers/CUST-1001/delete")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "Customer deleted." in words(await plain.get("/"))
    assert (await service.rows("SELECT count(*) AS n FROM customers")) == [{"n": 1}]
    [letter] = await service.rows("SELECT error FROM dead_letters")
    assert letter["error"] == "erased with the person it named"


async def test_an_unknown_customer_is_not_found(plain: Browser) -> None:
    for strange in ("CUST-1", "1001", "CUST-x", "CUST-999999999999999999"):
        for path in ("", "/edit", "/delete"):
            answer = await plain.get(f"/customers/{strange}{path}")
            assert answer.status_code == 404
            assert "There is no customer with this id." in words(answer)
        for path in ("/delete", "/interactions", "/interactions/1/remove"):
            fields = {"kind": "note", "text": "x"}
            assert (await plain.post(f"/customers/{strange}{path}", data=fields)).status_code == 404


async def test_each_role_sees_and_may_do_only_what_its_scopes_allow(web: Web) -> None:
    async with open_browser(web) as local:
        await create(local)
    await user(web, Role.EDITOR)
    await user(web, Role.VIEWER, "viewer@example.com")
    async with open_browser(web) as viewer:
        await viewer.sign_in("viewer@example.com")
        page = await viewer.get("/customers/CUST-1001")
        assert page.status_code == 200
        for hidden in ("/edit", "/delete", "<textarea"):
            assert hidden not in page.text
        proof = {"x-csrf-token": await token(viewer)}
        for path in ("/customers/new", "/customers/CUST-1001/edit", "/customers/CUST-1001/delete"):
            assert (await viewer.get(path)).status_code == 403
            assert (await viewer.post(path, headers=proof)).status_code == 403
    async with open_browser(web) as editor:
        await editor.sign_in()
        fields = await edit_form(editor) | {"name": "Jane Doe"}
        forged = fields | {"csrf": "x"}
        assert (await editor.post("/customers/CUST-1001/edit", data=forged)).status_code == 403
        assert (await editor.post("/customers/CUST-1001/edit", data=fields)).status_code == 303
        assert "An admin can add them here" in (own := await editor.get("/fields")).text
        assert "<form" not in own.text.partition("<main")[2].partition("</main>")[0]
        field = {"label": "Size", "kind": "number", "csrf": fields["csrf"]}
        for path in ("/fields", "/fields/size", "/fields/size/delete"):
            assert (await editor.post(path, data=field)).status_code == 403
        for path, more in (
            ("/customers/new", {"name": "N", "email": "n@x.org"}),
            ("/customers/CUST-1001/interactions", {"kind": "note", "text": "x"}),
            ("/customers/CUST-1001/interactions/1/remove", {}),
        ):
            assert (await editor.post(path, data=more)).status_code == 403
            answer = await editor.post(path, data=more | {"csrf": fields["csrf"]})
            assert answer.status_code == 303, path
        delete = "/customers/CUST-1001/delete"
        assert delete not in (await editor.get("/customers/CUST-1001")).text
        assert (await editor.get(delete)).status_code == 403
        assert (await editor.post(delete, data={"csrf": fields["csrf"]})).status_code == 403
    await user(web, Role.ADMIN, "admin@example.com")
    async with open_browser(web) as admin:
        await admin.sign_in("admin@example.com")
        assert delete in (await admin.get("/customers/CUST-1001")).text
        assert (await admin.post(delete, data={"csrf": await token(admin)})).status_code == 303


async def token(visitor: Browser) -> str:
    found = re.search(r'data-csrf="(\w+)"', (await visitor.get("/")).text)
    assert found
    return found[1]


# In a real browser -------------------------------------------------------------------------------


async def stocked(site: Site) -> None:
    """Add three customers: with a history, with markup as a name, with an Arabic name."""
    now = datetime.now(UTC)
    evil = {"street": EVIL, "city": EVIL}
    await site.service.ingest(
        *(
            entry(
                f"ORD-{n:02}-{'x' * 60}",
                email="jane@example.com",
                name="Jane Smith",
                created=now - timedelta(days=n),
            )
            for n in range(12)
        ),
        entry("ORD-E", email="evil@example.com", name=EVIL, phone=EVIL, shippingAddress=evil),
        entry("ORD-R", email="maryam@example.com", name=RTL),
    )


def row(tab: Page, text: str) -> Locator:
    return tab.locator("#results tr").filter(has_text=text)


async def assert_accessible(tab: Page) -> None:
    assert await serious_faults(tab) == []


async def test_a_customer_is_created_held_and_deleted_in_dialogs(site: Site, tab: Page) -> None:
    await stocked(site)
    await tab.goto("/?sort=name#q=e")
    dialog = tab.locator("#dialog")
    await tab.get_by_role("link", name="New Customer").click()
    await expect(dialog.get_by_label("Name")).to_be_focused()
    await dialog.get_by_label("Name").fill("Ada")
    await dialog.get_by_label("E-mail", exact=True).fill("JANE@example.com")
    await dialog.get_by_role("button", name="Create customer").click()
    await expect(dialog.get_by_label("E-mail", exact=True)).to_be_focused()
    await expect(dialog.locator(".fault")).to_have_text(re.compile("already belongs to CUST-"))
    await assert_accessible(tab)
    await dialog.get_by_label("E-mail", exact=True).fill("ada@example.com")
    await dialog.get_by_role("button", name="Create customer").click()
    await expect(tab.locator("#toast")).to_have_text("Customer created.")
    await expect(dialog.locator("h1")).to_have_text("Ada")
    await dialog.get_by_label("What happened").fill("Asked about delivery")
    await dialog.get_by_role("button", name="Add", exact=True).click()
    await expect(tab.locator("#toast")).to_have_text("Interaction added.")
    await expect(dialog.locator(".log .words").first).to_have_text("Asked about delivery")
    await dialog.get_by_role("link", name="Edit").click()
    await dialog.get_by_label("Segment").select_option("vip")
    await dialog.get_by_label("Keep it").select_option("good")
    await dialog.get_by_role("button", name="Save changes").click()
    await expect(dialog.locator(".why")).to_contain_text("kept for good")
    await expect(tab).to_have_url(re.compile("/customers/CUST-"))
    await assert_accessible(tab)
    await tab.keyboard.press("Escape")
    await expect(dialog).not_to_be_visible()
    await expect(tab).to_have_url(re.compile(r"/\?sort=name#q=e$"))
    await expect(row(tab, "Ada")).to_contain_text("VIP")
    await row(tab, "Ada").get_by_role("link", name="Delete").click()
    await assert_accessible(tab)
    await dialog.get_by_role("button", name="Delete Ada").click()
    await expect(tab.locator("#toast")).to_have_text(re.compile("Customer deleted"))
    await expect(row(tab, "Ada")).to_have_count(0)
    await expect(tab).to_have_url(re.compile(r"/\?sort=name#q=e$"))
    await expect(row(tab, "Jane Smith")).to_have_count(1)


async def test_a_conflict_is_settled_in_the_dialog(site: Site, tab: Page) -> None:
    await stocked(site)
    await tab.goto("/")
    dialog = tab.locator("#dialog")
    await row(tab, "Jane Smith").get_by_role("link", name="Edit").click()
    await dialog.get_by_label("Name").fill("Jane Mine")
    path = await dialog.locator("form").get_attribute("action") or ""
    await tab.request.patch(
        f"/api/v1{path.removesuffix('/edit')}", data={"name": "Jane Theirs", "phone": "7"}
    )
    await dialog.get_by_role("button", name="Save changes").click()
    await expect(dialog.locator("h1")).to_have_text("Changed by somebody else")
    await expect(dialog.get_by_label("Name: yours, Jane Mine")).to_be_checked()
    await expect(dialog.get_by_label("Phone: theirs, 7")).to_be_checked()
    await assert_accessible(tab)
    await dialog.get_by_role("button", name="Save this choice").click()
    await expect(dialog.locator("h1")).to_have_text("Jane Mine")
    await expect(dialog).to_contain_text("7")


async def test_a_click_is_not_lost_when_the_list_updates(site: Site, tab: Page) -> None:
    """The mouse is pressed, the list is replaced, and the mouse is released."""
    await stocked(site)
    looks: asyncio.Queue[Route] = asyncio.Queue()

    async def hold(route: Route) -> None:
        if await route.request.header_value("x-background"):
            await looks.put(route)
        else:
            await route.continue_()

    await tab.route(f"{site.url}/", hold)
    await tab.goto("/")
    look = await looks.get()
    await row(tab, "Jane Smith").get_by_role("link", name="Edit").hover()
    await tab.mouse.down()
    async with tab.expect_event("requestfinished", lambda it: it == look.request):
        await look.continue_()
    await tab.evaluate(
        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )
    await tab.mouse.up()
    await expect(tab.locator("#dialog").get_by_label("Name")).to_have_value("Jane Smith")
    await tab.keyboard.press("Escape")
    async with asyncio.timeout(PATIENCE / 1000):  # the update that was put off comes now
        await (await looks.get()).continue_()


async def test_typed_input_is_not_discarded_without_asking(site: Site, tab: Page) -> None:
    await stocked(site)
    await tab.goto("/")
    dialog = tab.locator("#dialog")
    await row(tab, "Jane Smith").get_by_role("link", name="Edit").click()
    await dialog.get_by_label("Phone").fill("123")
    tab.once("dialog", lambda it: it.dismiss())
    await dialog.get_by_role("link", name="Close").click()
    await expect(dialog.get_by_label("Phone")).to_have_value("123")
    await tab.route("**/edit", lambda route: route.abort())
    await dialog.get_by_role("button", name="Save changes").click()
    await expect(tab.locator("#toast")).to_contain_text("What you typed is still here")
    await expect(dialog.get_by_label("Phone")).to_have_value("123")
    await tab.unroute("**/edit")
    await dialog.get_by_role("button", name="Save changes").click()
    await expect(tab.locator("#toast")).to_have_text("Changes saved.")


async def test_markup_in_customer_data_is_inert(site: Site, tab: Page) -> None:
    await stocked(site)
    alerts: list[str] = []
    tab.on("dialog", lambda it: alerts.append(it.message))
    await tab.goto("/?q=evil")
    dialog = tab.locator("#dialog")
    [at] = [
        f"/customers/{it['id']}"
        for it in (await (await tab.request.get("/api/v1/customers?search=evil")).json())["items"]
    ]
    await tab.request.patch(f"/api/v1{at}", data={"notes": EVIL})
    await tab.request.post(f"/api/v1{at}/interactions", data={"kind": "call", "text": EVIL})
    for name in ("View", "Edit", "Delete"):
        await row(tab, "evil@").get_by_role("link", name=name).click()
        await expect(dialog).to_be_visible()
        await expect(dialog.locator("img, script")).to_have_count(0)
        await expect(dialog.locator(".sheet")).to_contain_text("onerror")
        await tab.keyboard.press("Escape")
        await expect(dialog).not_to_be_visible()
    await tab.goto(at)
    await expect(tab.locator("h1")).to_have_text(EVIL)
    assert alerts == []


async def test_an_edit_from_a_profile_page_returns_to_it(site: Site, tab: Page) -> None:
    await stocked(site)
    found = await (await tab.request.get("/api/v1/customers?search=jane@")).json()
    await tab.goto(f"/customers/{found['items'][0]['id']}")
    dialog = tab.locator("#dialog")
    await tab.get_by_role("link", name="Edit").click()
    await dialog.get_by_label("Name").fill("Jane Doe")
    await dialog.get_by_role("button", name="Save changes").click()
    await expect(tab.locator("#toast")).to_have_text("Changes saved.")
    await expect(dialog).not_to_be_visible()
    await expect(tab.locator("#main h1")).to_have_text("Jane Doe")


@pytest.mark.parametrize("width", [390, 1300])
async def test_no_dialog_is_wider_than_the_screen(site: Site, tab: Page, width: int) -> None:
    await stocked(site)
    await tab.set_viewport_size({"width": width, "height": 800})
    await tab.goto("/?sort=name")
    dialog = tab.locator("#dialog")
    for who in ("Jane Smith", "evil@", "maryam@"):
        for name in ("View", "Edit", "Delete"):
            await row(tab, who).get_by_role("link", name=name).click()
            await expect(dialog).to_be_visible()
            for part in await dialog.locator(".sheet, .scroll").all():
                assert await part.evaluate("it => it.scrollWidth - it.clientWidth") <= 0
            await tab.keyboard.press("Escape")
            await expect(dialog).not_to_be_visible()


async def test_showing_more_orders_keeps_the_scroll_position(site: Site, tab: Page) -> None:
    await stocked(site)
    await tab.goto("/")
    dialog = tab.locator("#dialog")
    await row(tab, "Jane Smith").get_by_role("link", name="View").click()
    rows = dialog.locator("section:has(#orders) tbody tr")
    await expect(rows).to_have_count(10)
    await dialog.get_by_role("link", name="Show more orders").click()
    await expect(rows).to_have_count(12)
    assert await dialog.locator(".sheet").evaluate("it => it.scrollTop") > 0
    await tab.keyboard.press("Escape")
    await expect(tab).to_have_url(f"{site.url}/")
