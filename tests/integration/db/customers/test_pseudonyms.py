"""Ids made of a person's e-mail become pseudonyms, and their events still find their orders."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from service.core.batch import Outcome
from service.core.envelope import Entry
from service.core.personal_ids import pseudonym
from service.db.customers import editing
from tests.conftest import Service
from tests.events import entry
from tests.wait import until

JANE = "jane@example.com"
ORDER = f"{JANE}-1"
PLACED = datetime(2026, 10, 1, 12, tzinfo=UTC)


def _order(order_id: str = ORDER, email: str | None = JANE, **order: Any) -> Entry:
    order.setdefault("created", PLACED)
    order.setdefault("event_id", f"{JANE}/1")
    if email is None:
        return entry(order_id, customer=None, **order)
    return entry(order_id, email=email, name="Jane Smith", phone="512 555 5678", **order)


async def _erase(service: Service, email: str = JANE) -> editing.Erased:
    (row,) = await service.rows("SELECT id FROM customers WHERE email_key = :email", email=email)
    async with service.engine.begin() as connection:
        return await editing.delete(connection, "a test", row["id"])


async def _orders(service: Service) -> list[dict[str, Any]]:
    return await service.rows(
        "SELECT id, event_id, named_event_id, status, customer_id, erased FROM orders ORDER BY id"
    )


async def _pseudonym(service: Service, id_: str) -> str:
    (row,) = await service.rows("SELECT salt FROM installation")
    return pseudonym(id_, row["salt"])


async def test_ids_that_name_the_person_are_replaced_and_others_stay(service: Service) -> None:
    await service.ingest(_order(), _order("ORD-2", event_id="evt-2"), _order("ORD-Jane_Smith-3"))
    erased = await _erase(service)
    assert (erased.extent.orders, erased.extent.order_ids) == (3, 2)
    event = await _pseudonym(service, f"{JANE}/1")
    assert {order["id"]: order["event_id"] for order in await _orders(service)} == {
        await _pseudonym(service, ORDER): event,
        await _pseudonym(service, "ORD-Jane_Smith-3"): event,
        "ORD-2": "evt-2",
    }


async def test_an_event_that_arrives_again_is_a_duplicate(service: Service) -> None:
    events = [_order(), _order("15125555678-2", event_id="x"), _order("ORD-3")]
    await service.ingest(*events)
    await _erase(service)
    before = await _orders(service)
    for repeats_expected in (False, True):
        outcomes = await service.ingest(*events, repeats_expected=repeats_expected)
        assert outcomes == {Outcome.DUPLICATE: 3}
        assert await _orders(service) == before
    assert await service.rows("SELECT 1 FROM customers") == []


async def test_an_update_finds_its_order_even_if_it_names_nobody(service: Service) -> None:
    await service.ingest(_order(status="pending"))
    await _erase(service)
    update = _order(email=None, version=2, status="shipped", event_id=f"{JANE}/2")
    assert await service.ingest(update) == {Outcome.APPLIED: 1}
    assert await _orders(service) == [
        {
            "id": await _pseudonym(service, ORDER),
            "event_id": await _pseudonym(service, f"{JANE}/2"),
            "named_event_id": await _pseudonym(service, f"{JANE}/1"),
            "status": "shipped",
            "customer_id": None,
            "erased": True,
        }
    ]


async def test_an_old_order_that_was_never_seen_comes_with_a_pseudonym(service: Service) -> None:
    await service.ingest(_order("ORD-1"))
    await _erase(service)
    unseen = _order(f"web:{JANE}", event_id=f"{JANE}/9")
    update = _order(f"web:{JANE}", email=None, version=2, event_id=f"{JANE}/10")
    await service.ingest(unseen, update)
    assert await service.ingest(update) == {Outcome.DUPLICATE: 1}
    await service.ingest(_order(f"web:{JANE}", email=None, version=3, event_id="plain"))
    stored = [order for order in await _orders(service) if order["id"] != "ORD-1"]
    assert stored == [
        {
            "id": await _pseudonym(service, f"web:{JANE}"),
            "event_id": "plain",
            "named_event_id": None,
            "status": "completed",
            "customer_id": None,
            "erased": True,
        }
    ]


async def test_an_order_stored_before_it_named_the_erased_person_is_renamed(
    service: Service,
) -> None:
    await service.ingest(_order("ORD-1"))
    await _erase(service)
    order_id = "Jane-Smith-5"  # nothing tells that it is personal until an event has the name
    await service.ingest(_order(order_id, email=None, event_id="a"))
    await service.ingest(_order(order_id, version=2, event_id="b"))
    assert {order["id"] for order in await _orders(service)} == {
        "ORD-1",
        await _pseudonym(service, order_id),
    }


async def test_an_order_of_somebody_else_with_the_persons_email_in_its_id(
    service: Service,
) -> None:
    """Order management corrected the customer, but the id is still made of the first e-mail."""
    corrected = _order(email="bob@example.com", version=2, event_id="evt-2")
    await service.ingest(_order(), corrected)
    await _erase(service)
    (order,) = await _orders(service)
    assert order["id"] == await _pseudonym(service, ORDER)
    assert not order["erased"]
    assert await service.ingest(corrected) == {Outcome.DUPLICATE: 1}
    await service.ingest(_order(email=None, version=3, event_id="evt-3", status="shipped"))
    (order,) = await _orders(service)
    assert (order["status"], order["customer_id"] is not None) == ("shipped", True)


async def test_a_pseudonymous_order_can_get_a_customer_again(service: Service) -> None:
    await service.ingest(_order())
    await _erase(service)
    later = _order(email="bob@example.com", version=2, event_id="evt-2")
    await service.ingest(later)
    (bob,) = await service.rows("SELECT id, total_orders FROM customers")
    assert bob["total_orders"] == 1
    (order,) = await _orders(service)
    assert order["customer_id"] == bob["id"]
    await service.ingest(_order(email=None, version=3, event_id="evt-3", status="cancelled"))
    (bob,) = await service.rows("SELECT total_orders FROM customers")
    assert bob["total_orders"] == 0


async def test_an_event_that_waited_for_the_erasure_does_not_bring_the_id_back(
    service: Service,
) -> None:
    """It looked the order up before the erasure was committed, and writes after that."""
    await service.ingest(_order(status="pending"))
    (jane,) = await service.rows("SELECT id FROM customers")
    update = _order(email=None, version=2, status="shipped", event_id="evt-2")
    async with service.engine.begin() as connection:
        await editing.delete(connection, "a test", jane["id"])
        waiting = asyncio.create_task(service.ingest(update))

        async def waits() -> bool:
            rows = await service.rows(
                "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND datname = current_database()"
            )
            return bool(rows)

        await until(waits)
    assert await waiting == {Outcome.APPLIED: 1}
    (order,) = await _orders(service)
    assert (order["id"], order["status"]) == (await _pseudonym(service, ORDER), "shipped")


async def test_a_new_order_of_the_person_keeps_its_id(service: Service) -> None:
    """They are a customer again, until they are erased again."""
    await service.ingest(_order())
    await _erase(service)
    again = f"{JANE}-2"
    await service.ingest(
        _order(again, created=datetime.now(UTC) + timedelta(minutes=1), event_id="evt-2")
    )
    assert again in {order["id"] for order in await _orders(service)}
    await _erase(service)
    assert JANE not in str(await _orders(service))
