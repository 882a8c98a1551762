"""A real worker refuses bad entries with a reason, keeps their bytes, and applies all others."""

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.core.envelope import KEPT_BYTES, MOST_FIELDS
from service.core.order_event import Reason
from tests.conftest import Service
from tests.events import fields
from tests.integration.worker.scene import all_applied, order_count, publish_all, totals
from tests.paths import ROOT
from tests.processes import HOST, Process, Processes, environment
from tests.system.bad_input.corpus import Fields, corpus, encoded, tolerated, truncated
from tests.unit.core.test_order_event import mutated

LETTERS = "/api/v1/dead-letters"
PATIENCE = 90.0
pytestmark = pytest.mark.timeout(400)
REPLAYED = sorted(
    set(Reason) - {Reason.NOT_APPLICABLE, Reason.TOO_MANY_DELIVERIES, Reason.TOO_LARGE}
)


async def publish_each_beside_a_good_one(service: Service, bad: Iterable[Fields]) -> list[str]:
    """Publish a good order before each bad entry; return the ids of the bad entries."""
    ids = []
    for number, entry in enumerate(bad):
        await service.publish(fields(f"GOOD-{number}", email=f"c{number % 7}@x.org", total="1.00"))
        ids.append(await service.publish(entry))
    return ids


async def still_runs(worker: Process) -> None:
    """Fail if the process has ended or logged an error."""
    assert await worker.ask("/livez") == (200, {"status": "ok"}), worker.output
    assert "Traceback" not in worker.output
    assert "refused by the database" not in worker.output


def readable(message: str) -> bool:
    """Return whether the message is one short printable line, without terminal control codes."""
    return message.isprintable() and len(message) <= 300 and len(message.split()) >= 3


@pytest.fixture
async def http(crm: Processes) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a web process."""
    web = await crm.web(rate_limit_per_second=100_000, rate_limit_burst=1_000_000)
    url = f"http://{HOST}:{web.port}"
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False) as client:
        yield client


async def letters(http: httpx.AsyncClient) -> list[dict[str, Any]]:
    """Return all dead letters, read page by page."""
    found: list[dict[str, Any]] = []
    cursor = None
    while cursor or not found:
        query = {"limit": 500} | ({"cursor": cursor} if cursor else {})
        page = (await http.get(LETTERS, params=query)).raise_for_status().json()
        found += page["items"]
        cursor = page["nextCursor"]
    return found


async def fields_over_http(http: httpx.AsyncClient, letter: dict[str, Any]) -> Fields:
    """Return the fields of a dead letter; download those that are too large to be shown."""
    url = f"{LETTERS}/{letter['id']}"
    found: Fields = {}
    for place, field in enumerate((await http.get(url)).raise_for_status().json()["fields"]):
        value = base64.b64decode(field["valueBase64"])
        if field["size"] > len(value):
            answer = (await http.get(f"{url}/fields/{place}")).raise_for_status()
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["content-disposition"].startswith("attachment")
            value = answer.content
        found[base64.b64decode(field["nameBase64"])] = value
    return found


async def fields_on_the_command_line(
    service: Service, folder: Path, letter: dict[str, Any]
) -> Fields:
    """Return the fields of a dead letter, read with ``crm dead-letters show --base64``."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "service.cli", "dead-letters", "show", letter["id"], "--base64"],
        env=environment(service.servers, data_dir=folder),
        cwd=ROOT,
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    pairs = json.loads(done.stdout)["fieldsBase64"]
    return {base64.b64decode(name): base64.b64decode(value) for name, value in pairs}


def kept_of(entry: Fields, reason: str) -> Fields:
    """Return what a dead letter keeps of an entry: all of it, unless it is too large."""
    if reason != Reason.TOO_LARGE:
        return entry
    found: Fields = {}
    left = KEPT_BYTES
    for name, value in list(entry.items())[:MOST_FIELDS]:
        if left:
            found[name[:left]] = value[: max(0, left - len(name))]
            left = max(0, left - len(name) - len(value))
    return found


async def test_each_bad_entry_is_refused_with_its_reason_and_kept_byte_for_byte(
    service: Service, crm: Processes, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    bad = corpus()
    worker = await crm.worker(batch_size=100, reclaim_idle_seconds=60)
    ids = await publish_each_beside_a_good_one(service, (entry for entry, _ in bad.values()))
    await all_applied(service, 2 * len(bad), PATIENCE)
    await still_runs(worker)
    assert await order_count(service) == len(bad)
    kept = {letter["streamId"]: letter for letter in await letters(http)}
    assert set(kept) == set(ids)
    for (name, (entry, reason)), stream_id in zip(bad.items(), ids, strict=True):
        letter = kept[stream_id]
        assert reason in {None, letter["reason"]}, (name, letter)
        assert readable(letter["error"]), (name, letter)
        assert await fields_over_http(http, letter) == kept_of(entry, letter["reason"]), name
    for name in ("50 MB", "a name that is no text", "ten thousand fields"):
        letter = kept[ids[list(bad).index(name)]]
        expected = kept_of(bad[name][0], letter["reason"])
        assert await fields_on_the_command_line(service, tmp_path, letter) == expected, name

    for reason in REPLAYED:
        answer = await http.post(f"{LETTERS}/replay", params={"reason": reason.value})
        assert answer.raise_for_status().json()["removed"] == 0, reason
    again = await letters(http)
    assert {letter["streamId"]: letter["reason"] for letter in again} == {
        stream_id: letter["reason"] for stream_id, letter in kept.items()
    }
    assert {letter["attempts"] for letter in again if letter["reason"] in REPLAYED} == {2}


async def test_an_entry_cut_off_at_any_byte_is_refused(service: Service, crm: Processes) -> None:
    cut = list(truncated())
    worker = await crm.worker(batch_size=500, reclaim_idle_seconds=60)
    await publish_all(service, cut)
    await publish_all(service, [fields("GOOD-1", email="a@x.org")])
    await all_applied(service, len(cut) + 1, PATIENCE)
    await still_runs(worker)
    assert await order_count(service) == 1
    rows = await service.rows("SELECT field_names[1], field_values[1], error FROM dead_letters")
    assert len(rows) == len(cut)
    assert all(readable(row["error"]) for row in rows)
    found = {(row["field_names"], row["field_values"]) for row in rows}
    assert found == {next(iter(entry.items())) for entry in cut}


async def test_an_entry_that_only_looks_bad_is_applied(service: Service, crm: Processes) -> None:
    odd = tolerated()
    worker = await crm.worker()
    await publish_all(service, odd.values())
    await all_applied(service, len(odd), PATIENCE)
    await still_runs(worker)
    assert await service.rows("SELECT reason, error FROM dead_letters") == []
    assert await order_count(service) == len(odd)


names = st.sampled_from([b"data", b"__data__", b"", b"\x00", b"\xff"]) | st.binary(max_size=9)
damaged = mutated().map(encoded)
entries = st.dictionaries(
    names, st.binary(max_size=99) | damaged, min_size=1, max_size=4
) | st.builds(
    lambda text, cuts: {b"data": text[cuts[0] : -cuts[1]]},
    damaged,
    st.tuples(st.integers(0, 9), st.integers(1, 9)),
)
"""Any names and bytes, events with any values, and pieces of events."""


@pytest.fixture(scope="module")
async def running(
    migrated: Service, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Process]:
    """Start a worker that must survive all examples."""
    await migrated.empty()
    started = Processes(migrated.servers, tmp_path_factory.mktemp("worker"))
    yield await started.worker(batch_size=7, reclaim_idle_seconds=60)
    await started.end()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(bad=st.lists(entries, min_size=1, max_size=12))
async def test_no_entry_stops_a_worker(
    migrated: Service, running: Process, bad: list[Fields]
) -> None:
    before, orders = await totals(migrated), await order_count(migrated)
    await publish_each_beside_a_good_one(migrated, bad)
    await all_applied(migrated, before.read + 2 * len(bad), PATIENCE)
    await still_runs(running)
    after = await totals(migrated)
    known = after.applied + after.stale + after.duplicate + after.dead_lettered
    assert known == after.read == before.read + 2 * len(bad)
    assert orders or await order_count(migrated) >= len(bad)
