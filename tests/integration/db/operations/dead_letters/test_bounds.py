"""Dead letters are bounded in bytes, number and age, and each one is accounted for."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from consumers.chores import drop_letters_step, index_letters_step
from service.cli.status import read_status
from service.core.dead_letters import digest
from service.core.envelope import KEPT_BYTES, MOST_FIELDS, Entry, beginning
from service.core.order_event import Reason, Refusal
from service.db.engine import in_transaction
from service.db.ingest.ingest import storable_error
from service.db.operations import dead_letter_removal, dead_letter_replay
from service.db.operations.dead_letter_removal import discard_all
from service.db.operations.dead_letters import Selection
from tests.conftest import Service
from tests.events import entry, fields
from tests.integration.db.operations.dead_letters.conftest import old_letter
from tests.integration.http.conftest import client
from tests.integration.worker.scene import working
from tests.wait import until

URL = "/api/v1/dead-letters"
_ACCOUNTED = """
SELECT (SELECT count(*) FROM dead_letters WHERE size IS NOT NULL) AS there,
  coalesce(sum(letters) FILTER (WHERE fate = 'stored'), 0)
    - coalesce(sum(letters) FILTER (WHERE fate <> 'stored'), 0) AS counted
FROM dead_letter_counters
"""


async def assert_accounted_for(service: Service, letters: int) -> None:
    (row,) = await service.rows(_ACCOUNTED)
    assert (row["there"], row["counted"]) == (letters, letters)


async def fates(service: Service) -> dict[str, int]:
    rows = await service.rows(
        "SELECT fate, sum(letters)::int AS letters FROM dead_letter_counters GROUP BY fate"
    )
    return {row["fate"]: row["letters"] for row in rows}


async def letters(service: Service) -> list[dict[str, Any]]:
    return await service.rows("SELECT * FROM dead_letters ORDER BY id")


async def index_all(service: Service) -> None:
    step = index_letters_step(service.config)
    while await in_transaction(service.engine, step):
        pass


async def test_a_large_entry_keeps_its_beginning_its_size_and_a_digest(
    service: Service, web: httpx.AsyncClient
) -> None:
    document = fields("ORD-1", email="a@x.org", total="-1")[b"data"]
    large = Entry("5-0", {b"data": document.ljust(service.config.max_event_bytes)})
    whole = Entry("6-0", {b"data": document.ljust(service.config.max_event_bytes - 4)})
    await service.ingest(large, whole)
    cut, kept = await letters(service)
    assert (cut["size"], cut["stored"]) == (large.size, KEPT_BYTES)
    assert cut["field_values"] == [large.fields[b"data"][: KEPT_BYTES - 4]]
    assert cut["whole_digest"] == digest(large)
    assert cut["digest"] == digest(beginning(large))
    assert (kept["size"], kept["stored"]) == (whole.size, whole.size)
    assert kept["field_values"] == [whole.fields[b"data"]]
    assert (kept["digest"], kept["whole_digest"]) == (digest(whole), None)
    listed = {item["id"]: item for item in (await web.get(URL)).json()["items"]}
    assert listed[str(cut["id"])]["stored"] == KEPT_BYTES
    replayed = (await web.post(f"{URL}/{cut['id']}/replay")).json()
    assert replayed["removed"] is False
    assert "only the first 1,024 were kept" in replayed["error"]
    assert "publish the order again" in replayed["error"]
    page = (await web.get(f"/operations/dead-letters/{cut['id']}")).text
    assert "the first 1,024 are kept" in page
    assert "contents were deleted" not in page


async def test_a_large_entry_that_arrives_again_is_one_dead_letter(service: Service) -> None:
    """A worker may read the beginning only. That must not make a second dead letter."""
    large = Entry("5-0", {b"data": b"x" * 2_000_000, b"more": b"y"})
    await service.ingest(large)
    await service.ingest(beginning(large))
    (letter,) = await letters(service)
    assert (letter["attempts"], letter["size"]) == (2, large.size)
    await assert_accounted_for(service, 1)


async def test_an_entry_with_very_many_fields_keeps_few(service: Service) -> None:
    many = Entry("5-0", {b"%d" % n: b"" for n in range(10_000)})
    await service.ingest(many)
    (letter,) = await letters(service)
    assert len(letter["field_names"]) == MOST_FIELDS
    assert letter["stored"] < letter["size"] == many.size


def test_the_sentence_of_a_refusal_is_bounded() -> None:
    assert len(storable_error(Refusal(Reason.NOT_JSON, "x" * 100_000))) == 2000
    assert storable_error(Refusal(Reason.NOT_JSON, "a\x00b")) == "a\\0b"


async def test_letters_of_an_earlier_release_are_measured_cut_and_indexed(
    service: Service,
) -> None:
    small = Entry("5-0", fields("ORD-1", email="a@x.org", total="-1"))
    large = Entry("6-0", {b"data": b"x" * 9_000_000, b"more": b"b@x.org"})
    for old in (small, large):
        await old_letter(service, old)
    await service.ingest(entry("ORD-2", total="-1"))
    await index_all(service)
    measured, cut, _ = await letters(service)
    assert (measured["size"], measured["stored"]) == (small.size, small.size)
    assert measured["digest"] == digest(small)
    assert measured["identifiers"]
    assert (cut["size"], cut["stored"]) == (large.size, KEPT_BYTES)
    assert (cut["digest"], cut["whole_digest"]) == (digest(beginning(large)), digest(large))
    await assert_accounted_for(service, 3)
    await service.ingest(large)
    assert len(await letters(service)) == 3, "it is known already"


async def test_letters_of_an_earlier_release_can_be_replayed_and_discarded_at_once(
    service: Service, web: httpx.AsyncClient
) -> None:
    await old_letter(service, Entry("5-0", fields("ORD-1", email="a@x.org")))
    await old_letter(service, Entry("6-0", {b"data": b"x" * 2_000_000}))
    await old_letter(service, Entry("7-0", {b"data": b"{"}))
    items = (await web.get(URL)).json()["items"]
    assert [item["size"] for item in items] == [None] * 3
    assert (await web.get("/operations")).status_code == 200
    unread, huge, good = (item["id"] for item in items)
    assert (await web.post(f"{URL}/{good}/replay")).json()["outcome"] == "applied"
    assert "only the first" in (await web.post(f"{URL}/{huge}/replay")).json()["error"]
    assert (await web.delete(f"{URL}/{unread}", params={"why": "x"})).status_code == 204
    assert await fates(service) == {"stored": 3, "replayed": 1, "discarded": 1}
    await assert_accounted_for(service, 1)


async def test_a_replay_takes_no_more_bytes_at_once_than_allowed(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letter_replay, "PAGE_BYTES", 5000)
    await service.ingest(
        *(entry(f"ORD-{n}", total="-1", pad="x" * 2000) for n in range(4)),
        entry("ORD-5", total="-1", pad="x" * 9000),
    )
    await dead_letter_replay.replay_all(service.engine, "a test", None, service.config.terms)
    rows = await service.rows("SELECT details -> 'deadLetters' AS ids FROM audit ORDER BY id")
    assert [len(row["ids"]) for row in rows] == [2, 2, 1]


@pytest.mark.parametrize(
    ("bounds", "left", "fate"),
    [
        ({"dead_letters_keep_entries": 3}, 3, "too_many"),
        ({"dead_letters_keep_days": 2.0}, 4, "too_old"),
        ({"dead_letters_keep_bytes": 1500}, 1, "too_much"),
        ({}, 7, None),
    ],
)
async def test_the_oldest_letters_beyond_a_bound_are_dropped_and_everybody_is_told(
    service: Service,
    caplog: pytest.LogCaptureFixture,
    bounds: dict[str, Any],
    left: int,
    fate: str | None,
) -> None:
    config = service.config.model_copy(update=bounds)
    await service.ingest(*(entry(f"ORD-{n}", total="-1", pad="x" * 500) for n in range(7)))
    await service.execute(
        "UPDATE dead_letters SET first_seen = first_seen - interval '3 days'"
        " WHERE id IN (SELECT id FROM dead_letters ORDER BY id LIMIT 3)"
    )
    before = [letter["id"] for letter in await letters(service)]
    step = drop_letters_step(config)
    while await in_transaction(service.engine, step) is not None:
        pass
    assert [letter["id"] for letter in await letters(service)] == before[-left:]
    gone = 7 - left
    await assert_accounted_for(service, left)
    assert await fates(service) == {"stored": 7} | ({fate: gone} if fate else {})
    noted = await service.rows("SELECT actor, action, details FROM audit")
    assert [row["action"] for row in noted] == ["dead-letters.dropped"] * bool(fate)
    if fate:
        assert noted[0]["actor"] == "worker"
        assert noted[0]["details"]["dropped"] == {fate: gone}
        assert noted[0]["details"]["reasonCodes"] == {"invalid_amount": gone}
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == bool(fate)
    status = await read_status(config)
    assert (status["deadLetters"], status["deadLettersDropped"]) == (left, gone)
    async with client(service, **bounds) as http:
        metrics = (await http.get("/metrics")).text
        page = (await http.get("/operations")).text
    assert ("older ones were deleted so far" in page) == bool(fate)
    labels = {"too_old": "age", "too_many": "number", "too_much": "bytes"}
    for each, bound in labels.items():
        dropped = f'crm_dead_letters_dropped_total{{bound="{bound}"}} {gone * (each == fate):.1f}\n'
        assert dropped in metrics


async def test_how_much_of_each_bound_is_used_is_a_metric(service: Service) -> None:
    await service.ingest(*(entry(f"ORD-{n}", total="-1") for n in range(4)))
    await service.execute("UPDATE dead_letters SET first_seen = now() - interval '9 days'")
    (row,) = await service.rows("SELECT sum(stored)::int AS stored FROM dead_letters")
    bounds = {
        "dead_letters_keep_entries": 5,
        "dead_letters_keep_days": 10.0,
        "dead_letters_keep_bytes": row["stored"] * 2,
    }
    async with client(service, **bounds) as http:
        metrics = (await http.get("/metrics")).text
    share = 'crm_dead_letters_bound_used_ratio{bound="%s"} %s'
    assert share % ("number", "0.8\n") in metrics
    assert share % ("bytes", "0.5\n") in metrics
    assert share % ("age", "0.9") in metrics
    assert f"crm_dead_letters_kept_bytes {row['stored']}.0\n" in metrics


async def test_a_worker_measures_and_drops_by_itself(service: Service) -> None:
    await old_letter(service, Entry("5-0", {b"data": b"x" * 2_000_000}))
    await service.ingest(*(entry(f"ORD-{n}", total="-1") for n in range(3)))

    async def is_done() -> bool:
        rows = await letters(service)
        return [row["stored"] == row["size"] for row in rows] == [True, True] and all(
            row["identifiers"] is not None for row in rows
        )

    async with working(service, dead_letters_keep_entries=2):
        await until(is_done)
    await assert_accounted_for(service, 2)


async def test_many_are_discarded_by_reason_and_age(
    service: Service, web: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letter_removal, "PAGE", 2)
    await service.ingest(
        *(entry(f"ORD-{n}", total="-1") for n in range(5)),
        entry("ORD-9", currency="euros"),
    )
    await service.execute(
        "UPDATE dead_letters SET first_seen = first_seen - interval '3 days' WHERE id <> 5"
    )
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    query = {"reason": "invalid_amount", "before": yesterday, "why": "a flood of theirs"}
    assert (await web.get(URL, params={**query, "why": ""})).json()["total"] == 4
    dry = await web.post(f"{URL}/discard", params={**query, "dryRun": "true"})
    assert dry.json() == {"discarded": 0, "remaining": 4}
    done = await web.post(f"{URL}/discard", params=query)
    assert done.json() == {"discarded": 4, "remaining": 0}
    assert [row["reason"] for row in await letters(service)] == [
        "invalid_amount",
        "invalid_currency",
    ]
    noted = await service.rows("SELECT actor, action, details FROM audit ORDER BY id")
    assert [row["details"]["letters"] for row in noted] == [2, 2]
    assert noted[0]["action"] == "dead-letters.discarded"
    assert noted[0]["details"]["reason"] == "a flood of theirs"
    assert noted[0]["details"]["reasonCode"] == "invalid_amount"
    assert noted[0]["details"]["seenBefore"].startswith(yesterday[:10])
    await assert_accounted_for(service, 2)


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ({"why": "x"}, "reason"),
        ({"reason": "invalid_amount"}, "why"),
        ({"reason": "invalid_amount", "why": " "}, "why"),
        ({"reason": "bad_luck", "why": "x"}, "reason"),
        ({"before": "yesterday", "why": "x"}, "before"),
    ],
)
async def test_a_careless_discard_of_many_is_refused(
    service: Service, web: httpx.AsyncClient, query: dict[str, str], where: str
) -> None:
    await service.ingest(entry("ORD-1", total="-1"))
    answer = await web.post(f"{URL}/discard", params=query)
    assert answer.status_code == 422
    assert where in answer.text
    assert len(await letters(service)) == 1


async def test_many_are_discarded_on_the_page_after_they_were_counted(
    service: Service, web: httpx.AsyncClient
) -> None:
    await service.ingest(entry("ORD-1", total="-1"), entry("ORD-2", currency="euros"))
    url = "/operations/dead-letters/discard"
    assert "Nothing is deleted yet" in (await web.get(url)).text
    chosen = await web.get(url, params={"reason": "invalid_amount"})
    assert "1 dead letter will be deleted for good" in chosen.text
    await web.post(url, data={"why": "a test"})
    assert len(await letters(service)) == 2, "nothing was chosen"
    done = await web.post(url, data={"reason": "invalid_amount", "before": "", "why": "a test"})
    assert done.status_code in {200, 303}
    assert [row["reason"] for row in await letters(service)] == ["invalid_currency"]


async def test_discarding_stops_at_the_number_allowed(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letter_removal, "PAGE", 2)
    await service.ingest(*(entry(f"ORD-{n}", total="-1") for n in range(5)))
    selection = Selection("invalid_amount")
    assert await discard_all(service.engine, "a test", selection, "x", most=3) == 4
    assert len(await letters(service)) == 1
