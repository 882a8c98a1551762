"""``crm dead-letters``, run as a process."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import Service
from tests.events import entry
from tests.integration.db.operations.dead_letters.conftest import EARLIER, refused_earlier
from tests.paths import ROOT
from tests.processes import environment


async def dead_letters(
    service: Service, folder: Path, *arguments: str, **settings: str
) -> tuple[int, str]:
    """Run ``crm dead-letters``. Return exit status and output."""
    env = environment(service.servers, data_dir=folder, **settings)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "service.cli", "dead-letters", *arguments],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


async def test_dead_letters_are_listed_shown_replayed_and_discarded(
    service: Service, tmp_path: Path
) -> None:
    await refused_earlier(
        service,
        entry("ORD-1", email="a@x.org", currency="EUR", note="\x1b[2J" * 500),
        entry("ORD-2", email="a@x.org", currency="EUR", note="x" * 2000),
    )
    await service.ingest(entry("ORD-3", total="-1"))
    status, output = await dead_letters(
        service, tmp_path, "list", "--json", "--reason", EARLIER.reason
    )
    letters = json.loads(output)
    assert (status, len(letters)) == (0, 2)
    status, output = await dead_letters(service, tmp_path, "list")
    assert "2 currency_mismatch, 1 invalid_amount" in output
    status, output = await dead_letters(service, tmp_path, "show", str(letters[1]["id"]))
    assert status == 0
    assert "a@x.org" in json.loads(output)["fields"]["data"]
    assert "\x1b" not in output
    status, output = await dead_letters(
        service, tmp_path, "replay", "--reason", EARLIER.reason, max_event_bytes="2000"
    )
    assert (status, output.splitlines()[0]) == (
        1,
        "2 retried: none accepted; 2 refused again",
    )
    status, output = await dead_letters(service, tmp_path, "replay", str(letters[0]["id"]))
    assert (status, output.strip()) == (0, "1 retried: 1 applied; 0 refused again")
    status, output = await dead_letters(service, tmp_path, "replay", "--all")
    assert (status, output.splitlines()[0]) == (1, "2 retried: 1 applied; 1 refused again")
    (remaining,) = await service.rows("SELECT id FROM dead_letters")
    assert (await dead_letters(service, tmp_path, "replay", "1", "--all"))[0] == 2
    discarding = ("discard", str(remaining["id"]), "--why", "a test")
    assert (await dead_letters(service, tmp_path, *discarding))[0] == 0
    status, output = await dead_letters(service, tmp_path, *discarding)
    assert status == 1
    assert "there is no dead letter" in output
    assert await service.rows("SELECT total_orders FROM customers") == [{"total_orders": 2}]
    (row,) = await service.rows("SELECT actor FROM audit ORDER BY id DESC LIMIT 1")
    assert row["actor"].startswith("cli:")


async def test_many_are_discarded_after_a_question(service: Service, tmp_path: Path) -> None:
    await service.ingest(
        *(entry(f"ORD-{n}", total="-1") for n in range(3)), entry("ORD-9", currency="euros")
    )
    chosen = ("discard", "--reason", "invalid_amount", "--before", "2100-01-01T00:00:00Z")
    status, output = await dead_letters(service, tmp_path, *chosen, "--why", "a flood")
    assert (status, "Discard 3 dead letters for good?" in output) == (1, True)
    assert len(await service.rows("SELECT id FROM dead_letters")) == 4
    earlier = ("discard", "--before", "2020-01-01T00:00:00Z", "--why", "a flood")
    status, output = await dead_letters(service, tmp_path, *earlier)
    assert (status, "Nothing was discarded" in output) == (0, True)
    status, output = await dead_letters(service, tmp_path, *chosen, "--why", "a flood", "--yes")
    assert (status, output.strip()) == (0, "discarded 3 dead letters")
    (row,) = await service.rows("SELECT action, details FROM audit")
    assert row["action"] == "dead-letters.discarded"
    assert (row["details"]["letters"], row["details"]["reason"]) == (3, "a flood")


async def test_a_discard_that_is_not_clear_is_refused_with_a_hint(
    service: Service, tmp_path: Path
) -> None:
    await service.ingest(entry("ORD-1", total="-1"))
    for arguments, hint in (
        (("1", "--reason", "a test"), "--why"),
        (("--reason", "a test", "--why", "x"), "use --why"),
        (("1", "--reason", "invalid_amount", "--why", "x"), "either an id"),
        (("--why", "x"), "either an id"),
        (("1", "--why", " "), "must not be empty"),
        (("--before", "yesterday", "--why", "x"), "with an offset"),
    ):
        status, output = await dead_letters(service, tmp_path, "discard", *arguments)
        assert (status, hint in output) == (2, True), output
    assert len(await service.rows("SELECT id FROM dead_letters")) == 1


async def test_refused_updates_of_known_orders_are_marked(service: Service, tmp_path: Path) -> None:
    await service.ingest(entry("ORD-1", email="a@x.org", version=1))
    await service.ingest(entry("ORD-1", version=2, total="-1"), entry("ORD-9", total="-1"))
    status, output = await dead_letters(service, tmp_path, "list")
    assert (status, output.count("(older state)")) == (0, 1)
    assert "ORD-1 (older state)" in output
    status, output = await dead_letters(service, tmp_path, "list", "--updates", "--json")
    (letter,) = json.loads(output)
    assert (status, letter["orderId"], letter["refusedUpdate"]) == (0, "ORD-1", True)
