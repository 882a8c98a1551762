"""``export.csv``: its columns and filters, and how it escapes formulas."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from service.core.rfm import Scores
from service.db.customers.filters import Filter
from service.transfer import export
from service.transfer.customer_lines import OUTLOOK_COLUMNS
from service.transfer.export import COLUMNS, copy_customers, rfm_group_sql
from service.transfer.formulas import escaped_sql, unescaped, unescaped_notes
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.outlook.shop import foretell
from tests.integration.http.conftest import client
from tests.store_zone import move_to

EXPORT = "/api/v1/customers/export.csv"
KIRITIMATI = ZoneInfo("Pacific/Kiritimati")


async def exported(service: Service, **query: Any) -> list[dict[str, str]]:
    async with client(service) as web:
        answer = await web.get(EXPORT, params=query)
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))


async def test_the_columns_are_those_of_the_integration_guide_and_the_stores_days(
    service: Service, now: datetime
) -> None:
    now = now.replace(microsecond=120_000)
    await service.ingest(
        entry("ORD-1", email="jane@x.org", name='Jane "J", Smith', total="10.50", created=now)
    )
    async with client(service) as web:
        answer = await web.get(EXPORT)
    stamp = f"{now:%Y-%m-%dT%H:%M:%S}.12Z"
    assert answer.content.decode() == (
        "\ufeffID,Name,Email,Phone,Segment,Date Created,Last Order Date,Total Orders,Total Spent,"
        "Notes,Other Currencies,Day Created,Day of Last Order,Email Opt-in,SMS Opt-in,Street,City,"
        "State,Zip,Country,Hold,Identifiers,By Hand,Tags,Chance 90 Days,Expected Orders 12 Months,"
        "Expected Value 12 Months,Expected Next Order,RFM Group\n"
        'CUST-1001,"Jane ""J"", Smith",jane@x.org,'
        f",new,{stamp},{stamp},1,10.50,,,{now:%Y-%m-%d},{now:%Y-%m-%d},no,no,,,,,,,,,,,,,,\n"
    )
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith('attachment; filename="customers-2')
    (noted,) = await service.rows("SELECT action, actor FROM audit")
    assert noted["action"] == "customers.exported"


async def test_what_is_expected_comes_last_as_the_api_has_it(
    service: Service, now: datetime
) -> None:
    for number in range(1, 5):
        await service.ingest(entry(f"ORD-{number}", email=f"c{number}@x.org", created=now))
    assert {line["Chance 90 Days"] for line in await exported(service)} == {""}
    await foretell(service)
    async with client(service) as web:
        listed = (await web.get("/api/v1/customers")).json()["items"]
        outlook = (await web.get("/api/v1/customers/CUST-1002/outlook")).json()
    assert outlook["rfm"]["group"] == "champions"
    expected = {customer["id"]: customer["outlook"] for customer in listed}
    lines = await exported(service)
    assert len(lines) == 4
    for line in lines:
        cells = [line[column] for column in OUTLOOK_COLUMNS]
        one = expected[line["ID"]]
        if one is None:
            assert cells == [""] * 5
            continue
        assert [float(cell) for cell in cells[:3]] == [
            one["chance"],
            one["expectedOrders"],
            one["expectedValue"],
        ]
        assert cells[3:] == [one["expectedNextOrder"], one["rfmGroup"]]
    await foretell(service, said=200)  # the test of this model went wrong
    assert {line["Expected Value 12 Months"] for line in await exported(service)} == {""}
    assert {line["RFM Group"] for line in await exported(service)} == {"", "champions"}


async def test_every_score_is_exported_as_its_group(service: Service) -> None:
    fifths = range(1, 6)
    every = [Scores(r, f, m) for r in fifths for f in fifths for m in fifths]
    rows = await service.rows(
        f"SELECT n, {rfm_group_sql('n')} AS found FROM unnest(CAST(:numbers AS int[])) u (n)",
        numbers=[each.number for each in every],
    )
    assert {row["n"]: row["found"] for row in rows} == {it.number: it.group for it in every}


async def test_days_and_the_name_of_the_file_are_those_of_the_store(
    service: Service, now: datetime
) -> None:
    at = datetime(2026, 10, 31, 23, 30, tzinfo=UTC)
    await service.ingest(entry("ORD-1", email="jane@x.org", created=at))
    for zone, day in (("Europe/Berlin", "2026-11-01"), ("America/New_York", "2026-10-31")):
        await move_to(service, zone)
        [line] = await exported(service, dateFrom=day, dateTo=day)
        assert (line["Day Created"], line["Day of Last Order"]) == (day, day)
        assert line["Date Created"] == "2026-10-31T23:30:00Z"
    await move_to(service, "Pacific/Kiritimati")  # 14 hours ahead
    async with client(service) as web:
        name = (await web.get(EXPORT)).headers["content-disposition"]
    days = {f"{moment.astimezone(KIRITIMATI):%Y-%m-%d}" for moment in (now, datetime.now(UTC))}
    assert name.removeprefix('attachment; filename="customers-').removesuffix('.csv"') in days


async def test_an_export_without_customers_is_only_a_header(service: Service) -> None:
    async with client(service) as web:
        answer = await web.get(EXPORT, params={"bom": False, "search": "nobody"})
    assert answer.text == ",".join(COLUMNS) + "\n"


async def test_an_export_takes_the_same_filters_as_the_list(
    service: Service, now: datetime
) -> None:
    for number, name in enumerate(("O'Neil $1", "100%_\\x", "Zoë")):
        await service.ingest(
            entry(
                f"ORD-{number}",
                email=f"c{number}@x.org",
                name=name,
                total=f"{number + 1}00",
                created=now - timedelta(days=number * 40),
            )
        )
    for query, names in {
        (("search", "o'neil $1"),): ["O'Neil $1"],
        (("search", "%_\\x"),): ["100%_\\x"],
        (("search", "zoë"),): ["Zoë"],
        (("search", "'; DROP TABLE customers; --"),): [],
        (("search", "CUST-1002"),): ["100%_\\x"],
        (("segment", "at_risk"), ("segment", "new")): ["O'Neil $1", "100%_\\x", "Zoë"],
        (("segment", "at_risk"),): ["Zoë"],
        (("spentFrom", "150"), ("spentTo", "250")): ["100%_\\x"],
        (("dateFrom", (now - timedelta(days=41)).date().isoformat()),): ["O'Neil $1", "100%_\\x"],
    }.items():
        async with client(service) as web:
            listed = (await web.get("/api/v1/customers", params=query)).json()["items"]
            answer = await web.get(EXPORT, params=query)
        rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
        assert [row["Name"] for row in rows] == names
        assert {row["ID"] for row in rows} == {customer["id"] for customer in listed}
    async with client(service) as web:
        assert (await web.get(EXPORT, params={"segment": "rich"})).status_code == 422


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1 555", "'+1 555"),
        ("-2", "'-2"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t'=1"),
        ("\r=1", "'\r'=1"),
        ("＝1+1", "'＝1+1"),
        ("＋1", "'＋1"),
        ("－1", "'－1"),
        ("＠x", "'＠x"),
        (" =1", "' =1"),
        ("\u00a0=1", "'\u00a0=1"),
        ("'=1", "''=1"),
        ("Jane;=1+1", "Jane;'=1+1"),
        ("Jane\n@x", "Jane\n'@x"),
        ("Jane = Joe", "Jane = Joe"),
        ("O'Neil", "O'Neil"),
        ("'quoted'", "'quoted'"),
        ("a-b", "a-b"),
        ("", ""),
    ],
)
async def test_formulas_are_escaped(empty_service: Service, name: str, cell: str) -> None:
    await _insert(empty_service, name=name)
    (row,) = await exported(empty_service)
    assert (row["Name"], row["Phone"], unescaped(cell)) == (cell, cell, name)


@pytest.mark.parametrize(
    ("notes", "cell"),
    [("=1", "'=1"), (" -x", "' -x"), ("To do\n- call\n- write", "To do\n- call\n- write")],
)
async def test_notes_are_escaped_at_their_start(
    empty_service: Service, notes: str, cell: str
) -> None:
    await _insert(empty_service, notes=notes)
    (row,) = await exported(empty_service)
    assert (row["Notes"], unescaped_notes(cell)) == (cell, notes)


async def test_unescaping_undoes_escaping(empty_service: Service) -> None:
    texts = ["'" * n + lead + first for n in range(3) for lead in ("", " ", ";", "\t") for first in
             ("=", "＝x", "a", "", "'", "-;=", "\n+")]  # fmt: skip
    rows = await empty_service.rows(
        f"SELECT t, {escaped_sql('t')} AS cell FROM unnest(CAST(:texts AS text[])) AS u(t)",
        texts=texts,
    )
    assert all(unescaped(row["cell"]) == row["t"] for row in rows)
    assert len({row["cell"] for row in rows}) == len(set(texts))


async def test_an_export_may_take_longer_than_a_transaction(
    empty_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export sets its own limit in place of the pool's."""
    slow = "SELECT pg_sleep(0.3), c.id, CAST(:shows_money AS boolean) FROM customers c"
    monkeypatch.setattr(export, "_CUSTOMERS", slow)
    await _insert(empty_service, name="Jane")
    async with empty_service.engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.execute("SET transaction_timeout = '150ms'")
    written = bytearray()

    async def sink(piece: bytes) -> None:
        written.extend(piece)

    try:
        for _ in range(3):  # whichever connection of the pool it gets, one was the one above
            await copy_customers(empty_service.engine, Filter(), sink)
    finally:
        await empty_service.engine.dispose()
    assert written.count(b"1001") == 3


async def test_a_database_that_is_away_is_a_problem_document(service: Service) -> None:
    async with client(service, database_url="postgresql+asyncpg://crm@127.0.0.1:1/crm") as web:
        answer = await web.get(EXPORT)
    assert answer.status_code == 503
    assert answer.json()["title"] == "Database unavailable"


async def _insert(service: Service, *, name: str | None = None, notes: str = "") -> None:
    await service.execute(
        "INSERT INTO customers (email, email_key, name, phone, notes, date_created)"
        " VALUES ('a@x.org', 'a@x.org', :name, :name, :notes, now())",
        name=name,
        notes=notes,
    )
