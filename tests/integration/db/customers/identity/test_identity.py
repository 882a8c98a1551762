"""One customer per person, whatever the shop sends, and what staff say about it wins."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.core.envelope import Entry
from service.core.identity import MOST_IDENTIFIERS
from service.db.customers import editing
from service.db.customers.identity import not_a_person
from service.db.customers.identity.claims import of_customer
from service.db.customers.identity.merge import merge, merge_next
from service.db.customers.identity.pairs import separate
from service.db.customers.identity.split import CannotSplitError, split
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.ingest.test_concurrency import WAITING
from tests.wait import until

STAFF = "jane"
NOTHING = editing.HoldEdit(frozenset())


def order(number: int, **customer: Any) -> Entry:
    """Return an order of a customer with an id of the shop, an e-mail or a phone."""
    at = datetime.now(UTC) - timedelta(minutes=100 - number)
    return entry(f"ORD-{number}", customer=customer, created=at)


async def merge_all(service: Service) -> int:
    """Merge everybody who is due; return how many were merged."""
    merged = 0
    while (more := await service.in_transaction(merge_next)) is not None:
        merged += more
    return merged


async def customers(service: Service) -> dict[str, list[str]]:
    """Return each customer's identifiers and orders, by id."""
    rows = await service.rows("""
        SELECT 'CUST-' || c.id AS id,
          ARRAY(SELECT identifier FROM identifiers i WHERE i.customer_id = c.id ORDER BY 1)
          || ARRAY(SELECT o.id FROM orders o WHERE o.customer_id = c.id ORDER BY 1) AS has
        FROM customers c ORDER BY c.id""")
    return {row["id"]: row["has"] for row in rows}


async def totals(service: Service) -> dict[int, int]:
    rows = await service.rows("SELECT id, total_orders FROM customers ORDER BY id")
    return {row["id"]: row["total_orders"] for row in rows}


async def test_an_external_id_keeps_a_customer_who_changes_their_email(service: Service) -> None:
    await service.ingest(order(1, id=5512, email="a@x.example"))
    await service.ingest(order(2, id="5512 ", email="b@x.example"))
    assert await customers(service) == {
        "CUST-1001": [
            "email:a@x.example",
            "email:b@x.example",
            "external:/order-management#5512",
            "ORD-1",
            "ORD-2",
        ]
    }
    (row,) = await service.rows("SELECT email FROM customers")
    assert row["email"] == "b@x.example"
    await service.ingest(order(3, email="a@x.example"), order(4, email="b@x.example"))
    assert await totals(service) == {1001: 4}


@pytest.mark.parametrize("arrival", list(itertools.permutations(range(3))))
async def test_a_guest_and_an_account_that_turn_out_to_be_one(
    service: Service, arrival: tuple[int, ...]
) -> None:
    events = [
        order(1, email="b@x.example"),
        order(2, id=5512, email="a@x.example"),
        order(3, id=5512, email="b@x.example"),
    ]
    for place in arrival:
        await service.ingest(events[place])
    await merge_all(service)
    (has,) = (await customers(service)).values()
    assert [each for each in has if not each.startswith("customer:")] == [
        "email:a@x.example",
        "email:b@x.example",
        "external:/order-management#5512",
        "ORD-1",
        "ORD-2",
        "ORD-3",
    ]
    assert list((await totals(service)).values()) == [3]
    (row,) = await service.rows("SELECT email FROM customers")
    assert row["email"] == "b@x.example"


@pytest.mark.parametrize("nobody", [0, "0", "", "  ", None])
async def test_what_shops_write_for_a_guest_is_no_id(service: Service, nobody: object) -> None:
    await service.ingest(order(1, id=nobody, email="a@x.example"), order(2, id=nobody))
    assert await customers(service) == {"CUST-1001": ["email:a@x.example", "ORD-1"]}


async def test_a_phone_names_somebody_only_without_id_and_email(service: Service) -> None:
    await service.ingest(
        order(1, phone="+880 1711-000001"),
        order(2, phone="+8801711000001"),
        order(3, phone="+880 1711-000001", email="a@x.example"),
        order(4, phone="+880 1711-000001", email="b@x.example"),
    )
    assert {tuple(has) for has in (await customers(service)).values()} == {
        ("phone:+8801711000001", "ORD-1", "ORD-2"),
        ("email:a@x.example", "ORD-3"),
        ("email:b@x.example", "ORD-4"),
    }
    rows = await service.rows("SELECT email FROM customers WHERE total_orders = 2")
    assert rows == [{"email": None}]


async def test_merging_moves_everything_and_keeps_the_newer_profile(service: Service) -> None:
    await service.ingest(
        order(1, email="a@x.example", name="Old Name", phone="1"),
        order(2, email="b@x.example", name="New Name"),
    )
    await service.execute(
        "UPDATE customers SET email_opt_in = true, sms_opt_in = id = 1001, notes = 'note of ' || id"
    )
    await service.execute(
        "INSERT INTO interactions (customer_id, kind, happened_at, author, text)"
        " VALUES (1002, 'call', now(), 'jane', 'called')"
    )
    await service.execute(
        "UPDATE customer_search s SET searched = searched || E'\\nnote of ' || customer_id"
    )
    assert await service.in_transaction(merge, 1002, 1001, STAFF) == (1001, 1002)
    assert await customers(service) == {
        "CUST-1001": ["customer:1002", "email:a@x.example", "email:b@x.example", "ORD-1", "ORD-2"]
    }
    (row,) = await service.rows("SELECT * FROM customers")
    assert (row["name"], row["phone"], row["email"]) == ("New Name", "1", "b@x.example")
    assert (row["email_opt_in"], row["sms_opt_in"]) == (True, False)
    assert row["notes"] == "note of 1001\n\nnote of 1002"
    assert row["segment"] == "returning"
    assert await service.rows("SELECT customer_id FROM interactions") == [{"customer_id": 1001}]
    # An event that names the one who is gone means the one who stays.
    await service.ingest(order(3, id="CUST-1002"))
    assert await totals(service) == {1001: 3}


async def test_of_two_holds_the_later_one_stays(service: Service) -> None:
    await service.ingest(order(1, email="a@x.example"), order(2, email="b@x.example"))
    for number, segment, age in ((1001, "vip", "1 hour"), (1002, "inactive", "1 minute")):
        await service.execute(
            "WITH h AS (INSERT INTO segment_changes (customer_id, sequence, previous, segment,"
            " cause, settings_version, total_orders, total_spent, last_order_date, changed_at)"
            " SELECT id, 2, 'new', :segment, 'manual', 1, 1, 100, last_order_date, now()"
            " FROM customers WHERE id = :id)"
            " UPDATE customers SET segment = :segment, segment_sequence = 2, segment_manual = true,"
            " segment_pinned = true, segment_held_since = now() - CAST(:age AS interval)"
            " WHERE id = :id",
            id=number,
            segment=segment,
            age=timedelta(hours=1) if age == "1 hour" else timedelta(minutes=1),
        )
    await service.execute(
        "UPDATE segment_counters SET customers = 0, total_spent = 0, with_orders = 0"
    )
    for segment in ("vip", "inactive"):
        await service.execute(
            "UPDATE segment_counters SET customers = 1, total_spent = 100, with_orders = 1"
            " WHERE slot = 0 AND segment = :segment",
            segment=segment,
        )
    await service.execute("DELETE FROM daily_changes")
    await service.execute(
        "INSERT INTO daily_changes (day, slot, segment, customers, total_spent, with_orders)"
        " SELECT CAST(now() AT TIME ZONE 'UTC' AS date), 0, s, 1, 100, 1"
        " FROM unnest(ARRAY['vip', 'inactive']) AS u (s)"
    )
    await service.in_transaction(merge, 1001, 1002, STAFF)
    (row,) = await service.rows("SELECT segment, segment_pinned FROM customers")
    assert (row["segment"], row["segment_pinned"]) == ("inactive", True)


async def test_old_events_change_neither_a_merge_nor_a_split(service: Service) -> None:
    events = [
        order(1, email="a@x.example", name="Ann"),
        order(2, email="b@x.example", name="Bob"),
        order(3, id=7, email="b@x.example"),
    ]
    await service.ingest(*events)
    await service.in_transaction(merge, 1001, 1002, STAFF)
    await service.ingest(*events)
    assert await totals(service) == {1001: 3}
    new = await service.in_transaction(
        split, 1001, ["email:b@x.example", "external:/order-management#7", "customer:1002"], STAFF
    )
    after = {
        "CUST-1001": ["email:a@x.example", "ORD-1"],
        f"CUST-{new}": [
            "customer:1002",
            "email:b@x.example",
            "external:/order-management#7",
            "ORD-2",
            "ORD-3",
        ],
    }
    assert await customers(service) == after
    rows = await service.rows("SELECT name, email FROM customers ORDER BY id")
    assert [tuple(row.values()) for row in rows] == [
        ("Ann", "a@x.example"),
        ("Bob", "b@x.example"),
    ]
    await service.ingest(*reversed(events))
    assert await merge_all(service) == 0
    assert await customers(service) == after


async def test_no_later_event_joins_two_people(service: Service) -> None:
    await service.ingest(order(1, id=7, email="a@x.example"))
    new = await service.in_transaction(split, 1001, ["email:a@x.example"], STAFF)
    await service.ingest(order(2, id=7, email="a@x.example"), order(3, email="a@x.example"))
    assert await merge_all(service) == 0
    assert await totals(service) == {1001: 2, new: 1}
    # Staff may change their mind.
    await service.in_transaction(merge, 1001, new, STAFF)
    assert await totals(service) == {1001: 3}
    assert await service.rows("SELECT 1 FROM separations") == []


async def test_a_split_takes_some_of_a_customers_identifiers_and_not_all(service: Service) -> None:
    await service.ingest(order(1, id=7, email="a@x.example"))
    for taken, why in (
        ([], "name at least one"),
        (["email:b@x.example"], "does not have email:b@x.example"),
        (["email:a@x.example", "external:/order-management#7"], "leave at least one"),
    ):
        with pytest.raises(CannotSplitError, match=why):
            await service.in_transaction(split, 1001, taken, STAFF)


async def test_orders_of_no_person_belong_to_nobody_until_the_mark_is_taken_away(
    service: Service,
) -> None:
    shop = "email:orders@myshop.example"
    await service.ingest(*(order(n, email="orders@myshop.example") for n in range(1, 21)))
    before = await service.rows("SELECT total_orders, total_spent, segment FROM customers")
    gone = await service.in_transaction(not_a_person.mark, shop, STAFF)
    assert gone == 1001
    assert await customers(service) == {}
    assert await service.rows("SELECT count(*) AS n FROM orders WHERE customer_id IS NULL") == [
        {"n": 20}
    ]
    await service.ingest(order(21, email="orders@myshop.example"))
    assert await customers(service) == {}
    assert await service.findings() == []
    back = await service.in_transaction(not_a_person.unmark, shop, STAFF)
    assert await totals(service) == {back: 21}
    (row,) = await service.rows("SELECT segment FROM customers")
    assert row["segment"] == before[0]["segment"] == "vip"


async def test_an_order_with_another_identifier_belongs_to_whom_that_means(
    service: Service,
) -> None:
    till = "external:/order-management#1"
    await service.ingest(
        order(1, id=1, email="a@x.example"), order(2, id=1, email="b@x.example"), order(3, id=1)
    )
    assert await totals(service) == {1001: 3}
    await service.in_transaction(not_a_person.mark, till, STAFF)
    new = await service.in_transaction(split, 1001, ["email:b@x.example"], STAFF)
    assert await totals(service) == {1001: 1, new: 1}
    await service.ingest(order(4, id=1, email="c@x.example"), order(5, id=1))
    assert sorted((await totals(service)).values()) == [1, 1, 1]
    # Without the mark, the till is a person again, and its orders put the others together.
    await service.in_transaction(not_a_person.unmark, till, STAFF)
    await merge_all(service)
    assert sorted((await totals(service)).values()) == [0, 5]


async def test_nobody_with_many_identifiers_is_enlarged_by_events(service: Service) -> None:
    many = [order(n, id=n, email="market@x.example") for n in range(1, MOST_IDENTIFIERS + 20)]
    for each in many:
        await service.ingest(each)
    await merge_all(service)
    sizes = [len(await service.in_transaction(of_customer, n)) for n in await totals(service)]
    assert max(sizes) == MOST_IDENTIFIERS + 1
    waiting = await service.rows("SELECT protected FROM pending_merges")
    assert len(waiting) == len(sizes) - 1
    assert all(row["protected"] for row in waiting)
    await service.empty()
    await service.ingest(*many)
    await merge_all(service)
    sizes = [len(await service.in_transaction(of_customer, n)) for n in await totals(service)]
    assert max(sizes) == MOST_IDENTIFIERS + 1


async def test_two_replicas_merge_side_by_side(service: Service) -> None:
    for n in range(10):
        await service.ingest(order(1, email=f"{n}@x.example"), order(2, id=n))
        await service.ingest(order(3, id=n, email=f"{n}@x.example"))
    await asyncio.gather(*(merge_all(service) for _ in range(3)))
    assert await merge_all(service) >= 0
    assert len(await totals(service)) == 9 + 1
    assert await service.rows("SELECT 1 FROM pending_merges") == []


async def test_a_batch_that_waited_for_a_split_runs_again(service: Service) -> None:
    await service.ingest(order(1, id=7, email="a@x.example"))
    async with service.engine.begin() as connection:
        new = await split(connection, 1001, ["email:a@x.example"], STAFF)
        waiting = asyncio.create_task(service.ingest(order(2, email="a@x.example")))
        await until(lambda: service.rows(WAITING))
    await waiting
    assert await totals(service) == {1001: 1, new: 1}


async def test_people_who_are_two_are_not_due_to_be_merged(service: Service) -> None:
    await service.ingest(order(1, email="a@x.example"), order(2, id=7))
    await service.in_transaction(separate, 1001, 1002, STAFF)
    await service.ingest(order(3, id=7, email="a@x.example"))
    assert await merge_all(service) == 0
    assert sorted((await totals(service)).values()) == [1, 2]


async def test_whoever_is_split_off_twice_is_still_nobody_else(service: Service) -> None:
    await service.ingest(order(1, id=7, email="a@x.example"), order(2, id=7, email="b@x.example"))
    events = [order(3, id=7, email="a@x.example"), order(4, id=7, email="b@x.example")]
    first = await service.in_transaction(
        split, 1001, ["email:a@x.example", "email:b@x.example"], STAFF
    )
    second = await service.in_transaction(split, first, ["email:b@x.example"], STAFF)
    await service.ingest(*events)
    assert await merge_all(service) == 0
    assert await totals(service) == {1001: 4, first: 0, second: 0}


async def test_whoever_is_due_to_be_merged_is_due_after_a_split_as_well(service: Service) -> None:
    await service.ingest(order(1, email="a@x.example"), order(2, email="b@x.example"))
    await service.in_transaction(merge, 1001, 1002, STAFF)
    await service.ingest(order(3, id=7))
    await service.ingest(order(4, id=7, email="b@x.example"))
    new = await service.in_transaction(split, 1001, ["email:b@x.example"], STAFF)
    assert await merge_all(service) == 1
    assert await customers(service) == {
        "CUST-1001": ["customer:1002", "email:a@x.example", "ORD-1"],
        "CUST-1003": [
            f"customer:{new}",
            "email:b@x.example",
            "external:/order-management#7",
            "ORD-2",
            "ORD-3",
            "ORD-4",
        ],
    }


async def test_a_split_does_not_undo_what_staff_typed_since_the_merge(service: Service) -> None:
    await service.ingest(order(1, email="a@x.example"), order(2, email="b@x.example"))
    for number, name in ((1001, "Ann"), (1002, "Bob")):
        await service.in_transaction(editing.edit, STAFF, number, {"name": name}, NOTHING, None)
    await service.in_transaction(merge, 1001, 1002, STAFF)
    await service.in_transaction(editing.edit, STAFF, 1001, {"name": "Anna"}, NOTHING, None)
    taken = ["customer:1002", "email:b@x.example"]
    await service.in_transaction(split, 1001, taken, STAFF)
    rows = await service.rows("SELECT name FROM customers ORDER BY id")
    assert [row["name"] for row in rows] == ["Anna", "Bob"]


async def test_whoever_stays_gets_an_email_that_no_event_has_dated(service: Service) -> None:
    """Such as that of a customer from before e-mails were registers."""
    await service.ingest(order(1, id=7))
    await service.ingest(order(2, email="b@x.example"))
    await service.execute(
        "UPDATE customers SET email_at = NULL, email_event = NULL WHERE email IS NOT NULL"
    )
    await service.in_transaction(merge, 1001, 1002, STAFF)
    assert await service.rows("SELECT email, email_key FROM customers") == [
        {"email": "b@x.example", "email_key": "b@x.example"}
    ]
