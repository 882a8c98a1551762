"""Whom a dead letter names is found by index, however large other letters are."""

import asyncio
import base64
import json
from collections.abc import Callable
from urllib.parse import quote

import httpx
import psutil
import pytest
from sqlalchemy import text

from consumers.chores import index_letters_step
from service.core.envelope import Entry
from service.core.personal_identifiers import MOST_IDENTIFIERS
from service.db import installation
from service.db.customers import customer_row, personal_data
from service.db.customers.identifiers import identifiers_of
from service.db.engine import in_transaction
from tests.conftest import Service
from tests.events import entry, fields
from tests.integration.db.operations.dead_letters.conftest import old_letter

CUSTOMER = "/api/v1/customers/CUST-1001"


async def index_all(service: Service) -> None:
    step = index_letters_step(service.config)
    while await in_transaction(service.engine, step):
        pass


@pytest.fixture
async def jane(service: Service) -> None:
    await service.ingest(
        entry("ORD-1", email="jane@example.com", name="Jane Smith", phone="+1 512 555 5678"),
        entry("ORD-2", email="other@example.com", name="Bo Lee"),
    )


async def about(web: httpx.AsyncClient) -> list[str]:
    answer = (await web.get(f"{CUSTOMER}/data")).raise_for_status()
    return [letter["streamId"] for letter in answer.json()["deadLetters"]]


ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "JSON within JSON": lambda text: json.dumps({"data": text}),
    "escaped": lambda text: "".join(f"\\u{ord(each):04x}" for each in text),
    "percent": lambda text: quote(text, safe=""),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "percent within base64": lambda text: base64.b64encode(quote(text).encode()).decode(),
    "base64 within JSON": lambda text: json.dumps(
        {"attachment": base64.b64encode(json.dumps({"note": text}).encode()).decode()}
    ),
}


@pytest.mark.usefixtures("jane")
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("waits", [False, True], ids=["indexed", "not indexed yet"])
async def test_a_letter_is_listed_and_emptied_in_every_encoding(
    service: Service, web: httpx.AsyncClient, encoding: str, *, waits: bool
) -> None:
    encode = ENCODINGS[encoding]
    texts = (
        '{"email": "jane@example.com"}',
        '{"customer": {"name": "Jane Smith"}, "shippingAddress": {"street": "1 Main St"}}',
        '{"customer": {"phone": "(512) 555-5678", "name": "J. S."}}',
        '{"id": "CUST-1001"}',
        '{"data": {"id": "ORD-1", "totalAmount": "-1"}}',
        '{"note": "call 512-555-5678", "email": "shop@example.com"}',
    )
    others = (
        '{"email": "other@example.com", "name": "Jane Smith"}',
        '{"id": "CUST-1002", "phone": "512 555 0000"}',
        '{"data": {"id": "ORD-2"}, "name": "Bo Lee"}',
    )
    for number, written in enumerate([*texts, *others], 1):
        letter = Entry(f"{number}-0", {b"data": b"!" + encode(written).encode()})
        if waits:
            await old_letter(service, letter)
        else:
            await service.ingest(letter)
    theirs = [f"{number}-0" for number in range(1, 1 + len(texts))]
    assert await about(web) == theirs
    page = (await web.get("/customers/CUST-1001/delete")).text
    assert "6 dead letters that name" in page
    assert (await web.delete(CUSTOMER)).status_code == 200
    rows = await service.rows("SELECT stream_id FROM dead_letters WHERE field_values = '{}'")
    assert sorted(row["stream_id"] for row in rows) == theirs
    rows = await service.rows(
        "SELECT DISTINCT identifiers, hints, stored FROM dead_letters WHERE field_values = '{}'"
    )
    await index_all(service)
    assert len(rows) == 1
    assert (rows[0]["identifiers"], rows[0]["hints"]) == ([], [])


@pytest.mark.usefixtures("jane")
async def test_a_person_is_found_by_what_staff_have_corrected_since(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(
        Entry("1-0", {b"data": b'{"email": "jane@example.com"'}),
        Entry("2-0", {b"data": b'{"name": "Jane Smith"'}),
        Entry("3-0", {b"data": b'{"phone": "512-555-5678"'}),
    )
    edit = {"email": "jane.doe@example.com", "name": "Jane Doe", "phone": "+46 70 123 45 67"}
    (await web.patch(CUSTOMER, json=edit)).raise_for_status()
    await service.ingest(Entry("4-0", {b"data": b'{"name": "Jane Doe"'}))
    assert await about(web) == ["1-0", "2-0", "3-0", "4-0"]


@pytest.mark.usefixtures("jane")
async def test_a_large_letter_is_indexed_a_moment_later_and_found_until_then(
    service: Service, web: httpx.AsyncClient
) -> None:
    document = fields("ORD-3", email="jane@example.com", total="-1", pad="x " * 40_000)
    await service.ingest(Entry("1-0", document))
    (row,) = await service.rows("SELECT identifiers, size, stored FROM dead_letters")
    assert row["identifiers"] is None
    assert row["size"] == row["stored"]
    assert await about(web) == ["1-0"]
    await index_all(service)
    (row,) = await service.rows("SELECT identifiers FROM dead_letters")
    assert len(row["identifiers"]) == 1
    assert await about(web) == ["1-0"]


async def test_a_letter_that_names_very_many_people_is_cut(service: Service) -> None:
    many = " ".join(f"{n}@example.com" for n in range(MOST_IDENTIFIERS + 1))
    await service.ingest(Entry("1-0", {b"data": many.encode()}))
    await index_all(service)
    (row,) = await service.rows(
        "SELECT size, stored, cardinality(identifiers) AS identifiers FROM dead_letters"
    )
    assert row["size"] == len(many) + 4
    assert row["stored"] == 1024
    assert 50 < row["identifiers"] < 100


@pytest.mark.usefixtures("jane")
async def test_huge_letters_of_an_earlier_release_hurt_nobody(
    service: Service, web: httpx.AsyncClient
) -> None:
    """A letter of 70 MB made the data of an unrelated customer, and their erasure, answer 503."""
    for number in range(2):
        await old_letter(service, Entry(f"{number + 1}-0", {b"data": b'{"a@x.org' * 7_800_000}))
    me = psutil.Process()
    before = me.memory_info().rss
    peak = before

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, me.memory_info().rss)
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    assert (await web.get("/operations")).status_code == 200
    assert (await web.get("/api/v1/dead-letters")).status_code == 200
    assert (await web.get("/api/v1/dead-letters/1")).status_code == 200
    assert (await web.get("/operations/dead-letters/1")).status_code == 200
    assert await about(web) == []
    await index_all(service)
    assert await about(web) == []
    assert (await web.delete(CUSTOMER)).status_code == 200
    watching.cancel()
    assert peak - before < 200_000_000
    rows = await service.rows("SELECT size, stored FROM dead_letters")
    assert [(row["size"], row["stored"]) for row in rows] == [(9 * 7_800_000 + 4, 1024)] * 2


@pytest.mark.usefixtures("jane")
async def test_the_index_is_used_and_nothing_else_is_read(service: Service) -> None:
    await service.ingest(*(entry(f"BAD-{n}", email=f"{n}@x.org", total="-1") for n in range(300)))
    await service.execute("ANALYZE dead_letters")
    async with service.engine.connect() as connection:
        jane = await customer_row.read(connection, 1001)
        assert jane
        identifiers = await identifiers_of(connection, jane)
        traits = await personal_data.traits_of(connection, 1001, identifiers)
        salt = await installation.secret(connection)
        hashes = personal_data.hashes(salt, traits)._asdict()
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = await connection.execute(text(f"EXPLAIN {personal_data._INDEXED.text}"), hashes)
        lines = "\n".join(row[0] for row in plan)
    assert "ix_dead_letters_identifiers" in lines
    assert "ix_dead_letters_hints" in lines
    assert "Seq Scan" not in lines
