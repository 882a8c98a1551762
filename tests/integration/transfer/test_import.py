"""Imports of good and bad lines: ``--apply`` writes everything once, a dry run writes nothing."""

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import text

from service.transfer.lines import Verdict
from service.transfer.reading.record import LONGEST_LINE, UnreadableError
from tests.conftest import Service
from tests.events import cloud_event, entry
from tests.integration.transfer.files import (
    EVERYTHING,
    ORDERS,
    customers_csv,
    lines_of,
    load,
    refusals,
)
from tests.processes import environment
from tests.store_zone import count_days
from tests.wait import until

NEW, CHANGED, UNCHANGED = Verdict.NEW, Verdict.CHANGED, Verdict.UNCHANGED
CREATED = "2026-01-02T03:04:05.678901Z"


async def _customers(service: Service) -> list[tuple[Any, ...]]:
    query = "SELECT id, email, name, phone, notes FROM customers ORDER BY id"
    return [tuple(row.values()) for row in await service.rows(query)]


async def test_an_import_that_changes_something_asks_for_past_days(
    service: Service, tmp_path: Path
) -> None:
    path = customers_csv(tmp_path / "c.csv", {"Email": "jane@x.org", "Date Created": CREATED})

    async def asked() -> list[str]:
        return [row["cause"] for row in await service.rows("SELECT cause FROM reconstructions")]

    await load(service, path, apply=False)
    assert await asked() == []
    await load(service, path)
    assert await asked() == ["import"]
    await load(service, path)
    assert await asked() == ["import"]
    await count_days(service)
    assert await asked() == []
    day = datetime.fromisoformat(CREATED).date()
    rows = await service.rows("SELECT customers FROM daily_changes WHERE day = :day", day=day)
    assert rows == [{"customers": 1}]


async def test_new_customers_are_created(service: Service, tmp_path: Path) -> None:
    path = customers_csv(
        tmp_path / "c.csv",
        {"Email": "Jane@X.org", "Name": "Jane", "Date Created": CREATED},
        {"ID": "CUST-2000", "Email": "joe@x.org", "Phone": "'+1 555", "Notes": "'=1\n'"},
        {"ID": "cust-1001", "Email": "al@x.org", "Segment": "At Risk"},
    )
    dry = await load(service, path, apply=False)
    assert await _customers(service) == []
    done = await load(service, path, actor="ops")
    assert dry.counts == done.counts == {NEW: 3}
    assert await _customers(service) == [
        (1001, "al@x.org", None, None, ""),
        (2000, "joe@x.org", None, "+1 555", "=1\n'"),
        (2001, "Jane@X.org", "Jane", None, ""),
    ]
    (jane,) = await service.rows("SELECT * FROM customers WHERE id = 2001")
    assert jane["date_created"] == datetime.fromisoformat(CREATED)
    assert (await load(service, path)).counts == {UNCHANGED: 3}
    noted = await service.rows("SELECT actor, action FROM audit")
    assert noted == [{"actor": "ops", "action": "customer.created"}] * 3
    found = await service.rows("SELECT searched FROM customer_search WHERE searched LIKE '%1555%'")
    assert len(found) == 1


async def test_emails_of_a_file_are_unwrapped_and_compared(
    service: Service, tmp_path: Path
) -> None:
    path = customers_csv(
        tmp_path / "c.csv",
        {"Email": "Jane <jane@x.org>"},
        {"Email": "jo@bücher.example"},
        {"Email": "mailto:JO@xn--bcher-kva.example"},
        {"Email": "a@x.org; b@x.org"},
    )
    await load(service, path)
    assert [row[1] for row in await _customers(service)] == [
        "jane@x.org",
        "jo@xn--bcher-kva.example",
    ]
    assert [(line, why) for line, _, why in refusals(path)] == [
        ("4", "line 3 has the same e-mail"),
        ("5", "is not an e-mail address"),
    ]


async def test_an_imported_value_has_the_date_of_the_file(
    service: Service, now: datetime, tmp_path: Path
) -> None:
    await service.ingest(entry("A-1", email="a@x.org", name="Old", created=now))
    path = customers_csv(
        tmp_path / "c.csv",
        {"Email": " A@x.org ", "Name": "New", "Notes": "Called", "Date Created": "2026-01-01"},
    )
    assert (await load(service, path, apply=False)).counts == {CHANGED: 1}
    assert (await load(service, path)).counts == {CHANGED: 1}
    before, later = now - timedelta(minutes=1), now + timedelta(hours=1)
    await service.ingest(entry("A-2", email="a@x.org", name="Older", created=before))
    assert await _customers(service) == [(1001, "a@x.org", "New", None, "Called")]
    await service.ingest(entry("A-3", email="a@x.org", name="Event", phone="1", created=later))
    assert await _customers(service) == [(1001, "a@x.org", "Event", "1", "Called")]
    kept = await load(service, path)
    assert (kept.counts, kept.kept) == ({UNCHANGED: 1}, 1)
    empty = customers_csv(tmp_path / "e.csv", {"Email": "a@x.org"})
    assert (await load(service, empty)).counts == {UNCHANGED: 1}
    (noted,) = await service.rows("SELECT details FROM audit")
    assert noted["details"]["name"] == ["Old", "New"]
    (row,) = await service.rows("SELECT date_created FROM customers")
    assert row["date_created"] == datetime(2026, 1, 1, tzinfo=UTC)
    assert await service.rows("SELECT 1 FROM customer_search WHERE searched LIKE '%called%'")


_AT = datetime(2026, 11, 1, tzinfo=UTC)


async def test_bad_customers_are_refused_with_a_reason(
    service: Service, now: datetime, tmp_path: Path
) -> None:
    await service.ingest(entry("A-1", email="a@x.org", created=now))
    await service.execute(
        "INSERT INTO erased SELECT sha256((SELECT salt FROM installation) || 'gone@x.org'), :at",
        at=datetime(2026, 3, 4, tzinfo=UTC),
    )
    await service.execute("INSERT INTO identifiers (identifier) VALUES ('email:was@x.org')")
    path = customers_csv(
        tmp_path / "c.csv",
        {"Name": "Nobody"},
        {"Email": "no address"},
        {"Email": "gone@x.org"},
        {"Email": "b@x.org", "ID": "CUST-1001"},
        {"Email": "c@x.org", "ID": "1001"},
        {"Email": "d@x.org", "Segment": "rich"},
        {"Email": "e@x.org", "Date Created": "22/11/2026"},
        {"Email": "f@x.org", "Date Created": "1970-01-01"},
        {"Email": "good@x.org", "Name": 'Multi\nline "x"'},
        {"Email": "GOOD@x.org"},
        {"Email": "g@x.org", "Name": "x" * 1001},
        {"Email": "h@x.org", "Notes": "x" * 20_001},
        {"Email": "i@x.org", "Notes": "x" * 200_000},
        {"Email": "Was@x.org"},
    )
    dry = await load(service, path, apply=False)
    expected = [
        ("2", "Email", "is empty"),
        ("3", "Email", "is not an e-mail address"),
        ("4", "Email", "this person was erased on 2026-03-04"),
        ("5", "ID", "CUST-1001 has another e-mail here"),
        ("6", "ID", "'1001' is not a customer id"),
        ("7", "Segment", "'rich' is not a segment"),
        ("8", "Date Created", "'22/11/2026' is not a date in ISO 8601"),
        ("9", "Date Created", "is before 1990 or in the future"),
        ("12", "Email", "line 10 has the same e-mail"),
        ("13", "Name", "is longer than 1000 characters"),
        ("14", "Notes", "is longer than 20,000 characters"),
        ("15", "", "is not CSV: field larger than field limit (131072)"),
        ("16", "Email", "is marked as not a person"),
    ]
    assert (refusals(path), dry.refused, dry.counts) == (expected, 13, {NEW: 1})
    done = await load(service, path)
    assert (refusals(path), done.refused, done.counts) == (expected, 13, {NEW: 1})
    corrected = customers_csv(tmp_path / "c.csv", {"Email": "b@x.org"})
    assert (await load(service, corrected)).complete
    assert refusals(path) == []


async def test_the_id_of_an_erased_customer_is_not_used_again(
    service: Service, tmp_path: Path
) -> None:
    path = customers_csv(tmp_path / "c.csv", {"ID": "CUST-1500", "Email": "a@x.org"})
    assert (await load(service, path)).complete
    from service.db.customers.editing import delete  # noqa: PLC0415

    async with service.engine.begin() as connection:
        await delete(connection, "ops", 1500)
    other = customers_csv(tmp_path / "c.csv", {"ID": "CUST-1500", "Email": "b@x.org"})
    assert (await load(service, other)).refused == 1
    assert refusals(other) == [("2", "ID", "CUST-1500 was the id of a customer who was erased")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
async def test_every_dialect_of_csv_is_read(
    service: Service, tmp_path: Path, encoding: str, separator: str, end: str
) -> None:
    lines = [
        ["name", "Mail?", " E-MAIL "],
        ['"Zoë, ""Z""; x"', "whatever", "zoe@x.org"],
        [],
        ["Al", "", "al@x.org"],
    ]
    content = end.join(separator.join(line) for line in lines)
    path = tmp_path / "c.csv"
    path.write_bytes(content.encode(encoding))
    outcome = await load(service, path)
    assert (outcome.guess is not None) is (encoding in {"cp1252", "utf-16"})
    assert (outcome.counts, outcome.refused, outcome.left_aside) == ({NEW: 2}, 0, {"Mail?": ""})
    found = [(row[1], row[2]) for row in await _customers(service)]
    assert sorted(found) == [("al@x.org", "Al"), ("zoe@x.org", 'Zoë, "Z"; x')]


async def test_broken_lines_are_refused_one_by_one(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes(
        b"Email,Name,Notes\n"
        b"a@x.org,Zo\xeb,\n"
        b'b@x.org,"Jane"x,\n'
        b"c@x.org,a,b,c\n"
        b"d@x.org\n" + b"e@x.org," + b"x" * (2 * LONGEST_LINE) + b",\nf@x.org,F,\ng@x.or"
    )
    outcome = await load(service, path, encoding="utf-8")
    assert outcome.counts == {NEW: 2}
    assert [row[1] for row in await _customers(service)] == ["d@x.org", "f@x.org"]
    assert (outcome.lines_header, outcome.lines_read, outcome.lines_refused) == (1, 2, 5)
    assert refusals(path) == [
        ("2", "", "character 11 of the line is not utf-8"),
        ("3", "", "is not CSV: ',' expected after '\"'"),
        ("4", "", "has 4 cells, but the header has 3"),
        ("6", "", "the line is longer than 1,048,576 characters"),
        ("8", "", "has 1 cells, but the header has 3"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.csv", b"", "is empty"),
        ("c.csv", b"PK\x03\x04rest", "is a damaged archive"),
        ("c.csv", b"\xff\xfeE\x00", "none of the formats that we know. Its columns are 'E'"),
        ("c.csv", b"Mail,Name\na@x.org,A\n", "Its columns are 'Mail', 'Name'"),
        ("c.csv", b"Email,EMAIL\n", "two columns of its header mean Email"),
        ("c.csv", b"Name,Total,Lineitem name,Email\n", "none of the formats that we know"),
        ("o.csv", b"id,status,totalAmount\n", "Its columns are 'id', 'status', 'totalAmount'"),
        ("o.ndjson", b"", "is empty"),
    ],
)
async def test_an_unreadable_file_is_refused_as_a_whole(
    service: Service, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnreadableError) as raised:
        await load(service, path)
    assert message in str(raised.value)


async def test_orders_are_imported_from_json(
    service: Service, now: datetime, tmp_path: Path
) -> None:
    bare = cloud_event("B-1", email="b@x.org", total="2.345", created=now)["data"]
    bare.pop("version")
    path = lines_of(
        tmp_path / "orders.ndjson",
        cloud_event("A-1", email="a@x.org", created=now),
        "",
        bare,
        cloud_event("A-1", email="a@x.org", version=2, status="cancelled", created=now),
        {**bare, "currency": "euros"},
        '{"id": "C-1", ',
        "[]",
        {**bare, "totalAmount": None},
    )
    dry = await load(service, path, apply=False)
    assert await service.rows(ORDERS) == []
    done = await load(service, path)
    assert dry.counts == done.counts == {NEW: 2, CHANGED: 1}
    assert [line[:2] for line in refusals(path)] == [
        ("5", "currency"),
        ("6", ""),
        ("7", ""),
        ("8", "totalAmount"),
    ]
    before = await service.rows(EVERYTHING), await service.rows(ORDERS)
    assert (await load(service, path)).counts == {UNCHANGED: 3}
    assert (await service.rows(EVERYTHING), await service.rows(ORDERS)) == before
    assert await service.rows("SELECT 1 FROM dead_letters") == []


async def test_orders_are_imported_from_csv_as_from_json(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(
        "id;version;customerName;customerEmail;status;totalAmount;refundedAmount;city;dateCreated\n"
        "A-1;1;'=Jane;a@x.org;Completed;1.005;;Austin;2026-01-01T00:00:00Z\n"
        "A-2;x;;a@x.org;completed;1;;;2026-01-01T00:00:00Z\n"
        "A-3;;;a@x.org;completed;1;-2;;2026-01-01T00:00:00Z\n"
        "A-4;;;;completed;1,50;;;2026-01-01T00:00:00Z\n"
        "A-5;;;;completed;1.50;;;2026-01-01\n"
    )
    assert (await load(service, path)).counts == {NEW: 2}
    assert [line[:2] for line in refusals(path)] == [
        ("3", "version"),
        ("4", "refundedAmount"),
        ("5", "totalAmount"),
    ]
    (row,) = await service.rows("SELECT name, address, total_spent FROM customers")
    assert (row["name"], row["address"], str(row["total_spent"])) == (
        "=Jane",
        {"city": "Austin"},
        "1.01",
    )
    assert (await load(service, path)).counts == {UNCHANGED: 2}


async def test_an_order_in_two_batches_is_new_once(
    service: Service, now: datetime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.transfer.importer.BATCH", 2)
    documents = [
        cloud_event(f"A-{number % 3}", email="a@x.org", version=number, created=now)
        for number in range(9)
    ]
    path = lines_of(tmp_path / "o.jsonl", *documents, documents[0])
    dry = await load(service, path, apply=False)
    done = await load(service, path)
    assert dry.counts == done.counts == {NEW: 3, CHANGED: 6, UNCHANGED: 1}


async def test_old_orders_do_not_bring_back_erased_people(
    service: Service, now: datetime, tmp_path: Path
) -> None:
    await service.execute(
        "INSERT INTO erased SELECT sha256((SELECT salt FROM installation) || 'a@x.org'), now()"
    )
    day = timedelta(days=1)
    path = lines_of(tmp_path / "o.ndjson", cloud_event("A-1", email="a@x.org", created=now - day))
    assert (await load(service, path)).counts == {NEW: 1}
    assert await _customers(service) == []
    assert (await load(service, path)).counts == {UNCHANGED: 1}


async def test_imports_use_constant_memory(service: Service, tmp_path: Path) -> None:
    """With a line of 300 MB, and with many lines."""
    path = tmp_path / "c.csv"
    with path.open("wb") as file:
        file.write(b"Email,Notes\n")
        for _ in range(300):
            file.write(b"x" * (1 << 20))
        file.write(b"\n" + b"".join(b"c%d@x.org,\n" % number for number in range(30_000)))
    process = psutil.Process()
    await load(service, customers_csv(tmp_path / "first.csv", {"Email": "a@x.org"}), apply=False)
    before = process.memory_info().rss
    outcome = await load(service, path, apply=False)
    assert (outcome.counts, outcome.refused) == ({NEW: 30_000}, 1)
    assert process.memory_info().rss - before < 60_000_000


def crm(service: Service, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        [sys.executable, "-m", "service.cli", *arguments],
        env={**environment(service.servers), "PYTHONPATH": str(Path.cwd())},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_the_commands_export_and_import(
    service: Service, now: datetime, tmp_path: Path
) -> None:
    await service.ingest(entry("A-1", email="a@x.org", name="Zoë", created=now))
    written = crm(service, tmp_path, "export", "customers.csv")
    assert written.stderr == "1 line of customers in customers.csv\n"
    path = tmp_path / "customers.csv"
    assert path.stat().st_mode & 0o777 == 0o600
    assert "Zoë,a@x.org" in path.read_text(encoding="utf-8-sig")
    printed = crm(service, tmp_path, "export", "-", "--kind", "orders").stdout
    assert json.loads(printed)["data"]["customer"] == {"email": "a@x.org", "name": "Zoë"}
    path.write_text(path.read_text(encoding="utf-8-sig").replace("Zoë", "Ann") + "x,y\n")
    dry = crm(service, tmp_path, "import", "customers.csv")
    assert dry.returncode == 1
    assert (
        "Dry run, nothing written: 0 new, 1 changed, 0 unchanged, 0 older, 1 refused." in dry.stdout
    )
    assert (
        "line 3, ID: 'x' is not a customer id; clear it, or take it as External ID if it is the "
        'number that your shop gives them: add --map "ID=External ID"' in dry.stdout
    )
    done = crm(service, tmp_path, "import", "customers.csv", "--apply", "--as", "Ops")
    assert "Imported: 0 new, 1 changed, 0 unchanged, 0 older, 1 refused." in done.stdout
    noted = await service.rows("SELECT actor, action FROM audit ORDER BY id")
    assert [(row["actor"], row["action"]) for row in noted] == [
        ("Ops", "customer.updated"),
        ("Ops", "file.imported"),
    ]
    (listed,) = await service.rows("SELECT file_name, begun_by, state, summary FROM imports")
    assert (listed["file_name"], listed["begun_by"]) == ("customers.csv", "Ops")
    assert (listed["state"], listed["summary"][0]["changed"]) == ("done", 1)
    missing = crm(service, tmp_path, "import", "none.csv")
    assert (missing.returncode, missing.stderr) == (1, "crm: none.csv: No such file or directory\n")


async def test_an_import_that_waits_for_a_customer_holds_no_counters(
    service: Service, now: datetime, tmp_path: Path
) -> None:
    """The transaction that holds the lock on that customer will need the counters next."""
    await service.ingest(entry("A-1", email="a@x.org", created=now))
    path = customers_csv(
        tmp_path / "c.csv", {"Email": "new@x.org"}, {"Email": "a@x.org", "Name": "Ann"}
    )
    async with service.engine.begin() as connection:
        await connection.execute(text("SELECT FROM customers WHERE id = 1001 FOR UPDATE"))
        loading = asyncio.create_task(load(service, path))
        await until(
            lambda: service.rows(
                "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND application_name = 'crm import'"
            )
        )
        await connection.execute(text("SELECT FROM segment_counters FOR UPDATE NOWAIT"))
    assert (await loading).counts == {NEW: 1, CHANGED: 1}


async def test_customers_without_an_email_are_known_by_their_id(
    service: Service, tmp_path: Path
) -> None:
    path = customers_csv(
        tmp_path / "c.csv",
        {"ID": "CUST-1500", "Name": "Zoë", "Phone": "+32 471 12 34 56"},
        {"ID": "CUST-1501"},
    )
    assert (await load(service, path)).counts == {NEW: 1}
    assert refusals(path) == [("3", "Name", "is empty")]
    again = customers_csv(tmp_path / "c.csv", {"ID": "CUST-1500", "Name": "Zoé"})
    assert (await load(service, again)).counts == {CHANGED: 1}
    rows = await service.rows("SELECT id, name, email, phone FROM customers")
    assert [tuple(row.values()) for row in rows] == [(1500, "Zoé", None, "+32 471 12 34 56")]


async def test_another_email_of_a_customer_means_them(service: Service, tmp_path: Path) -> None:
    await service.ingest(
        entry("A-1", customer={"id": 7, "email": "a@x.org"}, created=_AT),
        entry("A-2", customer={"id": 7, "email": "b@x.org"}, created=_AT + timedelta(hours=1)),
    )
    path = customers_csv(tmp_path / "c.csv", {"Email": "A@x.org", "Name": "Ann"})
    assert (await load(service, path)).counts == {CHANGED: 1}
    rows = await service.rows("SELECT name, email FROM customers")
    assert [tuple(row.values()) for row in rows] == [("Ann", "b@x.org")]
