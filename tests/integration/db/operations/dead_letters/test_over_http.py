"""The routes for dead letters, with entries that the ingestion itself refused."""

import base64
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any

import httpx
import pytest

from service.core.envelope import Entry
from service.core.scopes import Scope
from service.db.operations import dead_letter_replay, dead_letters
from service.http.api.dead_letter_replay import ReplayedLetter, ReplayedLetters
from service.http.api.dead_letters import DeadLetters, OpenedDeadLetter, Summary
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.operations.dead_letters.conftest import EARLIER, key, refused_earlier
from tests.integration.http.conftest import client

URL = "/api/v1/dead-letters"


def bad(stream_id: str, fields: dict[bytes, bytes]) -> Entry:
    return Entry(stream_id, fields)


def narrow(service: Service) -> AbstractAsyncContextManager[httpx.AsyncClient]:
    """Return a client for a web process that takes no event of more than 100 bytes.

    The fix after which it accepts dead letters is a configuration that takes larger ones.
    """
    return client(service, max_event_bytes=100)


async def body(response: httpx.Response, model: Any, status: int = 200) -> dict[str, Any]:
    assert response.status_code == status, response.text
    model.model_validate_json(response.content)
    answer: dict[str, Any] = response.json()
    return answer


async def counters(service: Service) -> dict[str, Any]:
    (row,) = await service.rows(
        "SELECT sum(read) AS read, sum(applied) AS applied, sum(dead_lettered) AS dead_lettered"
        " FROM ingest_counters"
    )
    return row


async def test_dead_letters_of_one_batch_are_stored_in_the_order_of_the_stream(
    service: Service,
) -> None:
    """Ids are compared as numbers. As text, 1-11 would come before 1-4."""
    await service.ingest(*(bad(f"1-{n}", {b"data": b"{"}) for n in (11, 4, 100)))
    rows = await service.rows("SELECT stream_id FROM dead_letters ORDER BY id")
    assert [row["stream_id"] for row in rows] == ["1-4", "1-11", "1-100"]


async def test_the_list_has_the_newest_first_in_pages_and_can_be_filtered_by_reason(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(
        *(entry(f"ORD-{n}", currency="euros") for n in range(3)),
        *(entry(f"ORD-{n}", total="-1") for n in range(2)),
        bad("1800000000000-0", {b"other": b"\xff"}),
    )
    everything = await body(await web.get(URL), DeadLetters)
    assert everything["total"] == 6
    ids = [int(item["id"]) for item in everything["items"]]
    assert ids == sorted(ids, reverse=True)
    assert everything["items"][0]["streamId"] == "1800000000000-0"
    assert "fields" not in everything["items"][0]
    assert everything["items"][0]["size"] == len(b"other\xff")
    listed: list[int] = []
    query: dict[str, Any] = {"limit": 4}
    while query:
        page = await body(await web.get(URL, params=query), DeadLetters)
        listed += [int(item["id"]) for item in page["items"]]
        query = {"limit": 4, "cursor": page["nextCursor"]} if page["nextCursor"] else {}
    assert listed == ids
    euros = await body(await web.get(URL, params={"reason": "invalid_currency"}), DeadLetters)
    assert (euros["total"], len(euros["items"])) == (3, 3)
    assert (await web.get(URL, params={"reason": "bad_luck"})).status_code == 422
    summary = await body(await web.get(f"{URL}/summary"), Summary)
    assert [(item["reason"], item["count"]) for item in summary["items"]] == [
        ("invalid_currency", 3),
        ("invalid_amount", 2),
        ("no_data_field", 1),
    ]


async def test_fields_of_a_dead_letter_are_shown_only_with_write_or_admin(
    service: Service, web: httpx.AsyncClient
) -> None:
    stored = {b"data": '{"é": '.encode(), b"\xff": b"\x00\xfe", b"empty": b""}
    await service.ingest(bad("1800000000000-0", stored))
    (letter,) = (await web.get(URL)).json()["items"]
    url = f"{URL}/{letter['id']}"
    for scope, opened in (
        (Scope.READ, False),
        (Scope.EXPORT, False),
        (Scope.WRITE, True),
        (Scope.ADMIN, True),
    ):
        headers = await key(service, *{Scope.READ, scope})
        response = await web.get(url, headers=headers)
        answer = await body(response, OpenedDeadLetter)
        assert (answer["fields"] is not None) == opened
        assert opened or "ZGF0YQ" not in response.text
    fields = answer["fields"]
    decoded = {
        base64.b64decode(each["nameBase64"]): base64.b64decode(each["valueBase64"])
        for each in fields
    }
    assert decoded == stored
    assert [(each["name"], each["value"], each["size"]) for each in fields] == [
        ("data", '{"é": ', 7),
        (None, None, 2),
        ("empty", "", 0),
    ]
    assert answer["reason"] == "not_json"


async def test_only_the_beginning_of_a_large_value_is_shown(
    service: Service, web: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "SHOWN_BYTES", 9)
    await service.ingest(bad("5-0", {b"data": "aaaaé!".encode(), b"more": b"a"}))
    (letter,) = (await web.get(URL)).json()["items"]
    field, beyond = (await web.get(f"{URL}/{letter['id']}")).json()["fields"]
    assert (field["value"], field["size"]) == ("aaaa", 7)
    assert (beyond["name"], beyond["value"], beyond["size"]) == ("", "", 1)


@pytest.mark.parametrize("letter_id", ["4711", "x", "-1", "9" * 30, "1.0"])
async def test_an_id_without_a_dead_letter_is_not_found(
    web: httpx.AsyncClient, letter_id: str
) -> None:
    for response in (
        await web.get(f"{URL}/{letter_id}"),
        await web.post(f"{URL}/{letter_id}/replay"),
        await web.delete(f"{URL}/{letter_id}", params={"why": "x"}),
    ):
        assert response.status_code == 404, response.text
        assert response.headers["content-type"] == "application/problem+json"


async def test_replaying_a_dead_letter_after_a_fix_applies_and_removes_it(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    await refused_earlier(service, entry("ORD-1", email="a@x.org", currency="EUR", created=now))
    (letter,) = (await web.get(URL, params={"reason": EARLIER.reason})).json()["items"]
    assert (letter["reason"], letter["error"]) == EARLIER
    url = f"{URL}/{letter['id']}/replay"
    before = await counters(service)
    async with narrow(service) as mistaken:
        refused = await body(await mistaken.post(url), ReplayedLetter)
    assert (refused["outcome"], refused["removed"]) == ("dead_lettered", False)
    assert refused["reason"] == "too_large"
    (remaining,) = (await web.get(URL)).json()["items"]
    assert (remaining["attempts"], remaining["error"]) == (2, refused["error"])
    assert remaining["lastSeen"] > letter["lastSeen"]
    done = await body(await web.post(url), ReplayedLetter)
    assert done == {
        "id": letter["id"],
        "outcome": "applied",
        "removed": True,
        "reason": None,
        "error": None,
    }
    assert (await web.post(url)).status_code == 404
    assert (await web.get(URL)).json()["total"] == 0
    assert await service.rows("SELECT segment, total_orders FROM customers") == [
        {"segment": "new", "total_orders": 1}
    ]
    assert await counters(service) == before
    audit = await service.rows("SELECT actor, action, details FROM audit ORDER BY id")
    assert [(row["actor"], row["action"]) for row in audit] == [
        ("local", "dead-letter.replayed")
    ] * 2
    assert audit[-1]["details"]["applied"] == 1


async def test_a_replayed_event_older_than_the_order_is_stale_and_removed(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    await refused_earlier(service, entry("ORD-1", email="a@x.org", created=now, version=1))
    await service.ingest(entry("ORD-1", email="a@x.org", created=now, version=2, total="7"))
    (letter,) = (await web.get(URL)).json()["items"]
    done = await body(await web.post(f"{URL}/{letter['id']}/replay"), ReplayedLetter)
    assert (done["outcome"], done["removed"]) == ("stale", True)
    (row,) = await service.rows("SELECT total_spent FROM customers")
    assert row["total_spent"] == 7


async def test_replaying_a_reason_replays_all_its_dead_letters_and_no_others(
    service: Service, web: httpx.AsyncClient, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letter_replay, "PAGE", 3)
    await refused_earlier(
        service,
        *(entry(f"ORD-{n}", email=f"{n % 2}@x.org", currency="EUR", created=now) for n in range(7)),
        entry("ORD-8", currency="pounds"),
    )
    await service.ingest(entry("ORD-9", total="-1"))
    response = await web.post(f"{URL}/replay", params={"reason": EARLIER.reason})
    assert await body(response, ReplayedLetters) == {
        "replayed": 8,
        "removed": 7,
        "outcomes": {"applied": 7, "dead_lettered": 1},
        "refused": {"invalid_currency": 1},
        "nextCursor": None,
    }
    remaining = (await web.get(URL)).json()["items"]
    assert [(item["reason"], item["attempts"]) for item in remaining] == [
        ("invalid_amount", 1),
        ("invalid_currency", 2),
    ]
    rows = await service.rows("SELECT total_orders FROM customers ORDER BY id")
    assert [row["total_orders"] for row in rows] == [4, 3]
    assert (await web.post(f"{URL}/replay")).status_code == 422


async def test_a_long_replay_continues_at_its_cursor(
    service: Service, web: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letter_replay, "PAGE", 2)
    monkeypatch.setattr("service.http.api.dead_letter_replay._MOST_REPLAYED", 4)
    await service.ingest(*(entry(f"ORD-{n}", currency="euros") for n in range(5)))
    query = {"reason": "invalid_currency"}
    first = await body(await web.post(f"{URL}/replay", params=query), ReplayedLetters)
    assert (first["replayed"], first["nextCursor"] is None) == (4, False)
    query["cursor"] = first["nextCursor"]
    second = await body(await web.post(f"{URL}/replay", params=query), ReplayedLetters)
    assert (second["replayed"], second["nextCursor"]) == (1, None)
    letters = (await web.get(URL)).json()["items"]
    assert [item["attempts"] for item in letters] == [2] * 5


async def test_a_dead_letter_that_the_database_refuses_does_not_block_the_others(
    service: Service, web: httpx.AsyncClient, now: datetime
) -> None:
    await refused_earlier(
        service, *(entry(f"ORD-{n}", email=f"{n}@x.org", created=now) for n in range(5))
    )
    await service.execute("ALTER TABLE orders ADD CONSTRAINT no_third CHECK (id <> 'ORD-3')")
    try:
        response = await web.post(f"{URL}/replay", params={"reason": EARLIER.reason})
        done = await body(response, ReplayedLetters)
        assert done["outcomes"] == {"applied": 4, "dead_lettered": 1}
        assert done["refused"] == {"not_applicable": 1}
        (remaining,) = (await web.get(URL)).json()["items"]
        assert (remaining["reason"], remaining["attempts"]) == ("not_applicable", 2)
    finally:
        await service.execute("ALTER TABLE orders DROP CONSTRAINT no_third")
    replayed = await web.post(f"{URL}/{remaining['id']}/replay")
    assert replayed.json()["outcome"] == "applied"


async def test_a_dead_letter_emptied_by_an_erasure_stays_as_it_is(
    service: Service, web: httpx.AsyncClient
) -> None:
    await refused_earlier(service, entry("ORD-1"))
    await service.execute(
        "UPDATE dead_letters SET field_names = '{}', field_values = '{}', error = 'erased'"
    )
    (letter,) = (await web.get(URL)).json()["items"]
    done = (await web.post(f"{URL}/{letter['id']}/replay")).json()
    assert (done["removed"], done["error"]) == (False, "erased")
    assert done["reason"] == EARLIER.reason


async def test_discarding_keeps_the_actor_and_the_reason_but_no_content(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(entry("ORD-1", email="secret@x.org", currency="euros"))
    (letter,) = (await web.get(URL)).json()["items"]
    url = f"{URL}/{letter['id']}"
    for missing in ({}, {"why": ""}, {"why": "  "}, {"reason": "a test"}):
        assert (await web.delete(url, params=missing)).status_code == 422
    response = await web.delete(url, params={"why": "a test of theirs"})
    assert (response.status_code, response.content) == (204, b"")
    assert (await web.get(URL)).json()["total"] == 0
    (row,) = await service.rows("SELECT actor, action, details FROM audit")
    assert row == {
        "actor": "local",
        "action": "dead-letter.discarded",
        "details": {
            "deadLetter": letter["id"],
            "reasonCode": "invalid_currency",
            "reason": "a test of theirs",
        },
    }


async def test_reading_replaying_and_discarding_need_their_scopes(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(entry("ORD-1", currency="euros"))
    reader = await key(service, Scope.READ)
    writer = await key(service, Scope.WRITE)
    assert (await web.get(URL, headers=writer)).status_code == 403
    (letter,) = (await web.get(URL, headers=reader)).json()["items"]
    url = f"{URL}/{letter['id']}"
    assert (await web.post(f"{url}/replay", headers=reader)).status_code == 403
    assert (await web.post(f"{url}/replay", headers=writer)).status_code == 200
    assert (await web.delete(f"{url}?why=x", headers=writer)).status_code == 403
