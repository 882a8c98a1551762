"""An erasure covers all that means a person, and everybody who was merged into them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.core.envelope import Entry
from service.core.personal_ids import pseudonym
from service.db.customers import editing
from service.db.customers.identity import not_a_person
from service.db.customers.identity.merge import merge
from service.db.customers.identity.pairs import separate
from service.db.customers.identity.split import split
from service.db.operations.status import note_verification
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.customers.conftest import Api
from tests.integration.db.customers.test_erasure import _mentions

STAFF = "jane"
SHOP = "external:/order-management"


def order(number: int | str, **customer: Any) -> Entry:
    at = datetime.now(UTC) - timedelta(days=2)
    return entry(f"ORD-{number}", customer=customer, created=at)


async def erase(service: Service, number: int) -> editing.Erased:
    return await service.in_transaction(editing.delete, STAFF, number)


async def owners(service: Service) -> dict[str, int | None]:
    rows = await service.rows("SELECT id, customer_id FROM orders")
    return {row["id"]: row["customer_id"] for row in rows}


async def audit(service: Service, action: str) -> list[dict[str, Any]]:
    rows = await service.rows(
        "SELECT details FROM audit WHERE action = :action ORDER BY id", action=action
    )
    return [row["details"] for row in rows]


@pytest.mark.parametrize(
    "again",
    [
        {"id": 5512},
        {"email": "a@x.example"},
        {"email": "b@x.example"},
        {"id": 5512, "email": "b@x.example"},
    ],
)
async def test_no_identifier_of_an_erased_person_names_them_again(
    service: Service, again: dict[str, Any]
) -> None:
    await service.ingest(
        order(1, id=5512, email="a@x.example"), order(2, id=5512, email="b@x.example")
    )
    await erase(service, 1001)
    assert await service.rows("SELECT 1 FROM identifiers") == []
    assert len(await service.rows("SELECT 1 FROM erased")) == 4, "their number is one, too"
    await service.ingest(order(3, **again))
    assert await service.rows("SELECT 1 FROM customers") == []
    rows = await service.rows("SELECT erased, identifier, other_identifier FROM orders")
    nothing = {"erased": True, "identifier": None, "other_identifier": None}
    assert rows == [nothing] * 3


SPELLINGS = ("Jane@bücher.example", "jane@xn--bcher-kva.example", "jane@bu\u0308cher.example")


@pytest.mark.parametrize("first", SPELLINGS)
async def test_an_email_is_erased_in_all_its_spellings(
    api: Api, service: Service, first: str
) -> None:
    await service.ingest(order(1, email=first), order(f"{first}-2", email=first))
    for number, spelling in enumerate(SPELLINGS):
        await service.ingest(entry(f"BAD-{number}", email=spelling, total="-1"))
    other = await api.create(name="Bob", email="bob@x.example", notes="was jane@bücher.example")
    done = (await api.http.delete("/api/v1/customers/CUST-1001")).json()
    assert (done["erased"]["deadLetters"], done["pseudonymisedOrderIds"]) == (3, 1)
    assert [each["page"] for each in done["mentions"]["items"]] == [f"/customers/{other['id']}"]
    await api.patch(other["id"], notes="")
    await service.execute("UPDATE audit SET details = '{}' WHERE customer_id <> 1001")
    await service.ingest(*(order(f"again-{n}", email=each) for n, each in enumerate(SPELLINGS)))
    assert await _mentions(service, "bücher", "bcher-kva", "bu\u0308cher") == []
    assert {row["id"] for row in await service.rows("SELECT id FROM customers")} == {1002}


async def test_a_phone_that_names_somebody_is_erased(service: Service) -> None:
    await service.ingest(order(1, phone="+880 1711-000001", name="Rahim"))
    await erase(service, 1001)
    await service.ingest(order(2, phone="+8801711000001", name="Rahim"))
    assert await owners(service) == {"ORD-1": None, "ORD-2": None}
    assert await _mentions(service, "1711", "Rahim") == []


async def test_an_event_with_an_erased_identifier_names_by_the_live_one(service: Service) -> None:
    await service.ingest(order(1, id=7, email="a@x.example"))
    await erase(service, 1001)
    await service.ingest(
        order("a@x.example-2", id=8, email="a@x.example"), order(3, id=7, email="b@x.example")
    )
    (salt,) = await service.rows("SELECT salt FROM installation")
    assert await service.rows(
        "SELECT o.id, o.identifier, o.other_identifier, o.erased, c.email FROM orders o"
        " JOIN customers c ON c.id = o.customer_id ORDER BY identifier"
    ) == [
        {
            "id": "ORD-3",
            "identifier": "email:b@x.example",
            "other_identifier": None,
            "erased": False,
            "email": "b@x.example",
        },
        {
            "id": pseudonym("ORD-a@x.example-2", salt["salt"]),
            "identifier": f"{SHOP}#8",
            "other_identifier": None,
            "erased": False,
            "email": None,
        },
    ]
    assert await _mentions(service, "a@x.example", f"{SHOP}#7") == []


async def test_an_order_of_an_erased_person_does_not_go_to_whom_it_names_beside_them(
    service: Service,
) -> None:
    """Otherwise the same event, applied again, would change something."""
    await service.ingest(order(1, id=7))
    await service.ingest(order(2, email="a@x.example"))
    await service.in_transaction(separate, 1001, 1002, STAFF)
    both = order(3, id=7, email="a@x.example")
    await service.ingest(both)
    await erase(service, 1001)
    await service.ingest(both)
    assert await owners(service) == {"ORD-1": None, "ORD-2": 1002, "ORD-3": None}


async def test_orders_of_others_do_not_mention_an_erased_person(service: Service) -> None:
    await service.ingest(order(1, id=7))
    await service.ingest(order(2, email="a@x.example"), order(3, email="b@x.example"))
    await service.in_transaction(separate, 1001, 1002, STAFF)
    await service.ingest(order(4, id=7, email="a@x.example"), order(5, id=7, email="b@x.example"))
    assert len(await service.rows("SELECT 1 FROM pending_merges")) == 1
    for number in (1002, 1003):
        await erase(service, number)
    assert await service.rows("SELECT 1 FROM pending_merges") == []
    assert await service.rows("SELECT 1 FROM separations") == []
    assert await _mentions(service, "a@x.example", "b@x.example") == []
    assert await owners(service) == {
        "ORD-1": 1001,
        "ORD-2": None,
        "ORD-3": None,
        "ORD-4": 1001,
        "ORD-5": 1001,
    }


async def test_a_mention_is_found_after_the_identifier_was_split_off_twice(
    service: Service,
) -> None:
    await service.ingest(
        order(1, id=7, email="a@x.example"), order(2, email="b@x.example"), order(3, id=7)
    )
    await service.in_transaction(merge, 1001, 1002, STAFF)
    first = await service.in_transaction(
        split, 1001, ["email:a@x.example", "email:b@x.example"], STAFF
    )
    second = await service.in_transaction(split, first, ["email:a@x.example"], STAFF)
    await erase(service, second)
    assert await _mentions(service, "a@x.example") == []
    assert await owners(service) == {"ORD-1": 1001, "ORD-2": first, "ORD-3": 1001}


async def _two_people(api: Api, service: Service) -> None:
    await service.ingest(
        order(1, email="ann@x.example", name="Ann Low", phone="+1 512 555 1111"),
        order(2, email="bob@x.example", name="Bob High", phone="+1 512 555 2222"),
    )
    await api.patch("CUST-1002", notes="Bob likes tea")


BOB = ("bob@x.example", "Bob High", "555 2222", "likes tea")
ANN = ("ann@x.example", "Ann Low", "555 1111")


async def test_whoever_was_merged_into_the_person_is_erased_with_them(
    api: Api, service: Service
) -> None:
    await _two_people(api, service)
    await service.in_transaction(merge, 1001, 1002, STAFF)
    for number, names in enumerate(({"email": "bob@x.example"}, {"id": "CUST-1002"})):
        await service.ingest(entry(f"BAD-{number}", customer=names, total="-1"))
    held = await api.get("/CUST-1001/data")
    assert [each["value"] for each in held["identifiers"]] == [
        "ann@x.example",
        "bob@x.example",
        "CUST-1002",
    ]
    assert len(held["deadLetters"]) == 2
    edits = [each["action"] for each in held["timeline"] if each["type"] == "edit"]
    assert sorted(edits) == ["customer.merged", "customer.updated"]
    done = await erase(service, 1001)
    assert (done.extent.edits, done.extent.dead_letters) == (2, 2)
    assert await _mentions(service, *BOB, *ANN) == []
    await service.ingest(order(3, id="CUST-1002"), order(4, email="bob@x.example"))
    assert set((await owners(service)).values()) == {None}


@pytest.mark.parametrize("with_number", [False, True])
async def test_whoever_was_split_off_is_erased_from_what_the_merge_kept(
    api: Api, service: Service, *, with_number: bool
) -> None:
    await _two_people(api, service)
    await service.in_transaction(merge, 1001, 1002, STAFF)
    taken = ["email:bob@x.example", *(["customer:1002"] if with_number else [])]
    bob = await service.in_transaction(split, 1001, taken, STAFF)
    if not with_number:
        await service.ingest(order(3, email="bob@x.example", name="Bob High"))
    await erase(service, bob)
    (merged,), (split_off,) = (
        await audit(service, "customer.merged"),
        await audit(service, "customer.split"),
    )
    assert set(merged) == {"other", "stayed"}
    assert merged["stayed"]["name"] == "Ann Low"
    assert set(split_off) == {"other"}
    assert await _mentions(service, "bob@x.example") == []
    if with_number:
        assert await _mentions(service, *BOB[:3]) == []
    assert await owners(service) | {"ORD-3": None} == {"ORD-1": 1001, "ORD-2": None, "ORD-3": None}


async def test_whoever_stays_is_erased_and_whoever_was_split_off_is_not(
    api: Api, service: Service
) -> None:
    await _two_people(api, service)
    await service.in_transaction(merge, 1001, 1002, STAFF)
    bob = await service.in_transaction(split, 1001, ["email:bob@x.example", "customer:1002"], STAFF)
    await service.ingest(
        entry("BAD", email="bob@x.example", name="Bob High", phone="+1 512 555 2222", total="-1")
    )
    assert (await erase(service, 1001)).extent.dead_letters == 0
    assert await _mentions(service, *ANN) == []
    row = await api.get(f"/CUST-{bob}")
    assert (row["name"], row["email"], row["notes"]) == (
        "Bob High",
        "bob@x.example",
        "Bob likes tea",
    )
    edits = [
        each["action"]
        for each in (await api.get(f"/CUST-{bob}/data"))["timeline"]
        if each["type"] == "edit"
    ]
    assert edits == ["customer.updated"], "what was done to Bob before the merge"


async def test_marks_that_were_taken_away_do_not_tell_whose_identifier_it_was(
    service: Service,
) -> None:
    shop = "email:till@x.example"
    await service.ingest(order(1, email="a@x.example"))
    await service.in_transaction(not_a_person.mark, shop, STAFF)
    await service.ingest(order(2, email="till@x.example"))
    number = await service.in_transaction(not_a_person.unmark, shop, STAFF)
    assert number
    await service.execute("UPDATE audit SET at = at - interval '2 hours'")
    report = await service.verify()
    await service.in_transaction(note_verification, [], report.remembered)
    await erase(service, number)
    assert await _mentions(service, "till@x.example") == []


async def test_dead_letters_that_name_an_external_id_are_emptied(service: Service) -> None:
    await service.ingest(order(1, id=5512, email="a@x.example"))
    await service.ingest(
        entry("BAD-1", customer={"id": 5512}, total="-1"),
        entry("BAD-2", customer={"id": 5513}, total="-1"),
    )
    assert (await erase(service, 1001)).extent.dead_letters == 1


async def test_whoever_is_erased_by_the_release_before_leaves_no_identifiers(
    empty_service: Service,
) -> None:
    service = empty_service
    await service.ingest(order(1, id=7))
    await service.ingest(order(2, email="a@x.example"))
    await service.in_transaction(separate, 1001, 1002, STAFF)
    await service.execute("UPDATE orders SET customer_id = NULL WHERE customer_id = 1001")
    await service.execute("DELETE FROM customers WHERE id = 1001")
    assert await _mentions(service, f"{SHOP}#7") == []
    assert await service.rows("SELECT 1 FROM separations") == []
    await service.ingest(order(3, id=7))
    assert (await owners(service))["ORD-3"] == 1003


async def test_an_order_of_an_erased_person_that_a_mark_names_later_goes_with_the_mark(
    service: Service,
) -> None:
    shop = "email:till@x.example"
    await service.ingest(order(1, email="a@x.example"))
    await erase(service, 1001)
    await service.in_transaction(not_a_person.mark, shop, STAFF)
    await service.ingest(entry("ORD-1", customer={"email": "till@x.example"}, version=2))
    await service.ingest(order(2, email="till@x.example"))
    assert await owners(service) == {"ORD-1": None, "ORD-2": None}
    number = await service.in_transaction(not_a_person.unmark, shop, STAFF)
    assert number
    assert await owners(service) == {"ORD-1": number, "ORD-2": number}
