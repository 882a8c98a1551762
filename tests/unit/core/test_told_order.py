"""Which order a refused entry tells of, as far as it can be read."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.core.envelope import Entry, beginning
from service.core.told_order import ToldOrder, told_order
from tests.events import cloud_event

CAME = datetime(2026, 11, 22, 12, tzinfo=UTC)
PLACED = CAME - timedelta(days=1)
UPDATED = CAME - timedelta(hours=1)


def entry(found: object) -> Entry:
    text = found if isinstance(found, bytes) else json.dumps(found).encode()
    return Entry(f"{int(CAME.timestamp() * 1000)}-0", {b"data": text})


def read(found: Entry) -> ToldOrder | None:
    return told_order(found, CAME + timedelta(seconds=1))


def document(**data: Any) -> dict[str, Any]:
    event = cloud_event("ORD-1", version=3, created=PLACED, updated=UPDATED, status="lost")
    event["data"] |= data
    return event


def test_an_order_is_read_from_an_entry_that_is_refused_for_something_else() -> None:
    assert read(entry(document())) == ToldOrder("ORD-1", 3, UPDATED)


@pytest.mark.parametrize(("written", "taken"), [(450789469, "450789469"), (" ORD-1 ", "ORD-1")])
def test_the_id_is_read_as_that_of_an_accepted_event(written: object, taken: str) -> None:
    told = read(entry(document(id=written)))
    assert told
    assert told.order_id == taken


@pytest.mark.parametrize(
    "written", ["", " ", None, True, 1.5, [], {}, "x" * 201, "a\x00", "\ud800"]
)
def test_an_entry_without_a_readable_id_tells_of_no_order(written: object) -> None:
    assert read(entry(document(id=written))) is None


@pytest.mark.parametrize("found", [b"", b"{", b"[]", b"null", b'{"data": []}', b"\xff", {}])
def test_an_entry_without_an_order_tells_of_none(found: object) -> None:
    assert read(entry(found)) is None
    assert read(Entry("1-0", {})) is None


@pytest.mark.parametrize("version", [None, "3", -1, 2**63, 1.5, True, []])
def test_a_version_that_cannot_be_read_is_unknown(version: object) -> None:
    told = read(entry(document(version=version)))
    assert told
    assert told.version is None


@pytest.mark.parametrize(
    "updated", [None, "yesterday", 7, "2222-02-22T22:22:22Z", "1970-01-01T00:00Z"]
)
def test_a_time_that_is_wrong_gives_way_to_the_next_one(updated: object) -> None:
    told = read(entry(document(dateUpdated=updated)))
    assert told
    assert told.changed_at == PLACED
    told = read(entry(document(dateUpdated=updated, dateCreated="?")))
    assert told
    assert told.changed_at == CAME


@pytest.mark.parametrize("cut", [1, 40])
def test_the_id_is_found_in_a_document_that_is_cut_off(cut: int) -> None:
    text = json.dumps(document(), separators=(",", ":")).encode()
    assert read(entry(text[:-cut])) == ToldOrder("ORD-1", None, CAME)
    large = entry(json.dumps(document(items="x" * 5000)).encode())
    assert read(beginning(large)) == ToldOrder("ORD-1", None, CAME)
    numbered = entry(json.dumps(document(id=7)).encode()[:-cut])
    assert read(numbered) == ToldOrder("7", None, CAME)
