"""Own fields on the pages, without scripts: defined, filled in, shown, filtered by."""

import csv
import html
import io
from typing import Any

import httpx
import pytest

from tests.conftest import Service
from tests.events import entry

KINDS = {"Allergies": "text", "Shoe size": "number", "Birthday": "date", "Skin type": "choice"}


async def _define(web: httpx.AsyncClient) -> None:
    """Define a field of each kind on the page."""
    for label, kind in KINDS.items():
        form = {"label": label, "kind": kind, "more": "Dry\r\nOily\r\n\r\nMixed & more"}
        answer = await web.post("/fields", data=form)
        assert answer.headers["location"] == "/fields", answer.text


async def _shop(service: Service, web: httpx.AsyncClient) -> None:
    """Define the fields, and give four customers values."""
    await _define(web)
    await service.ingest(*(entry(f"ORD-{n}", email=f"c{n}@x.org") for n in range(5)))
    values: list[dict[str, Any]] = [
        {"allergies": "Nuts, Milk", "shoe_size": 42.5, "birthday": "1990-04-01"},
        {"allergies": "ÄPFEL", "shoe_size": 40, "skin_type": "Dry"},
        {"shoe_size": -7, "birthday": "2001-12-31", "skin_type": "Mixed & more"},
        {"allergies": "100% 42", "birthday": "1990-04-02", "skin_type": "Oily"},
    ]
    for n, fields in enumerate(values):
        path = f"/api/v1/customers/CUST-{1001 + n}"
        assert (await web.patch(path, json={"fields": fields})).status_code == 200


async def _page(web: httpx.AsyncClient, path: str, **query: str) -> str:
    answer = await web.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return html.unescape(answer.text)


async def test_an_admin_defines_fields_on_their_page(web: httpx.AsyncClient) -> None:
    assert "No own fields yet" in await _page(web, "/fields")
    await _define(web)
    page = await _page(web, "/fields")
    assert page.index("Allergies") < page.index("Birthday") < page.index("Skin type")
    assert "field:shoe_size" in page
    assert "Tags, External ID" in (imports := await _page(web, "/imports"))
    assert "field:allergies, field:shoe_size" in imports
    assert "Dry, Oily, Mixed & more" in page
    taken = await web.post("/fields", data={"label": "shoe size", "kind": "text"})
    assert (taken.status_code, "is the label of another field" in taken.text) == (422, True)
    assert 'value="shoe size"' in taken.text, "what was typed is still there"
    for wrong in ({"label": " ", "kind": "text"}, {"label": "x", "kind": ""}, {"label": "x" * 999}):
        assert (await web.post("/fields", data=wrong)).status_code == 422
    await web.post("/fields/birthday", data={"position": "1"})
    await web.post("/fields/birthday", data={"label": "Date of birth"})
    changed = {"label": "Skin", "more": "Normal", "was.0": "Dry", "choice.0": "Very dry"}
    changed |= {"was.1": "Oily", "choice.1": "Oily", "was.2": "Mixed & more", "choice.2": " "}
    assert (await web.post("/fields/skin_type", data=changed)).status_code == 303
    fields = (await web.get("/api/v1/fields")).json()["items"]
    assert [field["label"] for field in fields] == [
        *("Date of birth", "Allergies", "Shoe size", "Skin")
    ]
    assert fields[-1]["choices"] == ["Very dry", "Oily", "Normal"]
    assert "No customer has a value" in await _page(web, "/fields/skin_type/delete")
    assert (await web.post("/fields/skin_type/delete")).headers["location"] == "/fields"
    assert "Skin" not in await _page(web, "/fields")
    assert (await web.get("/fields/skin_type/delete")).status_code == 404


async def test_fields_are_filled_in_with_the_customer_and_shown(
    service: Service, web: httpx.AsyncClient
) -> None:
    await _define(web)
    own = {
        "field.allergies": " nuts  & milk ",
        "field.shoe_size": "42.50",
        "field.birthday": "1990-04-01",
        "field.skin_type": "Mixed & more",
    }
    created = await web.post("/customers/new", data={"name": "Ana", **own})
    assert created.headers["location"] == "/customers/CUST-1001", created.text
    page = await _page(web, "/customers/CUST-1001")
    for words in ("nuts & milk", "42.5", "Apr 1, 1990", "Mixed & more"):
        assert words in page
    form = await _page(web, "/customers/CUST-1001/edit")
    assert 'name="field.shoe_size" value="42.5"' in form
    assert 'type="date" id="edit-field.birthday" name="field.birthday" value="1990-04-01"' in form
    assert "<option selected>Mixed & more</option>" in form
    was = form.partition('name="was" value="')[2].partition('">')[0]
    etag = form.partition('name="etag" value="')[2].partition('">')[0]
    etag = etag if etag.endswith('"') else etag + '"'
    sent = {**own, "name": "Ana", "keep": "order", "was": was, "etag": etag}
    edit = "/customers/CUST-1001/edit"
    wrong = {"field.shoe_size": "42,5", "field.birthday": "soon", "name": "Anna"}
    refused = await web.post(edit, data={**sent, **wrong})
    assert refused.status_code == 422
    assert "Shoe size must be a number, such as 42 or 99.5." in refused.text
    assert "Birthday must be a date, such as 2026-11-28." in refused.text
    assert 'value="42,5"' in refused.text
    assert "Ana" in await _page(web, "/customers/CUST-1001")
    saved = await web.post(edit, data={**sent, "field.shoe_size": "", "field.skin_type": "Dry"})
    assert saved.status_code == 303, saved.text
    values = (await web.get("/api/v1/customers/CUST-1001")).json()["fields"]
    assert values == {"allergies": "nuts & milk", "birthday": "1990-04-01", "skin_type": "Dry"}
    page = await _page(web, "/customers/CUST-1001")
    assert "Shoe size: <span" in page, "the timeline calls it by its label"
    assert "field.shoe_size" not in page
    # The same form again: somebody else has changed what it was shown with.
    clash = await web.post(edit, data={**sent, "field.skin_type": "Oily"})
    assert (clash.status_code, "Skin type: yours, Oily" in clash.text) == (409, True)
    assert await service.findings() == []


FILTERS = [
    ("field.allergies", "nuts", []),
    ("field.allergies", "äpfel", [1002]),
    ("field.allergiesContains", "MILK", [1001]),
    ("field.allergiesContains", "%", [1004]),
    ("field.allergiesEmpty", "yes", [1003, 1005]),
    ("field.allergiesEmpty", "no", [1001, 1002, 1004]),
    ("field.shoe_sizeFrom", "40", [1001, 1002]),
    ("field.shoe_sizeFrom", "-7.0", [1001, 1002, 1003]),
    ("field.shoe_sizeTo", "40", [1002, 1003]),
    ("field.shoe_size", "42.5,40", [1001, 1002]),
    ("field.birthdayFrom", "1990-04-02", [1003, 1004]),
    ("field.birthdayTo", "1990-04-02", [1001, 1004]),
    ("field.birthday", "1990-04-01", [1001]),
    ("field.skin_type", "dry,OILY", [1002, 1004]),
    ("field.allergies", "a\u0308pfel", [1002]),
    ("field.skin_typeEmpty", "yes", [1001, 1005]),
]


async def test_filters_choose_the_same_in_lists_pages_exports_views_and_bulk_changes(
    service: Service, web: httpx.AsyncClient
) -> None:
    await _shop(service, web)
    for n, (name, value, numbers) in enumerate(FILTERS):
        expected = [f"CUST-{number}" for number in numbers]
        query = {name: value}
        listed = await web.get("/api/v1/customers", params={**query, "sort": "dateCreated"})
        assert listed.status_code == 200, listed.text
        assert sorted(c["id"] for c in listed.json()["items"]) == expected, name
        assert listed.json()["total"] == len(expected), name
        posted = (await web.post("/api/v1/customers/search", json=query)).json()
        assert sorted(c["id"] for c in posted["items"]) == expected, name
        exported = await web.get("/api/v1/customers/export.csv", params={**query, "bom": "no"})
        assert [row["ID"] for row in csv.DictReader(io.StringIO(exported.text))] == expected, name
        page = await _page(web, "/", **query)
        for number in range(1001, 1006):
            assert (f'name="pick.{number}"' in page) == (number in numbers), name
        would = await web.post(
            "/api/v1/bulk-changes/preview", json={"kind": "add_tag", "tag": "x", "filter": query}
        )
        assert would.json()["matching"] == len(expected), name
        view = {"name": f"View {n}", "filter": query}
        saved = await web.post("/api/v1/views", json=view)
        assert saved.status_code == 201, saved.text
        of_view = await web.get(f"/api/v1/views/{saved.json()['id']}/customers")
        assert sorted(c["id"] for c in of_view.json()["items"]) == expected, name
        opened = await web.get(f"/views/{saved.json()['id']}")
        assert "Remove filter: " in (await web.get(opened.headers["location"])).text
    assert (await web.get("/views")).status_code == 200
    together = {"field.shoe_sizeFrom": "0", "field.allergiesContains": "n", "segment": "new"}
    assert (await web.get("/api/v1/customers", params=together)).json()["total"] == 1


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("field.nothing", "x", "nothing, which is not a field; the fields are allergies"),
        ("field.skin_type", "Wet", "one of Dry, Oily, Mixed & more"),
        ("field.skin_typeFrom", "1", "use field.skin_type, field.skin_typeEmpty"),
        ("field.allergiesFrom", "1", "use field.allergiesContains, field.allergies,"),
        ("field.shoe_sizeFrom", "1990-04-01", "must be a number such as 42"),
        ("field.shoe_sizeFrom", "many", "must be a number such as 42, or a day"),
        ("field.shoe_size", "42.50", "written like 42.5"),
        ("field.skin_type", "ＤＲＹ", "written like Dry"),
        ("field.birthdayTo", "7", "must be a day such as 2026-11-28"),
        ("field.birthday", "soon", "must be a date"),
        ("field.allergiesEmpty", "maybe", "valid boolean"),
        ("field.allergiesContains", "x" * 101, "100 characters"),
    ],
)
async def test_a_filter_that_does_not_fit_is_refused_and_left_out_in_no_export(
    service: Service, web: httpx.AsyncClient, name: str, value: str, why: str
) -> None:
    await _shop(service, web)
    query = {name: value}
    asked = (
        (await web.get("/api/v1/customers", params=query), "query"),
        (await web.post("/api/v1/customers/search", json=query), "body"),
        (await web.get("/api/v1/customers/export.csv", params=query), "query"),
        (await web.post("/api/v1/views", json={"name": "V", "filter": query}), "body.filter"),
        (
            await web.post(
                "/api/v1/bulk-changes", json={"kind": "add_tag", "tag": "x", "filter": query}
            ),
            "body.filter",
        ),
    )
    for answer, where in asked:
        assert answer.status_code == 422, answer.text
        (fault,) = answer.json()["errors"]
        assert fault["where"] == f"{where}.{name}"
        assert why in fault["message"]
    page = await web.get("/", params=query)
    assert (page.status_code, "is not used" in page.text) == (422, True)
    for path in ("/export", "/bulk-tag/apply"):
        assert (await web.post(path, data=query)).status_code == 422
    many = {f"field.a{n}": "x" for n in range(41)}
    refused = await web.post("/api/v1/customers/search", json=many)
    assert "more than 40 filters by own fields" in refused.text
    unknown = await web.post("/api/v1/customers/search", json={"fields": 1})
    assert unknown.json()["errors"][0]["where"] == "body.fields"
    assert (await web.get("/api/v1/customers", params={"fields": "1"})).status_code == 200


async def test_a_view_follows_renamed_choices_and_chooses_nobody_once_its_field_is_gone(
    service: Service, web: httpx.AsyncClient
) -> None:
    await _shop(service, web)
    paths = []
    for query in ({"field.skin_type": ["dry", "Oily"]}, {"field.skin_typeEmpty": True}):
        saved = await web.post("/api/v1/views", json={"name": str(query), "filter": query})
        paths.append(f"/api/v1/views/{saved.json()['id']}")
    renamed = {"renamed": {"Dry": "Very dry"}}
    assert (await web.patch("/api/v1/fields/skin_type", json=renamed)).status_code == 200
    view = (await web.get(paths[0])).json()
    assert view["filter"] == {"field.skin_type": ["Very dry", "Oily"]}
    assert (await web.get(f"{paths[0]}/customers")).json()["total"] == 2
    await web.delete("/api/v1/fields/skin_type")
    for path in paths:
        answer = await web.get(f"{path}/customers")
        assert (answer.status_code, "is not a field" in answer.text) == (422, True)
        assert (await web.get(f"{path}/export.csv")).status_code == 422
        page = path.removeprefix("/api/v1")
        assert (await web.post(f"{page}/export")).status_code == 422
        opened = await web.get((await web.get(page)).headers["location"])
        assert (opened.status_code, "is not used" in opened.text) == (422, True)
    assert (await web.get("/views")).status_code == 200


async def test_the_form_of_filters_has_a_control_for_each_question(
    service: Service, web: httpx.AsyncClient
) -> None:
    assert "Own fields" not in await _page(web, "/")
    await _shop(service, web)
    page = await _page(web, "/", **{"field.skin_type": "Dry", "field.birthdayFrom": "1990-04-01"})
    assert "Skin type: Dry" in page
    assert "Birthday from Apr 1, 1990" in page
    assert '<input type="hidden" name="field.skin_type" value="Dry">' in page, "other filters keep"
    filters = {"field.skin_type": "Dry,Wet", "q": "x.org", "ordersFrom": "1", "page": "2"}
    page = html.unescape((await web.post("/filter-fields", data=filters)).text)
    assert "This must be one of Dry, Oily, Mixed & more: 'Wet' is not." in page
    assert '<input type="hidden" name="q" value="x.org">' in page
    assert '<input type="hidden" name="ordersFrom" value="1">' in page
    assert (await web.get("/filter-fields")).headers["location"] == "/"
    for name in (
        *("allergiesContains", "allergiesEmpty", "shoe_sizeFrom", "shoe_sizeTo", "shoe_sizeEmpty"),
        *("birthdayFrom", "birthdayTo", "birthdayEmpty", "skin_type", "skin_typeEmpty"),
    ):
        assert page.count(f'name="field.{name}"') == 1, name
    taken = {"without": "field.skin_type", "field.skin_type": "Dry", "field.shoe_sizeTo": "9"}
    left = (await web.post("/", data=taken)).headers["location"]
    assert left == "/?field.shoe_sizeTo=9"


async def test_a_merge_shows_own_fields(service: Service, web: httpx.AsyncClient) -> None:
    await _shop(service, web)
    page = await _page(web, "/customers/CUST-1001/merge/CUST-1002")
    assert "Shoe size" in page
    assert "Apr 1, 1990" in page
    assert "Own fields keep the value of CUST-1001" in page
    body = {"other": "CUST-1002"}
    answer = await web.post(
        "/api/v1/customers/CUST-1001/merge", params={"dryRun": "true"}, json=body
    )
    kept = {each["field"]: each["from"] for each in answer.json()["fields"]}
    assert kept["field.shoe_size"] == "stays"
    assert kept["field.skin_type"] == "gone"
