"""Nobody who reads the addresses of requests learns whom somebody looked for."""

import base64
import unicodedata
from typing import Any

import httpx
import pytest

from service.http.api.cursors import Cursors
from service.http.seal import Seal
from tests.conftest import Service
from tests.events import entry
from tests.integration.http.conftest import client

CUSTOMERS = "/api/v1/customers"
SEARCH = f"{CUSTOMERS}/search"
NAMES = ("Jane Smith", "Jánè Smith-Jones", "John Doe", "Ann Lee", "Bo Zhou")


@pytest.fixture
async def shop(service: Service) -> Service:
    await service.ingest(
        *(
            entry(f"ORD-{n}", email=f"c{n}@example.org", name=name, total=f"{n}00")
            for n, name in enumerate(NAMES)
        )
    )
    return service


FILTERS: list[dict[str, Any]] = [
    {},
    {"search": "smith"},
    {"search": "c2@example.org", "segment": ["new", "vip"]},
    {"spentFrom": "100", "spentTo": "200", "sort": "-totalSpent"},
    {"dateFrom": "2020-01-01", "dateTo": "2020-01-01"},
    {"lastOrderFrom": "2020-01-01T00:00:00Z", "sort": "name", "limit": 2},
]


async def test_an_email_is_found_by_its_domain_in_unicode(service: Service) -> None:
    await service.ingest(entry("ORD-1", email="jane@bücher.example"))
    async with client(service) as web:
        for written in ("Jane@Bücher.example", "jane@xn--bcher-kva.example", "jane@"):
            found = await web.post(SEARCH, json={"search": written})
            assert [it["orderIds"] for it in found.json()["items"]] == [["ORD-1"]], written


@pytest.mark.parametrize("filters", FILTERS)
async def test_a_search_in_the_body_answers_as_one_in_the_address(
    shop: Service, filters: dict[str, Any]
) -> None:
    async with client(shop) as web:
        by_address = await web.get(CUSTOMERS, params=filters)
        by_body = await web.post(SEARCH, json=filters)
    assert by_body.status_code == by_address.status_code == 200
    for one, other in zip(by_body.json()["items"], by_address.json()["items"], strict=True):
        assert one == other
    assert by_body.json()["total"] == by_address.json()["total"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("dateFrom", "yesterday", "is not ISO 8601"),
        ("dateTo", "2026-11-22T10:00:00", "has no offset"),
        ("dateFrom", 20, "must be text"),
        ("search", "a\x00", "U+0000"),
        ("search", "a" * 201, "200"),
        ("sort", "size", "pattern"),
        ("limit", 501, "500"),
        ("segment", ["best"], "'new'"),
        ("cursor", "rubbish", "is not a cursor of this list"),
        ("name", "Jane", "not permitted"),
    ],
)
async def test_a_wrong_search_says_what_is_wrong(
    shop: Service, name: str, value: object, words: str
) -> None:
    async with client(shop) as web:
        answer = await web.post(SEARCH, json={name: value})
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert fault["where"].startswith(f"body.{name}")
    assert words in fault["message"]


async def test_an_export_of_a_search_names_nobody_in_its_address_and_audit(
    shop: Service,
) -> None:
    async with client(shop) as web:
        answer = await web.post(f"{CUSTOMERS}/export.csv", json={"search": "smith", "bom": False})
        form = await web.post("/export", data={"q": "smith", "segment": "new"})
    assert answer.status_code == form.status_code == 200
    assert [line.split(",")[1] for line in answer.text.splitlines()] == ["Name", *NAMES[:2]]
    assert form.content.decode("utf-8-sig").splitlines() == answer.text.splitlines()
    noted = await shop.rows("SELECT details FROM audit ORDER BY id")
    assert [row["details"] for row in noted] == [
        {"filters": ["search"]},
        {"filters": ["search", "segment"]},
    ]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()


async def _pages(web: httpx.AsyncClient, other: httpx.AsyncClient) -> list[str]:
    """Read the list by name one by one, turn about from two processes. Return the cursors."""
    cursors: list[str] = []
    names: list[str] = []
    query: dict[str, str | int] = {"sort": "name", "limit": 1}
    while True:
        page = (await (web if len(names) % 2 else other).get(CUSTOMERS, params=query)).json()
        names += [item["name"] for item in page["items"]]
        if (cursor := page["nextCursor"]) is None:
            assert names == sorted(NAMES, key=_folded)
            return cursors
        cursors.append(cursor)
        query["cursor"] = cursor


async def test_a_cursor_shows_no_name_and_is_good_in_every_process(shop: Service) -> None:
    async with client(shop) as web, client(shop) as other:
        cursors = await _pages(web, other)
        again = await _pages(web, other)
    assert len(cursors) == len(NAMES) - 1
    assert not {*cursors} & {*again}, "equal cursors tell that somebody reads the same page again"
    for cursor in cursors:
        opened = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        for word in ("jane", "ann", "zhou", "smith", "name"):
            assert word.encode() not in opened.lower()


async def test_a_cursor_of_a_long_name_is_short_enough_to_be_sent(shop: Service) -> None:
    long = [f"{letter}{'界' * 999}" for letter in "xyz"]
    async with client(shop) as web:
        for number, name in enumerate(long):
            body = {"name": name, "email": f"long{number}@example.org"}
            assert (await web.post(CUSTOMERS, json=body)).status_code == 201
        page = (await web.get(CUSTOMERS, params={"sort": "-name", "limit": 1})).json()
        query = {"sort": "-name", "limit": 1, "cursor": page["nextCursor"]}
        (following,) = (await web.get(CUSTOMERS, params=query)).json()["items"]
    assert following["name"] == long[1]


def test_only_the_key_and_the_purpose_that_sealed_a_text_open_it() -> None:
    seal, other = Seal(bytes(32)), Seal(bytes([1] * 32))
    sealed = seal.close(b"Jane", "nameASC")
    assert seal.open(sealed, "nameASC") == b"Jane"
    assert seal.open(sealed, "nameDESC") is None
    assert other.open(sealed, "nameASC") is None
    for wrong in ("", "A", "é", sealed[:-1], f"{sealed}A", sealed[1:], f" {sealed}", "A" * 40):
        assert seal.open(wrong, "nameASC") is None
    assert Cursors(seal).decode_sorted(None, "nameASC") is None
