"""Own fields in files: exported, imported again, mapped from other columns, refused and cleared."""

import csv
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.core.own_fields import FieldKind, OwnField, read_value, value_of
from service.db.customers import editing
from service.db.customers.editing import HoldEdit
from service.db.customers.own_fields import catalogue
from service.transfer.import_report import left_aside, report
from service.transfer.lines import Verdict
from service.transfer.reading.record import UnreadableError
from tests.conftest import Service
from tests.events import entry
from tests.integration.transfer.files import customers_csv, lines_of, load, refusals, save

OWN = ("field:allergies", "field:shoe_size", "field:birthday", "field:skin_type")
_VALUES = """
SELECT c.email_key AS email, f.field_values AS own FROM customers c
JOIN customer_fields f ON f.customer_id = c.id ORDER BY c.id
"""


async def _define(service: Service) -> None:
    for label, kind, choices in (
        ("Allergies", FieldKind.TEXT, ()),
        ("Shoe size", FieldKind.NUMBER, ()),
        ("Birthday", FieldKind.DATE, ()),
        ("Skin type", FieldKind.CHOICE, ("=Dry", "Oily")),
    ):
        await service.in_transaction(catalogue.create, "test", label, kind, choices)


async def _edit(service: Service, customer: int, own: dict[str, Any]) -> None:
    no_hold = HoldEdit(frozenset())
    async with service.engine.begin() as connection:
        await editing.edit(connection, "test", customer, {}, no_hold, None, own=own)


async def _own(service: Service) -> dict[str, Any]:
    return {row["email"]: row["own"] for row in await service.rows(_VALUES)}


def _file(path: Path, *rows: dict[str, str]) -> Path:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return customers_csv(path, *rows, columns=columns)


_TEXT = st.text(
    alphabet=st.one_of(
        st.sampled_from("'\"=+-@＝;,\t\n\r\\ é😀{}$1"), st.characters(exclude_categories=["Cs"])
    ),
    min_size=1,
    max_size=40,
)


def _cents(number: float) -> float:
    return round(number, 2)


def _storable(field: OwnField, given: object) -> bool:
    try:
        value_of(field, given)
    except ValueError:
        return False
    return True


def _values(key: str, kind: FieldKind, given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return given.filter(lambda value: _storable(OwnField(key, key, kind), value))


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "allergies": _values("allergies", FieldKind.TEXT, _TEXT),
                "shoe_size": _values(
                    "shoe_size",
                    FieldKind.NUMBER,
                    st.integers() | st.floats() | st.floats(-999, 999).map(_cents),
                ),
                "birthday": st.dates(date(1, 1, 1)).map(str),
                "skin_type": st.sampled_from(["=Dry", "Oily"]),
            },
        ),
        min_size=1,
        max_size=5,
    )
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_an_export_brings_every_value_back(
    service: Service, tmp_path: Path, people: list[dict[str, Any]]
) -> None:
    await service.empty()
    await _define(service)
    await service.ingest(*(entry(f"A-{n}", email=f"c{n}@x.org") for n in range(len(people))))
    for n, own in enumerate(people):
        await _edit(service, 1001 + n, own)
    before = await _own(service)
    path = await save(service, tmp_path / "customers.csv")
    assert set((await load(service, path)).counts) == {Verdict.UNCHANGED}
    await service.empty()
    await _define(service)
    assert (await load(service, path)).counts == {Verdict.NEW: len(people)}
    assert await _own(service) == before
    assert set((await load(service, path)).counts) == {Verdict.UNCHANGED}
    assert await service.findings() == []


async def test_the_columns_stand_last_in_their_order_and_formulas_are_escaped(
    service: Service, tmp_path: Path
) -> None:
    await _define(service)
    await service.ingest(entry("A-1", email="a@x.org"))
    await _edit(service, 1001, {"allergies": "=1+1", "shoe_size": -7, "skin_type": "=Dry"})
    path = await save(service, tmp_path / "customers.csv")
    with path.open(encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    assert tuple(row)[-4:] == OWN
    assert [row[name] for name in OWN] == ["'=1+1", "-7", "", "'=Dry"]


async def test_a_file_changes_values_and_the_audit_has_what_they_replaced(
    service: Service, tmp_path: Path
) -> None:
    await _define(service)
    await service.ingest(entry("A-1", email="a@x.org"), entry("B-1", email="b@x.org"))
    await _edit(service, 1001, {"shoe_size": 40, "allergies": "nuts"})
    path = _file(
        tmp_path / "own.csv",
        {
            "Email": "a@x.org",
            "Field:Shoe_Size": "42.50",
            "field:birthday": "1990-04-01T00:00:00Z",
            "field:skin_type": "oily",
        },
        {"Email": "B@x.org"},
        {"Email": "new@x.org", "field:skin_type": "'=dry", "field:birthday": "2000-02-29"},
    )
    told = (await load(service, path, apply=False)).counts
    assert told == {Verdict.CHANGED: 1, Verdict.UNCHANGED: 1, Verdict.NEW: 1}
    assert await _own(service) == {"a@x.org": {"shoe_size": 40, "allergies": "nuts"}}
    assert (await load(service, path)).counts == told
    kept = {"allergies": "nuts", "birthday": "1990-04-01", "skin_type": "Oily", "shoe_size": 42.5}
    new = {"skin_type": "=Dry", "birthday": "2000-02-29"}
    assert await _own(service) == {"a@x.org": kept, "new@x.org": new}
    noted = await service.rows("SELECT details FROM audit WHERE details ? 'field.shoe_size'")
    assert noted[-1]["details"] == {
        "imported": True,
        "field.shoe_size": [40, 42.5],
        "field.birthday": [None, "1990-04-01"],
        "field.skin_type": [None, "Oily"],
    }
    assert set((await load(service, path)).counts) == {Verdict.UNCHANGED}
    assert await service.findings() == []


async def test_an_empty_cell_clears_on_request_only(service: Service, tmp_path: Path) -> None:
    await _define(service)
    await service.ingest(entry("A-1", email="a@x.org"))
    await _edit(service, 1001, {"shoe_size": 40, "allergies": "nuts"})
    path = _file(tmp_path / "own.csv", {"Email": "a@x.org", "field:shoe_size": ""})
    assert set((await load(service, path)).counts) == {Verdict.UNCHANGED}
    assert set((await load(service, path, clear_empty=True)).counts) == {Verdict.CHANGED}
    assert await _own(service) == {"a@x.org": {"allergies": "nuts"}}
    assert set((await load(service, path, clear_empty=True)).counts) == {Verdict.UNCHANGED}
    both = {"Email": "a@x.org", "field:allergies": "", "field:shoe_size": ""}
    await load(service, _file(tmp_path / "both.csv", both), clear_empty=True)
    assert await _own(service) == {}


async def test_a_value_that_does_not_fit_refuses_its_line(service: Service, tmp_path: Path) -> None:
    await _define(service)
    rows = [
        {"Email": "a@x.org", "field:shoe_size": "42,5"},
        {"Email": "b@x.org", "field:birthday": "01.04.1990"},
        {"Email": "c@x.org", "field:skin_type": "Wet"},
        {"Email": "d@x.org", "field:allergies": "x" * 1001},
        {"Email": "e@x.org", "field:shoe_size": "1e3"},
        {"Email": "f@x.org", "field:shoe_size": "41"},
    ]
    path = _file(tmp_path / "own.csv", *rows)
    outcome = await load(service, path)
    assert not outcome.complete
    assert outcome.counts == {Verdict.NEW: 1}
    found = refusals(path)
    assert [(line, column) for line, column, _ in found] == [
        ("2", "field:shoe_size"),
        ("3", "field:birthday"),
        ("4", "field:skin_type"),
        ("5", "field:allergies"),
        ("6", "field:shoe_size"),
    ]
    assert found[0][2] == "'42,5' is no value of Shoe size"
    assert await _own(service) == {"f@x.org": {"shoe_size": 41}}


async def test_columns_of_any_format_are_mapped_to_own_fields(
    service: Service, tmp_path: Path
) -> None:
    await _define(service)
    mapping = {"Mail": "Email", "Born": "field:birthday", "Size": "field:shoe_size"}
    table = _file(tmp_path / "t.csv", {"Mail": "a@x.org", "Born": "1.4.1990", "Size": "41"})
    outcome = await load(service, table, mapping=mapping, date_format="%d.%m.%Y")
    assert outcome.complete
    shop = _file(
        tmp_path / "customers_export.csv",
        {
            "Customer ID": "'1",
            "First Name": "S",
            "Last Name": "P",
            "Email": "s@x.org",
            "Accepts Email Marketing": "yes",
            "Total Spent": "0",
            "Total Orders": "0",
            "Skin (customer.metafields.custom.skin)": "Oily",
        },
    )
    skin = {"Skin (customer.metafields.custom.skin)": "field:skin_type"}
    outcome = await load(service, shop, mapping=skin)
    assert (outcome.complete, outcome.format) == (True, "shopify-customers")
    woo = {"id": 7, "email": "w@x.org", "first_name": "W", "billing": {}, "size": 40.5}
    woo |= {"role": "customer", "username": "w", "is_paying_customer": False, "date_created": None}
    path = tmp_path / "woo.json"
    path.write_text(json.dumps([woo]))
    outcome = await load(
        service, path, format="woocommerce-customers", mapping={"size": "field:shoe_size"}
    )
    assert outcome.complete
    assert await _own(service) == {
        "a@x.org": {"birthday": "1990-04-01", "shoe_size": 41},
        "s@x.org": {"skin_type": "Oily"},
        "w@x.org": {"shoe_size": 40.5},
    }
    constant = _file(tmp_path / "c.csv", {"Email": "c@x.org"})
    await load(service, constant, constants={"field:skin_type": "Oily"})
    assert (await _own(service))["c@x.org"] == {"skin_type": "Oily"}


async def test_a_column_of_no_field_is_left_aside_and_a_mapping_to_none_is_refused(
    service: Service, tmp_path: Path
) -> None:
    await _define(service)
    path = _file(tmp_path / "own.csv", {"Email": "a@x.org", "field:gone": "x", "Plan": "y"})
    outcome = await load(service, path)
    assert outcome.complete
    aside = list(left_aside(report(outcome)))
    assert aside[0].startswith("field:gone: there is no own field of this key. Define it first")
    with pytest.raises(UnreadableError, match=r"no column 'field:gone'.*field:shoe_size"):
        await load(service, path, mapping={"Plan": "field:gone"})
    orders = _file(
        tmp_path / "orders.csv",
        {"id": "1", "status": "pending", "totalAmount": "1", "dateCreated": "2026-01-01", "P": "x"},
    )
    with pytest.raises(UnreadableError, match="orders have no column 'field:shoe_size'"):
        await load(service, orders, mapping={"P": "field:shoe_size"})
    document = {"id": 1, "email": "a@x.org", "name": "A", "dateCreated": None, "segment": "new"}
    stored = lines_of(tmp_path / "browser.ndjson", document)
    with pytest.raises(UnreadableError, match="no column 'field:gone'"):
        await load(service, stored, mapping={"name": "field:gone"})


async def test_two_lines_about_one_customer_lose_nothing(service: Service, tmp_path: Path) -> None:
    await _define(service)
    await service.ingest(entry("A-1", email="a@x.org"))
    path = _file(
        tmp_path / "own.csv",
        {
            "ID": "CUST-1001",
            "Email": "",
            "Name": "A",
            "field:shoe_size": "41",
            "field:allergies": "old",
        },
        {
            "ID": "",
            "Email": "a@x.org",
            "Name": "A",
            "field:shoe_size": "",
            "field:allergies": "new",
        },
    )
    await load(service, path)
    assert await _own(service) == {"a@x.org": {"shoe_size": 41, "allergies": "new"}}
    assert read_value(OwnField("x", "x", FieldKind.TEXT), "x") == "x"
