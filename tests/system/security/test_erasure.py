"""After an erasure, a dump of everything has nothing of the person, in whatever encoding.

The person is seeded wherever the service keeps something. Then everything is read: each column of
each table, each entry of each stream, and the logs. What may stay is listed here, with its reason.
"""

import base64
import json
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import pytest

from service.core.stream_ids import parse
from tests.conftest import Service
from tests.events import cloud_event, entry, fields
from tests.integration.transfer.files import customers_csv, lines_of, load
from tests.processes import HOST, Process, processes
from tests.system.security.encodings import found
from tests.wait import until

EMAIL, FORMER, IMPORTED = "zoë.markov@example.org", "zoe.mrakov@example.org", "zm@markov.example"
NAME, FORMER_NAME = "Zoë Markov", "Zoe Mrakov"
PHONE, FORMER_PHONE = "+1 512 555-0187", "512.555.0143"
STREET, NOTE = "17 Quillfeather Row", "prefers quinces"
LIKES = "marzipan"
WORDS = (
    *(EMAIL, FORMER, IMPORTED, NAME, FORMER_NAME, PHONE, FORMER_PHONE, STREET, NOTE, LIKES),
    *("markov", "mrakov", "quillfeather", "quinces", "15125550187", "5125550143"),
)
"""What must not be found. The single words also find fragments of e-mails and names."""

MAY_STAY = {
    "customers.notes": "a note on another customer",
    "customer_fields.field_values": "an own field of another customer",
    "customer_search.searched": "the text by which that customer is searched for",
    "interactions.text": "a call with another customer",
    "audit.details": "what staff did to others: an edit, a key's name, why a letter was discarded",
    "api_keys.name": "a key named after the person; the audit entry of its creation is listed",
}
"""Texts of others, by column. The answer to the erasure lists where they are."""


class Leftover(NamedTuple):
    """A word that was found."""

    where: str
    word: str
    encodings: tuple[str, ...]


def _base64(text: str, shift: int = 0) -> str:
    return base64.b64encode(b"#" * shift + text.encode()).decode()


ORDER_IDS = (
    f"{EMAIL}-1",
    f"WEB-{quote(EMAIL)}-2",
    f"{_base64(EMAIL, 1)}",
    f"{EMAIL.upper()}-4",
    EMAIL.encode().hex(),
    "15125550187-6",
    "Zoë-Markov-7",
    "ORD-8",
)
"""Ids of orders and events, all but the last made of what names the person."""


def _orders(placed: datetime) -> Iterator[dict[bytes, bytes]]:
    for number, order_id in enumerate(ORDER_IDS):
        yield fields(
            order_id,
            event_id=f"evt-{order_id}",
            email=FORMER if number % 2 else EMAIL,
            name=FORMER_NAME if number % 2 else NAME,
            phone=PHONE,
            shippingAddress={"street": STREET, "city": "Austin"},
            created=placed + timedelta(hours=number),
        )


def _letters(placed: datetime) -> Iterator[dict[bytes, bytes]]:
    """Yield entries that are refused, each of which names the person in another way."""
    refused: dict[str, Any] = {"total": "-1", "created": placed}
    yield fields("BAD-1", email=EMAIL, name=NAME, **refused)
    yield {b"data": f'{{"email": "{EMAIL}", '.encode()}
    yield {b"data": json.dumps({"headers": {}, "data": json.dumps({"email": EMAIL})}).encode()}
    yield {b"form": f"email={quote(EMAIL)}&name=x".encode()}
    yield {b"attached": _base64(f'{{"email": "{EMAIL}"}}').encode()}
    yield {b"attached": _base64(f'{{"email": "{EMAIL}"}}', 1).encode()}
    yield {b"attached": _base64(f'{{"email": "{EMAIL}"}}', 2).encode()}
    yield {EMAIL.encode(): b"x"}
    yield fields("BAD-2", name=NAME, phone=PHONE, shippingAddress={"street": STREET}, **refused)
    yield fields(ORDER_IDS[0], event_id=f"bad-{EMAIL}", **refused)


async def _publish(service: Service, published: Iterator[dict[bytes, bytes]]) -> None:
    for one in published:
        await service.publish(one)


async def _all_read(service: Service) -> None:
    """Wait until the worker has acknowledged every entry."""

    async def read() -> bool:
        raw: Any = service.redis
        info = await raw.xinfo_stream(service.config.orders_stream)
        (group,) = await raw.xinfo_groups(service.config.orders_stream)
        return bool(
            group["last-delivered-id"] == info["last-generated-id"] and not group["pending"]
        )

    await until(read)


@pytest.fixture
async def started(service: Service, tmp_path: Path) -> AsyncIterator[tuple[Process, Process]]:
    """Yield a worker and a web process."""
    async with processes(service.servers, tmp_path) as crm:
        yield await crm.worker(), await crm.web(log_level="DEBUG")


async def _seed(service: Service, http: httpx.AsyncClient, placed: datetime, folder: Path) -> str:
    """Put the person wherever the service keeps something; return their path in the API."""
    imported = customers_csv(
        folder / "people.csv", {"Name": FORMER_NAME, "Email": IMPORTED, "Phone": FORMER_PHONE}
    )
    await load(service, imported)
    (row,) = (await http.get("/api/v1/customers")).json()["items"]
    one = f"/api/v1/customers/{row['id']}"
    for email in (FORMER, EMAIL):
        assert (await http.patch(one, json={"email": email})).status_code == 200
    edits = {"name": NAME, "phone": PHONE, "notes": NOTE, "address": {"street": STREET}}
    assert (await http.patch(one, json=edits)).status_code == 200
    likes = {"label": "Likes", "kind": "text"}
    assert (await http.post("/api/v1/fields", json=likes)).status_code == 201
    assert (await http.patch(one, json={"fields": {"likes": LIKES}})).status_code == 200
    noted = {"kind": "call", "text": f"{NAME} {NOTE}, call {PHONE}"}
    assert (await http.post(f"{one}/interactions", json=noted)).status_code == 201
    await _publish(service, _orders(placed))
    line = cloud_event("FILE-1", email=EMAIL, name=NAME, created=placed, event_id=f"file-{EMAIL}")
    await _publish(service, _letters(placed))
    await _publish(service, (fields(f"ORD-9{n}", email="other@x.org") for n in range(3)))
    await _all_read(service)
    await load(service, lines_of(folder / "orders.ndjson", line))
    return one


async def _mention(http: httpx.AsyncClient, service: Service) -> None:
    """Mention the person in texts about others, and in what staff do."""
    found_other = await http.get("/api/v1/customers", params={"search": "other@x.org"})
    other = f"/api/v1/customers/{found_other.json()['items'][0]['id']}"
    edits = {"notes": f"sister of {NAME}", "fields": {"likes": f"{NAME}"}}
    assert (await http.patch(other, json=edits)).status_code == 200
    told = {"kind": "note", "text": f"asked for {EMAIL}"}
    assert (await http.post(f"{other}/interactions", json=told)).status_code == 201
    letter = entry("BAD-9", total="-1", email="other@x.org")
    await service.ingest(letter)
    (stored,) = await service.rows(
        "SELECT id FROM dead_letters WHERE stream_id = :id", id=letter.id
    )
    why = {"why": f"{NAME} has called"}
    answer = await http.delete(f"/api/v1/dead-letters/{stored['id']}", params=why)
    assert answer.status_code == 204


async def _search_streams(service: Service) -> None:
    """Publish what moves the groups on, and wait until the streams were searched to the end."""
    await service.publish(fields("ORD-99", email="other@x.org"))
    await _all_read(service)

    async def searched() -> bool:
        rows = await service.rows(
            "SELECT after_id, until_id FROM stream_searches s JOIN installation i"
            " ON i.erasures = s.erasures AND i.late_events = s.late_events"
        )
        if rows and parse(rows[0]["after_id"]) >= parse(rows[0]["until_id"]):
            return True
        await service.publish(fields("ORD-99", email="other@x.org"))
        return False

    await until(searched)


def _bytes_of(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _bytes_of(name)
            yield from _bytes_of(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _bytes_of(part)
    elif value is not None:
        yield str(value).encode()


async def _dump(service: Service) -> AsyncIterator[tuple[str, bytes]]:
    """Yield every value of every column of every table, and every entry of every stream."""
    columns = await service.rows(
        "SELECT table_name, column_name FROM information_schema.columns"
        " JOIN information_schema.tables USING (table_schema, table_name)"
        " WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'"
    )
    assert len(columns) > 150
    for column in columns:
        table, name = column["table_name"], column["column_name"]
        for row in await service.rows(f'SELECT "{name}" AS value FROM "{table}"'):
            for part in _bytes_of(row["value"]):
                yield f"{table}.{name}", part
    raw: Any = service.redis
    for stream in [key async for key in raw.scan_iter(_type="stream")]:
        for id_, content in await raw.xrange(stream):
            for part in _bytes_of([id_, content]):
                yield f"stream {stream.decode()}", part


async def _leftovers(service: Service, *logs: str) -> set[Leftover]:
    left = set()
    contents = [part async for part in _dump(service)]
    contents += [("a log", line.encode()) for text in logs for line in text.splitlines()]
    for where, content in set(contents):
        for word in WORDS:
            if hits := found(word, content):
                left.add(Leftover(where, word, tuple(hits)))
    return left


async def test_nothing_of_an_erased_person_is_left(
    service: Service, started: tuple[Process, Process], now: datetime, tmp_path: Path
) -> None:
    worker, web = started
    placed = now - timedelta(days=2)
    address = f"http://{HOST}:{web.port}"
    async with httpx.AsyncClient(base_url=address, timeout=60, trust_env=False) as http:
        one = await _seed(service, http, placed, tmp_path)
        await _mention(http, service)
        before = await _leftovers(service)
        assert {word for _, word, _ in before} >= {*WORDS} - {IMPORTED, FORMER_PHONE, "5125550143"}
        listed = (await http.get(f"{one}/data")).json()["mentions"]
        answer = await http.delete(one)
        assert answer.status_code in {200, 204}
        await _search_streams(service)
        # Order management sends everything once more.
        await _publish(service, _orders(placed))
        await _search_streams(service)
    assert await worker.terminate() == 0
    await web.terminate()
    left = await _leftovers(service, worker.output, web.output)
    assert {it for it in left if it.where not in MAY_STAY} == set()
    assert {it.where for it in left} <= {*MAY_STAY}
    assert [item["where"] for item in answer.json()["mentions"]["items"]] == [
        item["where"] for item in listed["items"]
    ]
    (customer,) = await service.rows("SELECT email FROM customers")
    assert customer["email"] == "other@x.org"
