"""Export, empty the database, import: customers, metrics and segments are the same."""

from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from service.db.customers.tags.tagging import change_tags
from service.transfer.customer_lines import OUTLOOK_COLUMNS
from service.transfer.import_report import left_aside, report
from service.transfer.lines import Verdict
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.outlook.shop import foretell
from tests.integration.transfer.files import EVERYTHING, ORDERS, customers_csv, load, save

_TEXT = st.text(
    alphabet=st.one_of(
        st.sampled_from("'\"=+-@＝;,\t\n\r\\ é😀\u202e\u05d0{}$1"),
        st.characters(exclude_categories=["Cs"], exclude_characters="\x00"),
    ),
    min_size=1,
    max_size=40,
)


_TAGS = """
SELECT c.email_key AS email, array_agg(t.name ORDER BY t.folded) AS tags
FROM customers c JOIN customer_tags ct ON ct.customer_id = c.id JOIN tags t ON t.id = ct.tag_id
GROUP BY 1
"""
_PHONE = _TEXT.filter(lambda text: not any(letter.isdecimal() for letter in text))
"""Digits may be what a spreadsheet has made of a number, and are read as such."""


async def test_an_import_of_an_export_restores_the_same_customers(
    service: Service, now: datetime, tmp_path: Path
) -> None:
    ago = [now - timedelta(days=days) for days in range(0, 300, 10)]
    address = {"street": "1 Main St", "city": "Austin", "zip": "78701"}
    await service.ingest(
        entry("A-1", email="Vip@x.org", name="=Vip", total="600.01", created=ago[1]),
        entry("A-2", email="vip@x.org", phone="+1 555", created=ago[3], shippingAddress=address),
        entry("B-1", email="gone@x.org", name="Gone\nAway", total="20", created=ago[20]),
        entry("C-1", email="first@x.org", created=ago[5]),
        entry("C-1", email="second@x.org", version=2, created=ago[5], updated=ago[4]),
        entry("D-1", created=ago[6], total="5"),  # an unattributed order
        # The newest event does not name the customer; an older one did.
        entry("E-1", email="known@x.org", name="Known", created=ago[9], shippingAddress=address),
        entry("E-1", version=2, status="cancelled", created=ago[9], updated=ago[8]),
        entry("E-2", email="known@x.org", refunded="9.99", created=ago[7], updated=ago[2]),
    )
    path = customers_csv(
        tmp_path / "hand.csv",
        {
            "Name": "By Hand",
            "Email": "Hand@X.org",
            "Notes": "- call\n- write",
            "Tags": "Press, =Gold,press",
        },
        {"Name": "Typed", "Email": "known@x.org", "Phone": "'+49 1"},
    )
    assert (await load(service, path)).complete
    before, orders = await service.rows(EVERYTHING), await service.rows(ORDERS)
    customers = await save(service, tmp_path / "customers.csv")
    documents = await save(service, tmp_path / "orders.ndjson")
    await service.empty()
    assert (await load(service, customers)).counts == {Verdict.NEW: len(before)}
    applied = await load(service, documents)
    assert applied.complete
    assert await service.rows(EVERYTHING) == before
    assert await service.rows(ORDERS) == orders
    assert await service.rows(_TAGS) == [{"email": "hand@x.org", "tags": ["=Gold", "Press"]}]
    again = await load(service, customers), await load(service, documents)
    assert [set(outcome.counts) for outcome in again] == [{Verdict.UNCHANGED}] * 2
    assert again[0].other_segments == 0
    await service.ingest(entry("F-1", email="next@x.org"))
    (newest,) = await service.rows("SELECT id FROM customers WHERE email_key = 'next@x.org'")
    assert newest["id"] == before[-1]["id"] + 1


async def test_importing_into_the_same_database_changes_nothing(
    service: Service, now: datetime, tmp_path: Path
) -> None:
    await service.ingest(
        entry("A-1", email="a@x.org", name="A", created=now - timedelta(days=9)),
        entry("A-1", version=2, created=now - timedelta(days=9), updated=now - timedelta(days=8)),
        entry("A-2", email="a@x.org", name="Ann", created=now - timedelta(days=5)),
    )
    before = await service.rows("SELECT * FROM customers")
    for name in ("customers.csv", "orders.ndjson"):
        outcome = await load(service, await save(service, tmp_path / name))
        assert set(outcome.counts) == {Verdict.UNCHANGED}
    assert await service.rows("SELECT * FROM customers") == before
    assert await service.rows("SELECT * FROM audit") == []


async def test_what_is_expected_is_left_aside_and_the_import_says_so(
    service: Service, tmp_path: Path
) -> None:
    await service.ingest(entry("A-1", email="a@x.org"), entry("B-1", email="b@x.org"))
    await foretell(service)
    before = await service.rows("SELECT * FROM customer_outlook")
    outcome = await load(service, await save(service, tmp_path / "customers.csv"))
    assert list(outcome.left_aside) == list(OUTLOOK_COLUMNS)
    (sentence,) = left_aside(report(outcome))
    assert sentence == (
        "Chance 90 Days, Expected Orders 12 Months, Expected Value 12 Months, Expected Next Order, "
        "RFM Group: computed from orders, and no fact of the customer."
    )
    assert set(outcome.counts) == {Verdict.UNCHANGED}
    assert await service.rows("SELECT * FROM customer_outlook") == before


async def test_tags_of_a_file_are_added_and_only_cleared_on_request(
    service: Service, tmp_path: Path
) -> None:
    await service.ingest(entry("A-1", email="a@x.org"), entry("B-1", email="b@x.org"))
    await service.in_transaction(lambda c: change_tags(c, 1001, "t", add=["Old", "Press"]))
    lines = ({"Email": "a@x.org", "Tags": "PRESS,New"}, {"Email": "b@x.org", "Tags": ""})
    path = customers_csv(tmp_path / "tags.csv", *lines)
    told = (await load(service, path, apply=False)).counts
    assert told == {Verdict.CHANGED: 1, Verdict.UNCHANGED: 1}
    assert (await load(service, path)).counts == told
    assert await service.rows(_TAGS) == [{"email": "a@x.org", "tags": ["New", "Old", "Press"]}]
    assert set((await load(service, path)).counts) == {Verdict.UNCHANGED}
    wrong = customers_csv(tmp_path / "wrong.csv", {"Email": "a@x.org", "Tags": "x" * 256})
    assert not (await load(service, wrong)).complete
    empty = customers_csv(tmp_path / "empty.csv", {"Email": "a@x.org", "Tags": ""})
    assert set((await load(service, empty)).counts) == {Verdict.UNCHANGED}
    cleared = await load(service, empty, clear_empty=True)
    assert set(cleared.counts) == {Verdict.CHANGED}
    assert await service.rows(_TAGS) == []


async def test_a_segment_of_the_file_is_set_only_on_request(
    service: Service, tmp_path: Path
) -> None:
    path = customers_csv(tmp_path / "c.csv", {"Email": "a@x.org", "Segment": "VIP"})
    assert (await load(service, path)).counts == {Verdict.NEW: 1}
    assert (await load(service, path)).other_segments == 1
    assert (await load(service, path, hold_segments=True)).counts == {Verdict.CHANGED: 1}
    (row,) = await service.rows("SELECT segment, segment_manual FROM customers")
    assert (row["segment"], row["segment_manual"]) == ("vip", True)
    assert (await load(service, path, hold_segments=True)).counts == {Verdict.UNCHANGED: 1}


async def test_orders_of_erased_people_stay_without_a_customer(
    service: Service, now: datetime, tmp_path: Path
) -> None:
    await service.ingest(entry("A-1", email="a@x.org", created=now))
    await service.execute(
        "INSERT INTO erased SELECT sha256((SELECT salt FROM installation) || 'b@x.org'), now()"
    )
    await service.ingest(entry("B-1", email="b@x.org", created=now - timedelta(days=1)))
    orders = await service.rows(ORDERS)
    files = [await save(service, tmp_path / name) for name in ("customers.csv", "orders.ndjson")]
    await service.empty()
    for path in files:
        assert (await load(service, path)).complete
    assert await service.rows(ORDERS) == orders
    assert [row["erased"] for row in orders] == [False, True]


@given(rows=st.lists(st.tuples(_TEXT, _PHONE, _TEXT), min_size=1, max_size=8))
@example(rows=[('"=1+1"', "'+1;-2", "\r\n'=x\n"), ("\u202eabc", "\\.", "\\N")])
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_any_text_survives_export_and_import_unchanged(
    empty_service: Service, tmp_path: Path, rows: list[tuple[str, str, str]]
) -> None:
    await empty_service.empty()
    for number, (name, phone, notes) in enumerate(rows):
        await empty_service.execute(
            "INSERT INTO customers (email, email_key, name, phone, notes, date_created)"
            " VALUES (CAST(:email AS text), CAST(:email AS text), :name, :phone, :notes, now())",
            email=f"=c{number}@x.org",
            name=name.strip() or None,
            phone=phone.strip() or None,
            notes=notes if notes.strip() else "",
        )
    before = await empty_service.rows(EVERYTHING)
    path = await save(empty_service, tmp_path / "customers.csv")
    await empty_service.empty()
    outcome = await load(empty_service, path)
    assert outcome.complete
    assert await empty_service.rows(EVERYTHING) == before
    assert await empty_service.findings() == []
