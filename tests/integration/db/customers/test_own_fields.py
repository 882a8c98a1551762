"""Own fields: defined by admins, edited with a customer, merged, split and erased with them."""

import asyncio
from typing import Any

import pytest

from service.core.own_fields import MOST_FIELDS
from service.db.customers import editing
from service.db.customers.editing import HoldEdit
from service.db.customers.identity import not_a_person
from service.db.customers.identity.merge import merge
from service.db.customers.identity.split import split
from service.db.customers.own_fields import catalogue
from service.db.engine import in_transaction
from service.db.locks import AdvisoryLock, lock_customers, wait_for_lock
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.customers.conftest import Api

_FIELDS = "/api/v1/fields"


async def _define(api: Api, expect: int = 201, **body: Any) -> dict[str, Any]:
    answer = await api.http.post(_FIELDS, json=body)
    assert answer.status_code == expect, answer.text
    field: dict[str, Any] = answer.json()
    return field


async def _change(api: Api, key: str, expect: int = 200, **body: Any) -> dict[str, Any]:
    answer = await api.http.patch(f"{_FIELDS}/{key}", json=body)
    assert answer.status_code == expect, answer.text
    field: dict[str, Any] = answer.json()
    return field


async def _labels(api: Api) -> list[str]:
    return [field["label"] for field in (await api.http.get(_FIELDS)).json()["items"]]


async def _shop(api: Api, service: Service, people: int = 2) -> None:
    """Define a field of each kind, and let customers order."""
    await _define(api, label="Allergies", kind="text")
    await _define(api, label="Shoe size", kind="number")
    await _define(api, label="Birthday", kind="date")
    await _define(api, label="Skin type", kind="choice", choices=["Dry", "Oily"])
    await service.ingest(
        *(entry(f"ORD-{n}", email=f"c{n}@x.org", name=f"C {n}") for n in range(people))
    )


_ALL = {"allergies": "nuts", "shoe_size": 42.5, "birthday": "1990-04-01", "skin_type": "Dry"}


async def test_fields_are_defined_renamed_and_ordered(api: Api, service: Service) -> None:
    await _shop(api, service)
    assert await _labels(api) == ["Allergies", "Shoe size", "Birthday", "Skin type"]
    assert (await _define(api, label="Size", kind="number", key="eu"))["key"] == "eu"
    assert (await _define(api, label="Skin-type", kind="text"))["key"] == "skin_type_2"
    moved = await _change(api, "eu", label="Size (EU)", position=1)
    assert moved == {"key": "eu", "label": "Size (EU)", "kind": "number", "choices": []}
    await _change(api, "allergies", position=20)
    assert await _labels(api) == [
        *("Size (EU)", "Shoe size", "Birthday", "Skin type", "Skin-type", "Allergies")
    ]
    rows = await service.rows("SELECT position FROM own_fields ORDER BY 1")
    assert [row["position"] for row in rows] == [1, 2, 3, 4, 5, 6]
    audit = await service.rows("SELECT action, details FROM audit ORDER BY id DESC LIMIT 1")
    assert audit[0]["action"] == "field.changed"
    assert (await api.http.get(f"{_FIELDS}/nothing")).status_code == 404
    await _change(api, "nothing", 404, label="x")


@pytest.mark.parametrize(
    ("body", "status", "where", "why"),
    [
        ({"label": " ", "kind": "text"}, 422, "body.label", "blank"),
        ({"label": "shoe SIZE", "kind": "text"}, 409, "body.label", "another field"),
        ({"label": "x", "kind": "text", "key": "birthday"}, 409, "body.key", "another field"),
        ({"label": "x", "kind": "text", "key": "A b"}, 422, "body.key", "begin with a letter"),
        ({"label": "x", "kind": "colour"}, 422, "body.kind", "text"),
        ({"label": "x", "kind": "text", "choices": ["a"]}, 422, "body.choices", "only choice"),
        ({"label": "x", "kind": "choice"}, 422, "body.choices", "at least one"),
        ({"label": "x", "kind": "choice", "choices": ["a", "A"]}, 422, "body.choices", "twice"),
    ],
)
async def test_a_wrong_definition_is_refused(
    api: Api, service: Service, body: dict[str, Any], status: int, where: str, why: str
) -> None:
    await _shop(api, service, 0)
    (fault,) = (await _define(api, status, **body))["errors"]
    assert fault["where"] == where
    assert why in fault["message"]


async def test_there_are_twenty_at_most(api: Api) -> None:
    for n in range(MOST_FIELDS):
        await _define(api, label=f"Field {n}", kind="text")
    refused = await _define(api, 409, label="One more", kind="text")
    assert "20 fields already; delete one" in refused["detail"]


async def test_values_are_edited_with_the_customer(api: Api, service: Service) -> None:
    await _shop(api, service)
    before = await api.http.get("/api/v1/customers/CUST-1001")
    assert before.json()["fields"] == {}
    edited = await api.patch("CUST-1001", if_match=before.headers["etag"], fields=_ALL)
    assert edited["fields"] == _ALL
    assert edited["dateUpdated"] > before.json()["dateUpdated"]
    late = await api.patch(
        "CUST-1001", 412, if_match=before.headers["etag"], fields={"shoe_size": 40}
    )
    assert late["current"]["fields"] == _ALL
    changes = {"shoe_size": 43, "allergies": None, "birthday": "1990-04-01"}
    edited = await api.patch("CUST-1001", fields=changes, notes="x")
    assert edited["fields"] == {"shoe_size": 43, "birthday": "1990-04-01", "skin_type": "Dry"}
    timeline = (await api.get("/CUST-1001/timeline"))["items"]
    assert next(it["changes"] for it in timeline if it["type"] == "edit") == {
        "notes": ["", "x"],
        "field.shoe_size": [42.5, 43],
        "field.allergies": ["nuts", None],
    }
    unchanged = await api.patch("CUST-1001", fields={"shoe_size": 43})
    assert unchanged["dateUpdated"] == edited["dateUpdated"]
    assert (await api.get("/CUST-1001/data"))["customer"]["fields"] == edited["fields"]
    assert (await api.get())["items"][-1]["fields"] == edited["fields"]
    new = await api.create(name="New", fields={"skin_type": "OILY", "allergies": ""})
    assert new["fields"] == {"skin_type": "Oily"}
    nothing = dict.fromkeys(edited["fields"])
    assert (await api.patch("CUST-1001", fields=nothing))["fields"] == {}
    assert await service.findings() == []


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("shoe", 42, "is not a field; the fields are allergies, shoe_size"),
        ("shoe_size", "42", "a number, such as 42 or 99.5, without quotes"),
        ("shoe_size", True, ""),
        ("birthday", "April", "a date, such as 2026-11-28"),
        ("skin_type", "Wet", "one of Dry, Oily"),
        ("allergies", 42, "in quotes"),
        ("allergies", ["nuts"], ""),
    ],
)
async def test_a_wrong_value_is_refused_and_nothing_is_saved(
    api: Api, service: Service, key: str, value: object, why: str
) -> None:
    await _shop(api, service, 1)
    problem = await api.patch("CUST-1001", 422, notes="x", fields={key: value})
    assert problem["errors"][0]["where"].startswith(f"body.fields.{key}")
    assert why in problem["errors"][0]["message"]
    assert (await api.get("/CUST-1001"))["notes"] == ""
    assert (await api.create(422, name="N", fields={key: value}))["status"] == 422


async def test_a_choice_in_use_stays_and_is_renamed_for_all(api: Api, service: Service) -> None:
    await _shop(api, service, 3)
    for n, skin in enumerate(("Dry", "Dry", "Oily")):
        await api.patch(f"CUST-{1001 + n}", fields={"skin_type": skin})
    used = (await api.http.get(f"{_FIELDS}/skin_type")).json()
    assert (used["customers"], used["customersByChoice"]) == (3, {"Dry": 2, "Oily": 1})
    refused = await _change(api, "skin_type", 409, choices=["Oily", "Mixed"])
    assert "leaves out 'Dry', which 2 customers have" in refused["detail"]
    changed = await _change(
        api, "skin_type", renamed={"Dry": "Oily", "Oily": "Dry"}, choices=["Oily", "Dry", "Mixed"]
    )
    assert changed["choices"] == ["Oily", "Dry", "Mixed"]
    await _change(api, "skin_type", choices=["DRY", "oily"])
    skins = [c["fields"]["skin_type"] for c in (await api.get(sort="dateCreated"))["items"]]
    assert sorted(skins) == ["DRY", "oily", "oily"]
    await _change(api, "skin_type", 422, renamed={"Wet": "x"})
    await _change(api, "skin_type", 422, renamed={"DRY": "oily"})
    await _change(api, "shoe_size", 422, choices=["x"])
    assert await service.findings() == []


async def test_a_field_is_deleted_with_its_values(api: Api, service: Service) -> None:
    await _shop(api, service, 3)
    await api.patch("CUST-1001", fields=_ALL)
    await api.patch("CUST-1002", fields={"shoe_size": 40})
    etag = (await api.http.get("/api/v1/customers/CUST-1001")).headers["etag"]
    deleted = await api.http.delete(f"{_FIELDS}/shoe_size")
    assert (deleted.status_code, deleted.json()) == (200, {"customers": 2})
    assert "shoe_size" not in (await api.get("/CUST-1001"))["fields"]
    await api.patch("CUST-1001", 412, if_match=etag, fields={"allergies": "x"})
    assert len(await service.rows("SELECT * FROM customer_fields")) == 1
    (noted,) = await service.rows("SELECT details FROM audit WHERE action = 'field.deleted'")
    assert noted["details"]["customers"] == 2
    assert (await api.http.delete(f"{_FIELDS}/shoe_size")).status_code == 404
    assert await _labels(api) == ["Allergies", "Birthday", "Skin type"]
    assert await service.findings() == []


async def test_a_merge_keeps_what_both_had_and_a_split_gives_it_back(
    api: Api, service: Service
) -> None:
    await _shop(api, service)
    await api.patch("CUST-1001", fields={"shoe_size": 40, "birthday": "1990-04-01"})
    theirs = {"shoe_size": 42, "allergies": "nuts", "skin_type": "Dry"}
    await api.patch("CUST-1002", fields=theirs)
    async with service.engine.begin() as connection:
        await merge(connection, 1001, 1002, "test")
    joined = {"shoe_size": 40, "birthday": "1990-04-01", "allergies": "nuts", "skin_type": "Dry"}
    assert (await api.get("/CUST-1001"))["fields"] == joined
    (merged,) = await service.rows("SELECT details FROM audit WHERE action = 'customer.merged'")
    assert merged["details"]["gone"]["own_fields"] == theirs, "also the value that lost"
    await api.patch("CUST-1001", fields={"allergies": "milk"})
    await _change(api, "skin_type", renamed={"Dry": "Very dry"})
    async with service.engine.begin() as connection:
        other = await split(connection, 1001, ["email:c1@x.org", "customer:1002"], "test")
    assert (await api.get(f"/CUST-{other}"))["fields"] == {"shoe_size": 42, "allergies": "nuts"}
    assert (await api.get("/CUST-1001"))["fields"] == {
        "shoe_size": 40,
        "birthday": "1990-04-01",
        "allergies": "milk",  # changed since
        "skin_type": "Very dry",  # the other one had another word for it
    }
    assert await service.findings() == []


async def test_an_erasure_removes_the_values_everywhere(api: Api, service: Service) -> None:
    await _shop(api, service)
    await api.patch("CUST-1001", fields={"allergies": "kiwi"})
    await api.patch("CUST-1002", fields={"allergies": "mango"})
    async with service.engine.begin() as connection:
        await merge(connection, 1001, 1002, "test")
    async with service.engine.begin() as connection:
        await editing.delete(connection, "test", 1001)
    assert await service.rows("SELECT * FROM customer_fields") == []
    audit = str(await service.rows("SELECT details FROM audit"))
    assert "kiwi" not in audit
    assert "mango" not in audit
    assert await service.findings() == []


async def test_a_split_gives_back_what_an_erasure_of_somebody_else_has_left(
    api: Api, service: Service
) -> None:
    await _shop(api, service)
    await api.patch("CUST-1001", fields={"birthday": "1990-04-01"})
    await api.patch("CUST-1002", fields={"allergies": "mango"})
    async with service.engine.begin() as connection:
        await merge(connection, 1001, 1002, "test")
    async with service.engine.begin() as connection:
        erased = await split(connection, 1001, ["email:c0@x.org"], "test")
    async with service.engine.begin() as connection:
        await editing.delete(connection, "test", erased)
    (merged,) = await service.rows("SELECT details FROM audit WHERE action = 'customer.merged'")
    assert {"gone", "stayed"} - {*merged["details"]} == {"stayed"}
    async with service.engine.begin() as connection:
        other = await split(connection, 1001, ["customer:1002"], "test")
    assert (await api.get(f"/CUST-{other}"))["fields"] == {"allergies": "mango"}
    assert (await api.get("/CUST-1001"))["fields"] == {"birthday": "1990-04-01"}
    assert await service.findings() == []


async def test_somebody_with_a_value_is_a_person(api: Api, service: Service) -> None:
    await _shop(api, service, 0)
    await api.create(email="till@x.org", fields={"shoe_size": 40})
    async with service.engine.begin() as connection:
        assert await not_a_person.mark(connection, "email:till@x.org", "test") is None
    assert (await api.get("/CUST-1001"))["fields"] == {"shoe_size": 40}


async def test_nobody_writes_a_value_while_a_field_changes_and_no_order_waits_for_it(
    api: Api, service: Service
) -> None:
    await _shop(api, service, 1)
    no_hold = HoldEdit(frozenset())

    async def write(connection: Any) -> None:
        await editing.edit(connection, "test", 1001, {}, no_hold, None, own={"shoe_size": 40})

    async with service.engine.begin() as changing:
        await wait_for_lock(changing, AdvisoryLock.OWN_FIELDS)
        writing = asyncio.create_task(in_transaction(service.engine, write))
        done, _ = await asyncio.wait([writing], timeout=0.3)
        assert not done, "it waits for the field"
        async with service.engine.begin() as batch:
            await asyncio.wait_for(lock_customers(batch, [1001]), 10)
        await catalogue.delete(changing, "test", "shoe_size")
    with pytest.raises(editing.InvalidEditError):
        await writing
    assert await service.findings() == []


async def test_edits_of_one_customer_at_once_lose_no_value(api: Api, service: Service) -> None:
    await _shop(api, service, 1)
    await asyncio.gather(*(api.patch("CUST-1001", fields={key: _ALL[key]}) for key in _ALL))
    assert (await api.get("/CUST-1001"))["fields"] == _ALL


async def test_verify_finds_values_that_no_field_takes(api: Api, service: Service) -> None:
    await _shop(api, service)
    await api.patch("CUST-1001", fields=_ALL)
    assert await service.findings() == []
    for wrong in (
        """'{"shoe_size": "42"}'""",
        """'{"birthday": "1990-02-30"}'""",
        """'{"birthday": 1990}'""",
        """'{"skin_type": "Wet"}'""",
        """'{"allergies": 1}'""",
        """'{"gone": "x"}'""",
    ):
        await service.execute(f"UPDATE customer_fields SET field_values = {wrong}")
        (finding,) = await service.findings()
        assert len(finding.faults) == 1, wrong
    await service.execute("UPDATE customer_fields SET customer_id = 999")
    (finding,) = await service.findings()
    assert len(finding.faults) == 2
    await service.execute("DELETE FROM customer_fields")
