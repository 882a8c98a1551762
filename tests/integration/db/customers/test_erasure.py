"""Erasing removes all personal data, and old events cannot bring the person back."""

import json
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from service.core.envelope import Entry
from service.db.customers import mentions
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.customers.conftest import Api

_TABLES = "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public'"


async def _mentions(service: Service, *words: str) -> list[str]:
    """Return the tables in which a text occurs, as text or within bytes."""
    found = []
    for table in await service.rows(_TABLES):
        for word in words:
            hits = await service.rows(
                f"SELECT count(*) AS n FROM {table['name']} t"
                " WHERE position(lower(:word) IN lower(t::text)) > 0"
                " OR position(encode(convert_to(lower(:word), 'UTF8'), 'hex') IN t::text) > 0"
                " OR position(encode(convert_to(:word, 'UTF8'), 'hex') IN t::text) > 0",
                word=word,
            )
            if hits[0]["n"]:
                found.append(f"{table['name']}: {word}")
    return found


async def _known_person(api: Api, service: Service, now: datetime) -> list[Entry]:
    events = [
        entry(
            f"ORD-{number}",
            email="Jane@Example.com",
            name="Jane Smith",
            phone="555-5678",
            created=now - timedelta(days=number),
        )
        for number in (1, 2)
    ]
    await service.ingest(*events)
    bad = entry("ORD-3", email="jane@example.com", name="Jane Smith", total="-1")
    await service.ingest(bad, entry("ORD-4", email="other@example.com", total="-1"))
    await api.patch("CUST-1001", notes="Jane Smith likes tea", phone="555-9999")
    await api.http.post(
        "/api/v1/customers/CUST-1001/interactions",
        json={"kind": "email", "text": "wrote to jane@example.com"},
    )
    return [*events, bad]


async def test_erasing_leaves_no_personal_data_in_any_table(
    api: Api, service: Service, now: datetime
) -> None:
    await _known_person(api, service, now)
    words = ("jane@example.com", "Jane Smith", "555-5678", "555-9999")
    assert await _mentions(service, *words), "the search must be able to find something"
    assert (await api.http.delete("/api/v1/customers/CUST-1001")).status_code == 200
    assert await _mentions(service, *words) == []
    await api.get("/CUST-1001", 404)
    others = await service.rows("SELECT 1 AS kept FROM dead_letters WHERE field_values <> '{}'")
    assert len(others) == 1, "a dead letter that names somebody else stays"


async def test_orders_of_an_erased_person_stay_and_do_not_count_as_unattributed(
    api: Api, service: Service, now: datetime
) -> None:
    await _known_person(api, service, now)
    await api.http.delete("/api/v1/customers/CUST-1001")
    orders = await service.rows("SELECT customer_id, erased FROM orders")
    assert orders == [{"customer_id": None, "erased": True}] * 2
    figures = (await api.http.get("/api/v1/statistics")).json()
    assert (figures["totalCustomers"], figures["unattributedOrders"]) == (0, 0)


async def test_old_events_do_not_bring_an_erased_person_back_but_a_new_order_does(
    api: Api, service: Service, now: datetime
) -> None:
    events = await _known_person(api, service, now)
    await api.http.delete("/api/v1/customers/CUST-1001")
    await service.ingest(*events[:2])
    update = entry(
        "ORD-1",
        email="JANE@example.com",
        name="Jane Smith",
        version=7,
        status="delivered",
        created=now - timedelta(days=1),
    )
    never_seen = entry("ORD-9", email="jane@example.com", created=now - timedelta(days=30))
    await service.ingest(update, never_seen)
    assert (await api.get())["total"] == 0
    assert await _mentions(service, "jane") == []
    figures = (await api.http.get("/api/v1/statistics")).json()
    assert figures["unattributedOrders"] == 0
    again = entry("ORD-10", email="jane@example.com", created=datetime.now(now.tzinfo))
    await service.ingest(again, *events[:2])
    (back,) = (await api.get())["items"]
    assert back["id"] != "CUST-1001"
    assert back["orderIds"] == ["ORD-10"]


async def test_the_answer_says_what_was_erased_and_what_stays(
    api: Api, service: Service, now: datetime
) -> None:
    await _known_person(api, service, now)
    answer = (await api.http.delete("/api/v1/customers/CUST-1001")).json()
    assert answer["id"] == "CUST-1001"
    assert answer["erased"] == {"interactions": 1, "edits": 1, "deadLetters": 1}
    assert answer["pseudonymisedOrderIds"] == 0
    assert answer["mentions"] == {"items": [], "complete": True}
    stays = {stay["what"]: stay for stay in answer["stays"]}
    assert set(stays) == {"orders", "segmentChanges", "streamEntries", "databaseFiles"}
    assert stays["orders"]["count"] == 2
    until = datetime.fromisoformat(stays["streamEntries"]["until"])
    erased = datetime.fromisoformat(answer["erasedAt"])
    assert until - erased == timedelta(seconds=service.config.orders_keep_seconds)


async def test_texts_of_others_that_mention_the_person_are_listed(
    api: Api, service: Service, now: datetime
) -> None:
    await _known_person(api, service, now)
    other = await api.create(name="Jane Smithson", email="jane.smithson@example.com")
    await api.patch(other["id"], notes="sister of JANE SMITH")
    await api.http.post("/api/v1/fields", json={"label": "Family", "kind": "text"})
    await api.patch(other["id"], fields={"family": "of Jane Smith"})
    for said in ("wrote to jane@example.com", "call 555-9999 instead", "nothing about her"):
        await api.http.post(
            f"/api/v1/customers/{other['id']}/interactions", json={"kind": "note", "text": said}
        )
    await api.create(name="Jane Smith", email="a.namesake@example.com")
    listed = (await api.get("/CUST-1001/data"))["mentions"]
    assert listed["complete"]
    assert sorted(item["where"] for item in listed["items"]) == [
        "audit",
        "audit",
        "field",
        "interaction",
        "interaction",
        "notes",
    ], "the audit has edits, too; a namesake is no mention"
    assert {item["page"] for item in listed["items"]} == {f"/customers/{other['id']}"}
    assert "sister" not in str(listed)
    answer = await api.http.delete("/api/v1/customers/CUST-1001")
    assert answer.json()["mentions"] == listed
    assert (await api.get(f"/{other['id']}"))["notes"] == "sister of JANE SMITH"


async def test_mentions_are_searched_by_index(service: Service) -> None:
    written = ["jane@example.com", "512 555 5678", "Jane Smith"]
    async with service.engine.begin() as connection:
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = await connection.execute(
            text(f"EXPLAIN {mentions._MENTIONS.text}"),
            {"id": 1001, "numbers": [1001], "written": written, "most": 101},
        )
        explained = "\n".join(plan.scalars())
    for index in ("ix_customer_search_searched", "ix_interactions_text", "ix_audit_details"):
        assert index in explained, explained
    assert "Seq Scan" not in explained


async def test_more_mentions_than_are_listed_are_admitted(
    api: Api, service: Service, now: datetime
) -> None:
    await _known_person(api, service, now)
    other = await api.create(name="Bob", email="bob@example.com")
    await service.execute(
        "INSERT INTO interactions (customer_id, kind, happened_at, author, text)"
        " SELECT CAST(:id AS bigint), 'note', now(), 'x', 'Jane Smith'"
        " FROM generate_series(1, 101)",
        id=int(other["id"].removeprefix("CUST-")),
    )
    listed = (await api.get("/CUST-1001/data"))["mentions"]
    assert not listed["complete"]


async def test_a_person_can_get_all_data_about_them(
    api: Api, service: Service, now: datetime
) -> None:
    await _known_person(api, service, now)
    held = await api.get("/CUST-1001/data")
    assert held["customer"]["email"] == "jane@example.com"
    assert {order["id"] for order in held["orders"]} == {"ORD-1", "ORD-2"}
    assert held["interactions"][0]["kind"] == "email"
    assert held["deadLetters"][0]["reason"] == "invalid_amount"
    assert {item["type"] for item in held["timeline"]} >= {"order", "segment", "edit"}


@pytest.mark.parametrize(
    "written",
    [
        '"email": "JÄNE@example.com"',
        '"email": "j\\u00E4ne@example.com"',
        '"email": "j\\u00e4ne\\u0040example.com"',
        '"email": "j\\u00C4NE@example.com"',
        '"email": "\\u006aäne@example.com"',
        '"id": "CUST-1001"',
        '"id": "\\u0043UST-1001"',
    ],
)
@pytest.mark.parametrize("nested", [False, True], ids=["plain", "nested"])
async def test_a_dead_letter_that_names_a_person_is_found_in_any_encoding(
    api: Api, service: Service, written: str, *, nested: bool
) -> None:
    """A request for personal data lists the same dead letters that erasing empties."""
    await service.ingest(entry("ORD-1", email="jäne@example.com"))
    for number, names in enumerate((written, '"id": "CUST-10012", "email": "ine@example.com"')):
        document = f'{{"data": {{"customer": {{{names}}}}}}}'
        if nested:
            document = json.dumps({"headers": {}, "data": document})
        await service.ingest(Entry(f"{number + 1}-0", {b"data": document.encode()}))
    held = await api.get("/CUST-1001/data")
    assert [letter["streamId"] for letter in held["deadLetters"]] == ["1-0"]
    assert (await api.http.delete("/api/v1/customers/CUST-1001")).status_code == 200
    letters = await service.rows(
        "SELECT field_values = '{}' AS emptied FROM dead_letters ORDER BY id"
    )
    assert [letter["emptied"] for letter in letters] == [True, False]
