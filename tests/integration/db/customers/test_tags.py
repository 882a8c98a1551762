"""Tags: given and taken, renamed and merged, on many customers at once and undone."""

import asyncio
from functools import partial
from typing import Any

import httpx
import pytest

from service.core.bulk_change import BulkKind
from service.db.customers import editing
from service.db.customers.filters import Filter
from service.db.customers.identity.merge import merge
from service.db.customers.identity.split import split
from service.db.customers.tags import bulk, catalogue, tagging
from service.db.customers.tags.tagging import change_tags
from service.db.engine import in_transaction
from service.db.locks import lock_customers
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.customers.conftest import Api


async def _shop(service: Service, people: int = 3) -> None:
    await service.ingest(
        *(entry(f"ORD-{n}", email=f"c{n}@x.org", name=f"C {n}") for n in range(people))
    )


async def _tag(api: Api, number: int, *add: str, remove: tuple[str, ...] = ()) -> list[str]:
    body = {"add": [*add], "remove": [*remove]}
    answer = await api.http.post(f"/api/v1/customers/CUST-{number}/tags", json=body)
    assert answer.status_code == 200, answer.text
    tags: list[str] = answer.json()["tags"]
    return tags


async def _tags(api: Api) -> dict[str, list[str]]:
    """Return the tags of each customer."""
    return {c["id"]: c["tags"] for c in (await api.get(sort="dateCreated", limit=500))["items"]}


async def _bulk(api: Api, kind: str, tag: str, expect: int = 201, **more: Any) -> dict[str, Any]:
    body = {"kind": kind, "tag": tag, "filter": {}, **more}
    answer = await api.http.post("/api/v1/bulk-changes", json=body)
    assert answer.status_code == expect, answer.text
    done: dict[str, Any] = answer.json()
    return done


async def _undo(api: Api, change: dict[str, Any], expect: int = 200) -> dict[str, Any]:
    answer = await api.http.post(f"/api/v1/bulk-changes/{change['id']}/undo")
    assert answer.status_code == expect, answer.text
    done: dict[str, Any] = answer.json()
    return done


async def test_a_tag_is_one_however_it_is_written_and_the_timeline_tells(
    api: Api, service: Service
) -> None:
    await _shop(service)
    before = await api.get("/CUST-1001")
    assert await _tag(api, 1001, "VIP  lunch", "Ärzte") == ["VIP lunch", "Ärzte"]
    assert await _tag(api, 1002, "vip LUNCH", "A\u0308RZTE") == ["VIP lunch", "Ärzte"]
    assert await _tag(api, 1002, "Press", remove=("ärzte", "unknown")) == ["Press", "VIP lunch"]
    listed = (await api.http.get("/api/v1/tags")).json()
    assert [(tag["name"], tag["customers"]) for tag in listed["items"]] == [
        ("Press", 1),
        ("VIP lunch", 2),
        ("Ärzte", 1),
    ]
    found = (await api.http.get("/api/v1/tags", params={"search": "LUNCH"})).json()
    assert [tag["name"] for tag in found["items"]] == ["VIP lunch"]
    timeline = (await api.get("/CUST-1002/timeline"))["items"]
    assert [item["changes"] for item in timeline if item["type"] == "edit"] == [
        {"added": ["Press"], "removed": ["Ärzte"]},
        {"added": ["VIP lunch", "Ärzte"]},
    ]
    after = await api.get("/CUST-1001")
    assert after["dateUpdated"] == before["dateUpdated"], "the customer's row is not touched"
    assert (await api.get("/CUST-1001/data"))["customer"]["tags"] == ["VIP lunch", "Ärzte"]


@pytest.mark.parametrize(
    ("name", "why"),
    [(" ", "blank"), ("a,b", "comma"), ("x" * 256, "255"), ("a\u0007", "control"), ("\x00", "")],
)
async def test_a_text_that_is_no_name_is_refused(
    api: Api, service: Service, name: str, why: str
) -> None:
    await _shop(service, 1)
    answer = await api.http.post("/api/v1/customers/CUST-1001/tags", json={"add": [name]})
    assert answer.status_code == 422
    assert why in answer.json()["errors"][0]["message"]
    missing = await api.http.post("/api/v1/customers/CUST-1009/tags", json={"add": ["x"]})
    assert missing.status_code == 404
    assert (await api.http.get("/api/v1/tags")).json()["items"] == []


async def test_tags_are_renamed_merged_and_deleted(api: Api, service: Service) -> None:
    await _shop(service)
    await _tag(api, 1001, "Whole", "Press")
    await _tag(api, 1002, "Sale")
    ids = {it["name"]: it["id"] for it in (await api.http.get("/api/v1/tags")).json()["items"]}
    whole, sale = f"/api/v1/tags/{ids['Whole']}", f"/api/v1/tags/{ids['Sale']}"
    assert (await api.http.patch(whole, json={"name": "WHOLE"})).json()["name"] == "WHOLE"
    taken = await api.http.patch(whole, json={"name": "sale"})
    assert (taken.status_code, taken.json()["merge"]) == (409, f"{whole}/merge")
    itself = await api.http.post(f"{whole}/merge", json={"into": ids["Whole"]})
    assert itself.status_code == 422
    kept = await api.http.post(f"{sale}/merge", json={"into": ids["Whole"]})
    assert (kept.json()["name"], kept.json()["customers"]) == ("WHOLE", 2)
    assert (await api.http.delete(sale)).status_code == 404
    assert (await api.http.delete(whole)).status_code == 204
    assert await _tags(api) == {"CUST-1001": ["Press"], "CUST-1002": [], "CUST-1003": []}
    actions = await service.rows("SELECT action FROM audit WHERE action LIKE 'tag.%' ORDER BY id")
    assert [row["action"] for row in actions] == ["tag.renamed", "tag.merged", "tag.deleted"]


async def test_a_bulk_change_is_undone_exactly(api: Api, service: Service) -> None:
    await _shop(service, 5)
    await _tag(api, 1001, "Gold")  # had it before
    body = {"kind": "add_tag", "tag": "gold", "filter": {}}
    would = (await api.http.post("/api/v1/bulk-changes/preview", json=body)).json()
    assert (would["tag"], would["matching"], would["customers"]) == ("Gold", 5, 4)
    refused = await _bulk(api, "add_tag", "gold", 409, expected=5)
    assert refused["customers"] == 4
    change = await _bulk(api, "add_tag", "gold", expected=4)
    assert (change["customers"], change["tag"], change["canBeUndone"]) == (4, "Gold", True)
    assert set(map(tuple, (await _tags(api)).values())) == {("Gold",)}
    await _tag(api, 1002, remove=("Gold",))
    await _tag(api, 1003, remove=("Gold",))
    await _tag(api, 1003, "Gold")  # somebody decided for this one
    undone = await _undo(api, change)
    assert (undone["canBeUndone"], undone["undoneBy"]) == (False, "local")
    assert list((await _tags(api)).values()) == [["Gold"], [], ["Gold"], [], []]
    await _undo(api, change, 409)
    timeline = (await api.get("/CUST-1004/timeline"))["items"]
    assert [item["changes"] for item in timeline if item["type"] == "edit"] == [
        {"removed": ["Gold"], "bulk": int(change["id"])},
        {"added": ["Gold"], "bulk": int(change["id"])},
    ]


async def test_undoing_a_removal_leaves_earlier_bulk_changes_as_they_were(
    api: Api, service: Service
) -> None:
    await _shop(service, 3)
    await _tag(api, 1001, "Gold")
    given = await _bulk(api, "add_tag", "Gold")
    taken = await _bulk(api, "remove_tag", "Gold", filter={"search": "c0"})
    assert taken["customers"] == 1
    rest = await _bulk(api, "remove_tag", "Gold")
    assert rest["customers"] == 2
    await _undo(api, rest)
    await _undo(api, taken)
    assert set(map(tuple, (await _tags(api)).values())) == {("Gold",)}
    await _undo(api, given)
    assert (await _tags(api)) == {"CUST-1001": ["Gold"], "CUST-1002": [], "CUST-1003": []}
    await _bulk(api, "remove_tag", "never given", 422)


async def test_a_bulk_change_of_a_tag_that_is_gone_cannot_be_undone(
    api: Api, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _shop(service)
    change = await _bulk(api, "add_tag", "Gold")
    (tag,) = (await api.http.get("/api/v1/tags")).json()["items"]
    await api.http.delete(f"/api/v1/tags/{tag['id']}")
    assert "deleted" in (await _undo(api, change, 409))["detail"]
    listed = (await api.http.get("/api/v1/bulk-changes")).json()["items"]
    assert [it["canBeUndone"] for it in listed] == [False]
    monkeypatch.setattr(bulk, "MOST_CUSTOMERS", 2)
    too_many = await _bulk(api, "add_tag", "Silver", 422)
    assert "add a filter" in too_many["errors"][0]["message"]
    assert set(map(tuple, (await _tags(api)).values())) == {()}


async def test_a_merge_joins_tags_a_split_leaves_them_and_an_erasure_removes_them(
    api: Api, service: Service
) -> None:
    await _shop(service)
    await _tag(api, 1001, "Both", "One")
    await _tag(api, 1002, "Both", "Two")
    change = await _bulk(api, "add_tag", "All", filter={"search": "c1"})
    async with service.engine.begin() as connection:
        await merge(connection, 1001, 1002, "test")
    assert (await api.get("/CUST-1001"))["tags"] == ["All", "Both", "One", "Two"]
    async with service.engine.begin() as connection:
        other = await split(connection, 1001, ["email:c1@x.org", "customer:1002"], "test")
    assert (await api.get("/CUST-1001"))["tags"] == ["All", "Both", "One", "Two"]
    assert (await api.get(f"/CUST-{other}"))["tags"] == []
    await _undo(api, change)
    assert (await api.get("/CUST-1001"))["tags"] == ["Both", "One", "Two"]
    async with service.engine.begin() as connection:
        await editing.delete(connection, "test", 1001)
    for table in ("customer_tags", "bulk_changed"):
        assert await service.rows(f"SELECT * FROM {table}") == []


async def test_tags_wait_for_no_order_and_never_stay_with_somebody_who_is_gone(
    service: Service,
) -> None:
    await _shop(service)
    async with service.engine.begin() as busy:
        await lock_customers(busy, [1001, 1002, 1003])  # a batch is being applied
        await in_transaction(service.engine, lambda c: change_tags(c, 1001, "t", add=["A"]))
        everybody = (Filter(), BulkKind.ADD_TAG, "B", "test")
        await in_transaction(service.engine, bulk.apply, *everybody)
    async with service.engine.begin() as erasing:
        await editing.delete(erasing, "test", 1001)
        tagging_erased = asyncio.create_task(
            in_transaction(service.engine, lambda c: change_tags(c, 1001, "t", add=["C"]))
        )
        done, _ = await asyncio.wait([tagging_erased], timeout=0.3)
        assert not done, "it waits for the erasure"
    with pytest.raises(tagging.NoSuchCustomerError):
        await tagging_erased
    assert [tag.name for tag in (await in_transaction(service.engine, catalogue.list_tags))[0]] == [
        "A",
        "B",
    ]


async def test_two_people_may_use_a_new_tag_at_once(service: Service) -> None:
    await _shop(service)
    await asyncio.gather(
        *(
            in_transaction(service.engine, partial(change_tags, add=["New", "Newer"]), number, "t")
            for number in (1001, 1002, 1003)
        )
    )
    tags, _ = await in_transaction(service.engine, catalogue.list_tags)
    assert [(tag.name, tag.customers) for tag in tags] == [("New", 3), ("Newer", 3)]


async def test_the_pages_tag_customers_without_scripts(api: Api, service: Service) -> None:
    await _shop(service)
    page = api.http
    await page.post("/customers/CUST-1001/tags", data={"add": "Gold, <b>, "})
    shown = (await page.get("/customers/CUST-1001")).text
    assert 'value="&lt;b&gt;" class="icon" aria-label="Remove tag &lt;b&gt;"' in shown
    wrong = await page.post("/customers/CUST-1001/tags", data={"add": "x" * 256})
    assert (wrong.status_code, "at most 255 characters" in wrong.text) == (422, True)
    await page.post("/customers/CUST-1001/tags", data={"remove": "<b>"})
    assert await _tags(api) == {"CUST-1001": ["Gold"], "CUST-1002": [], "CUST-1003": []}
    assert '<span class="tag" dir="auto">Gold</span>' in (await page.get("/")).text
    # The list's form leads to the preview, which has all its fields.
    form = {"tagsNone": "Gold", "q": "x.org", "ordersFrom": "1"}
    asked = await page.post("/bulk-tag", data=form)
    assert "Tag 2 customers" in asked.text
    told = await page.post("/bulk-tag", data={**form, "kind": "add_tag", "tag": "Silver"})
    assert "Add tag to 2 customers" in told.text
    outdated = await page.post("/bulk-tag/apply", data={**form, "tag": "Silver", "expected": "3"})
    assert (outdated.status_code, "Look again" in outdated.text) == (409, True)
    done = await page.post("/bulk-tag/apply", data={**form, "tag": "Silver", "expected": "2"})
    assert done.headers["location"] == "/tags#changes"
    assert await _tags(api) == {
        "CUST-1001": ["Gold"],
        "CUST-1002": ["Silver"],
        "CUST-1003": ["Silver"],
    }
    await _on_the_tags_page(page)
    assert await _tags(api) == {"CUST-1001": ["Bronze"], "CUST-1002": [], "CUST-1003": []}


async def _on_the_tags_page(page: httpx.AsyncClient) -> None:
    """Undo the bulk change, merge one tag into the other, and delete a third."""
    shown = (await page.get("/tags")).text
    assert "2 customers" in shown
    change = shown.partition("/tags/changes/")[2].partition("/")[0]
    assert (await page.post(f"/tags/changes/{change}/undo")).status_code == 303
    ids = {it["name"]: it["id"] for it in (await page.get("/api/v1/tags")).json()["items"]}
    gold, silver = ids["Gold"], ids["Silver"]
    taken = await page.post(f"/tags/{silver}/rename", data={"name": "gold"})
    assert (taken.status_code, "Another tag has this name" in taken.text) == (422, True)
    nobody = await page.post(f"/tags/{silver}/merge", data={"into": "Bronze"})
    assert "There is no other tag of this name" in nobody.text
    assert (await page.post(f"/tags/{gold}/rename", data={"name": "Bronze"})).status_code == 303
    assert (await page.post(f"/tags/{silver}/merge", data={"into": "bronze"})).status_code == 303
    assert (await page.post(f"/tags/{ids['<b>']}/delete")).status_code == 303
    assert "Undone" in (await page.get("/tags")).text
