"""What an import is: facts of the file's date, and no news."""

import csv
import io
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.transfer.lines import Verdict
from tests.conftest import Service
from tests.events import entry
from tests.integration.transfer.files import customers_csv, lines_of, load, refusals, save

NEW, CHANGED, UNCHANGED, OLDER = Verdict
DAY = timedelta(days=1)
COLUMNS = "id,customerEmail,status,totalAmount,dateCreated,dateUpdated"


def orders_csv(path: Path, *lines: str) -> Path:
    """Write an orders file."""
    path.write_text("\n".join((COLUMNS, *lines)) + "\n")
    return path


async def _changes(service: Service) -> list[tuple[str, str]]:
    rows = await service.rows("SELECT segment, cause FROM segment_changes ORDER BY id")
    return [(row["segment"], row["cause"]) for row in rows]


async def test_an_import_changes_the_segment_of_a_customer_once(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However their orders are spread over the file, and by whatever they are named."""
    monkeypatch.setattr("service.transfer.importer.BATCH", 2)
    orders = [
        {
            "id": f"A-{number}",
            "customer": {"id": "7", **({"email": "a@x.org"} if number == 3 else {})}
            if number % 2
            else {"email": "a@x.org"},
            "status": "completed",
            "totalAmount": "10.00",
            "dateCreated": f"2019-0{number + 1}-01T00:00:00Z",
        }
        for number in range(8)
    ]
    others = [
        {**orders[0], "id": f"B-{number}", "customer": {"email": f"b{number}@x.org"}}
        for number in range(8)
    ]
    mixed = [order for pair in zip(orders, others, strict=True) for order in pair]
    path = lines_of(tmp_path / "o.ndjson", *mixed)
    done = await load(service, path)
    assert (done.counts, done.people, done.known_people) == ({NEW: 16}, 9, 0)
    assert await _changes(service) == [("inactive", "import")] * 9
    again = await load(service, path)
    assert (again.counts, again.people, again.known_people) == ({UNCHANGED: 16}, 9, 9)
    assert len(await _changes(service)) == 9


async def test_lines_of_an_order_that_contradict_each_other_are_refused(
    service: Service, tmp_path: Path
) -> None:
    path = orders_csv(
        tmp_path / "o.csv",
        "A-1,a@x.org,completed,42.00,2026-01-01T00:00:00Z,",
        "A-1,a@x.org,completed,42.00,2026-01-01T00:00:00Z,",
        "A-1,a@x.org,completed,18.00,2026-01-01T00:00:00Z,",
        "A-1,b@x.org,completed,42.00,2026-01-01T00:00:00Z,",
        "A-1,a@x.org,completed,20.00,2026-01-01T00:00:00Z,2026-01-02T00:00:00Z",
    )
    done = await load(service, path)
    assert done.counts == {NEW: 1, UNCHANGED: 1, CHANGED: 1}
    assert refusals(path) == [
        ("4", "totalAmount", "line 2 has this order with other values: 42.00 there, 18.00 here"),
        ("5", "customerEmail", "line 2 has this order with other values"),
    ]
    assert (tmp_path / "o.csv.refused.csv").stat().st_mode & 0o777 == 0o600
    (row,) = await service.rows("SELECT total_spent FROM customers")
    assert str(row["total_spent"]) == "20.00"


async def test_a_later_export_outranks_an_earlier_one(service: Service, tmp_path: Path) -> None:
    """Also where the shop's own dates are equal: a refund does not change them."""
    line = "A-1,a@x.org,completed,{},2026-01-01T00:00:00Z,"
    older = orders_csv(tmp_path / "older.csv", line.format("42.00"))
    newer = orders_csv(tmp_path / "newer.csv", line.format("18.00"))
    os.utime(older, (1_780_000_000, 1_780_000_000))
    os.utime(newer, (1_785_000_000, 1_785_000_000))
    assert (await load(service, newer)).counts == {NEW: 1}
    assert (await load(service, older)).counts == {OLDER: 1}
    (row,) = await service.rows("SELECT total_spent FROM customers")
    assert str(row["total_spent"]) == "18.00"
    later = datetime(2026, 9, 1, tzinfo=UTC)
    assert (await load(service, older, as_of=later)).counts == {CHANGED: 1}
    assert (await load(service, older, as_of=later + DAY)).counts == {UNCHANGED: 1}


async def test_empty_cells_clear_on_request(
    service: Service, now: datetime, tmp_path: Path
) -> None:
    address = {"street": "1 Main St", "city": "Austin"}
    await service.ingest(
        entry("A-1", email="a@x.org", name="Ann", created=now - DAY, shippingAddress=address)
    )
    full = customers_csv(tmp_path / "f.csv", {"Email": "a@x.org", "Notes": "calls"})
    assert (await load(service, full)).counts == {CHANGED: 1}
    empty = customers_csv(
        tmp_path / "e.csv", {"Email": "a@x.org"}, columns=["Email", "Name", "Notes", "City"]
    )
    assert (await load(service, empty)).counts == {UNCHANGED: 1}
    assert (await load(service, empty, clear_empty=True)).counts == {CHANGED: 1}
    (row,) = await service.rows("SELECT name, notes, address, phone FROM customers")
    assert row == {"name": None, "notes": "", "address": None, "phone": None}
    older = now - timedelta(hours=12)
    await service.ingest(entry("A-2", email="a@x.org", name="Older", created=older))
    (row,) = await service.rows("SELECT name FROM customers")
    assert row["name"] is None


async def test_what_a_person_typed_stays(service: Service, now: datetime, tmp_path: Path) -> None:
    await service.ingest(entry("A-1", email="a@x.org", name="Ann", created=now - DAY))
    await service.execute("UPDATE customers SET name_at = 'infinity', name_event = ''")
    path = customers_csv(tmp_path / "c.csv", {"Email": "a@x.org", "Name": "Other", "Phone": "1"})
    done = await load(service, path)
    assert (done.counts, done.kept) == ({CHANGED: 1}, 1)
    (row,) = await service.rows("SELECT name, phone FROM customers")
    assert row == {"name": "Ann", "phone": "1"}


async def test_notes_of_other_programs_only_go_where_there_are_none(
    service: Service, tmp_path: Path
) -> None:
    columns = ["First Name", "Last Name", "Email", "Total Spent", "Total Orders", "Note"]
    path = customers_csv(tmp_path / "o.csv", {"Email": "a@x.org", "Notes": "ours"})
    await load(service, path)
    theirs = customers_csv(
        tmp_path / "s.csv",
        {"Email": "a@x.org", "Note": "theirs"},
        {"Email": "b@x.org", "Note": "theirs"},
        columns=columns,
    )
    done = await load(service, theirs)
    assert (done.format, done.counts, done.kept) == (
        "shopify-customers",
        {UNCHANGED: 1, NEW: 1},
        1,
    )
    rows = await service.rows("SELECT notes FROM customers ORDER BY id")
    assert [row["notes"] for row in rows] == ["ours", "theirs"]


async def test_customers_are_known_by_the_shops_number_or_a_phone(
    service: Service, now: datetime, tmp_path: Path
) -> None:
    await service.ingest(
        entry("A-1", customer={"id": 7}, source="my.shop", created=now - DAY),
        entry("A-2", customer={"phone": "+32471123456"}, created=now - DAY),
    )
    columns = [
        *("Customer ID", "First Name", "Last Name", "Email", "Total Spent", "Total Orders"),
        "Phone",
    ]
    path = customers_csv(
        tmp_path / "c.csv",
        {"Customer ID": "7", "First Name": "Ann", "Email": "a@x.org"},
        {"First Name": "Bob", "Phone": "'+32 471 12 34 56"},
        {"First Name": "Nobody"},
        {"Customer ID": "8", "First Name": "Cas", "Email": "A@x.org"},
        columns=columns,
    )
    done = await load(service, path, source="my.shop")
    assert (done.counts, done.refused) == ({CHANGED: 2}, 2)
    assert [line[:2] for line in refusals(path)] == [("4", "Email"), ("5", "Email")]
    rows = await service.rows("SELECT name, email FROM customers ORDER BY id")
    assert [tuple(row.values()) for row in rows] == [("Ann", "a@x.org"), ("Bob", None)]
    await service.ingest(entry("A-3", email="a@x.org", created=now))
    (row,) = await service.rows("SELECT total_orders FROM customers WHERE email = 'a@x.org'")
    assert row["total_orders"] == 2


async def test_everything_about_a_customer_survives_the_round_trip(
    service: Service, now: datetime, tmp_path: Path
) -> None:
    await service.ingest(
        entry("A-1", customer={"id": 7, "email": "a@x.org"}, source="my#shop", created=now - DAY),
        entry("A-2", customer={"phone": "+32471123456", "name": "Bob"}, created=now - DAY),
        entry("A-3", customer={"id": "x y"}, source="till", created=now - DAY),
    )
    until = (now + DAY).isoformat()
    await service.execute(
        "UPDATE customers SET email_opt_in = true, segment_manual = true, segment_pinned = true,"
        " segment_held_since = now(), name = 'Typed', name_at = 'infinity', name_event = '',"
        " address = '{\"city\": \"Ghent\"}', address_at = now(), address_event = 'e'"
        " WHERE email = 'a@x.org'"
    )
    await service.execute(
        "UPDATE customers SET segment_manual = true, segment_held_since = now(),"
        f" segment_pinned_until = '{until}' WHERE name = 'Bob'"
    )
    everything = (
        "SELECT id, email, name, name_at = 'infinity' AS typed, address, email_opt_in,"
        " sms_opt_in, segment, segment_manual, segment_pinned, segment_pinned_until, total_orders,"
        " ARRAY(SELECT i.identifier FROM identifiers i WHERE i.customer_id = c.id ORDER BY 1)"
        " AS identifiers FROM customers c ORDER BY id"
    )
    before = await service.rows(everything)
    files = [await save(service, tmp_path / name) for name in ("customers.csv", "orders.ndjson")]
    await service.empty()
    for path in files:
        assert (await load(service, path)).complete
    assert await service.rows(everything) == before
    assert len(await _changes(service)) == 3
    for path in files:
        assert set((await load(service, path)).counts) == {UNCHANGED}


async def test_figures_of_the_file_are_compared_and_never_taken(
    service: Service, tmp_path: Path
) -> None:
    path = tmp_path / "c.csv"
    path.write_text("Email,Segment,Total Orders,Total Spent\na@x.org,vip,12,999.00\n")
    dry = await load(service, path, apply=False)
    assert (dry.other_figures, dry.other_segments) == (1, 1)


async def test_shopify_orders_have_lines_for_their_items(service: Service, tmp_path: Path) -> None:
    header = "Name,Email,Financial Status,Total,Created at,Lineitem name,Notes"
    rows = [
        ("#1", "a@x.org", "paid", "20.00", "2022-01-11 04:32:30 -0500", "Cap", "one\ntwo"),
        ("#1", "a@x.org", "", "", "2022-01-11 04:32:30 -0500", "Hat", ""),
        ("#2", "", "paid", "5.00", "2022-07-11 04:32:30 -0400", "Cap", ""),
        ("#1", "a@x.org", "", "", "2022-01-11 04:32:30 -0500", "Coat", ""),
    ]
    text = io.StringIO()
    csv.writer(text).writerows([header.split(","), *rows])
    path = tmp_path / "orders_export.csv"
    path.write_text(text.getvalue())
    done = await load(service, path)
    assert (done.format, done.counts, done.refused) == ("shopify-orders", {NEW: 2}, 1)
    assert (done.lines, done.lines_read, done.lines_refused) == (6, 4, 1)
    assert [line[:2] for line in refusals(path)] == [("6", "Total")]
    assert done.named_by == {"email": 1, "": 1}
    assert json.dumps([money.total for money in done.money.values()]) == "[2500]"
