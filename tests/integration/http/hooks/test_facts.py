"""Deletions and refunds, which name an order by the shop's number, whenever they arrive."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from tests.conftest import Service
from tests.integration.http.hooks.conftest import apply_all
from tests.integration.http.hooks.shop import Shop, Woo, shopify_order, woo_order
from tests.integration.transfer.files import load

NOW = datetime.now(UTC).replace(microsecond=0)
ORDER = 820_982_911_946_154_000 + 1411
Sent = tuple[str, dict[str, Any], datetime]


def refund(
    id_: int, amount: str, at: datetime, *, order: int = ORDER, status: str = "success"
) -> dict[str, Any]:
    """Return a refund as `refunds/create` has it."""
    return {
        "id": id_,
        "order_id": order,
        "created_at": at.isoformat(),
        "processed_at": at.isoformat(),
        "refund_line_items": [{"id": 1, "line_item": {"id": 2, "price": "9.00"}}],
        "transactions": [{"id": 3, "kind": "refund", "status": status, "amount": amount}],
    }


def at(hours: float) -> datetime:
    return NOW - timedelta(hours=10 - hours)


STORY: list[Sent] = [
    ("orders/create", shopify_order(updated=at(0)), at(0)),
    ("refunds/create", refund(1, "5.00", at(2)), at(2)),
    ("orders/updated", shopify_order(updated=at(2.1), created=at(0), refunds={1: "5.00"}), at(2.1)),
    ("refunds/create", refund(2, "7.00", at(3)), at(3)),
    ("refunds/create", refund(3, "2.00", at(4), status="failure"), at(4)),
    ("refunds/create", refund(4, "1.00", at(5)), at(5)),
]


async def told(service: Service, shop: Shop, sent: list[Sent]) -> None:
    """Send deliveries. A worker applies those that go through the stream."""
    for topic, payload, when in sent:
        answer = await shop.send(topic, payload, at=when, event=f"{topic} {when}")
        assert answer.status_code == 200, answer.text
        if answer.json()["outcome"] == "published":
            await apply_all(service)


async def state(service: Service) -> dict[str, Any]:
    [row] = await service.rows(
        "SELECT o.status, o.payment_status, o.refunded, o.event_id, o.updated_at, o.sent_at,"
        " c.total_spent, c.total_orders FROM orders o JOIN customers c ON c.id = o.customer_id"
    )
    return row


@pytest.mark.parametrize("seed", range(4))
async def test_refunds_and_updates_lead_to_one_state_in_whatever_order_they_arrive(
    service: Service, shop: Shop, seed: int
) -> None:
    """Shuffled and sent twice. The order and its customer are in the same state each time."""
    sent = [*STORY, *STORY]
    Random(seed).shuffle(sent)
    await told(service, shop, sent)
    found = await state(service)
    assert found == {
        "status": "processing",
        "payment_status": "partially_refunded",
        "refunded": Decimal("13.00"),
        "event_id": f"orders/updated {at(2.1)}",
        "updated_at": at(2.1),
        "sent_at": at(2.1) + timedelta(microseconds=3),
        "total_spent": Decimal("26.00"),
        "total_orders": 1,
    }


async def test_a_refund_that_the_hook_never_told_stays_counted(
    service: Service, shop: Shop
) -> None:
    """The order had a refund before the shop was registered."""
    order = shopify_order(updated=at(1), refunds={9: "3.00"})
    later = [
        ("refunds/create", refund(1, "5.00", at(2)), at(2)),
        ("refunds/create", refund(2, "7.00", at(3)), at(3)),
    ]
    await told(service, shop, [("orders/updated", order, at(1)), *reversed(later)])
    assert (await state(service))["refunded"] == Decimal("15.00")


async def test_an_order_that_was_refunded_in_full_does_not_count(
    service: Service, shop: Shop
) -> None:
    await told(service, shop, [STORY[0], ("refunds/create", refund(1, "39.00", at(2)), at(2))])
    found = await state(service)
    assert (found["payment_status"], found["total_orders"]) == ("refunded", 0)


@pytest.mark.parametrize("first", [True, False], ids=["deleted first", "created first"])
async def test_a_deleted_order_is_cancelled_whichever_arrives_first(
    service: Service, shop: Shop, *, first: bool
) -> None:
    deletion: Sent = ("orders/delete", {"id": ORDER}, at(4))
    creation = STORY[0]
    late = ("orders/updated", shopify_order(updated=at(3), created=at(0)), at(3))
    sent = [deletion, creation] if first else [creation, deletion]
    await told(service, shop, [*sent, late, deletion])
    found = await state(service)
    assert (found["status"], found["total_orders"]) == ("cancelled", 0)
    assert found["updated_at"] == at(3)


async def test_an_order_of_woocommerce_that_was_restored_counts_again(
    service: Service, woo: Woo
) -> None:
    await woo.send("order.created", woo_order())
    await apply_all(service)
    assert (await woo.send("order.deleted", {"id": 727})).status_code == 200
    [order] = await service.rows("SELECT status FROM orders")
    assert order["status"] == "cancelled"
    restored = (datetime.now(UTC) + timedelta(seconds=2)).replace(tzinfo=None, microsecond=0)
    await woo.send("order.restored", woo_order(date_modified_gmt=restored.isoformat()))
    await apply_all(service)
    [order] = await service.rows("SELECT status FROM orders")
    assert order["status"] == "processing"


async def test_an_order_from_a_file_is_found_by_the_shops_number(
    service: Service, shop: Shop, tmp_path: Any
) -> None:
    """The file is taken for one of the only shop that has a hook."""
    path = tmp_path / "orders.json"
    path.write_text(json.dumps([shopify_order(updated=at(1))]))
    done = await load(service, path)
    assert done.refused == 0
    await told(service, shop, [("refunds/create", refund(1, "5.00", at(2)), at(2))])
    assert (await state(service))["refunded"] == Decimal("5.00")
    again = await load(service, path)
    assert [verdict.value for verdict in again.counts] == ["unchanged"]
    assert (await state(service))["refunded"] == Decimal("5.00")


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        ("orders/delete", {"name": "#1411"}),
        ("orders/delete", []),
        ("refunds/create", {"order_id": 1, "transactions": []}),
        ("refunds/create", b'{"id": 5, "order_id": 7, "trans'),
        ("refunds/create", refund(1, "9" * 20, NOW)),
    ],
)
async def test_a_fact_that_cannot_be_read_is_a_dead_letter(
    service: Service, shop: Shop, topic: str, body: object
) -> None:
    assert (await shop.send(topic, body, at=NOW)).json() == {"outcome": "dead_lettered"}
    await apply_all(service)
    assert len(await service.rows("SELECT 1 FROM dead_letters")) == 1


async def test_a_deletion_that_was_triggered_long_ago_is_not_done(
    service: Service, shop: Shop
) -> None:
    await told(service, shop, [STORY[0]])
    answer = await shop.send("orders/delete", {"id": ORDER}, at=NOW - timedelta(days=8))
    assert answer.json() == {"outcome": "too_old"}
    assert (await state(service))["status"] == "processing"
