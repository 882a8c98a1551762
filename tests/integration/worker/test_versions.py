"""An event of an unknown version becomes a dead letter and delays no other event."""

import json
from typing import Any

import pytest

from tests.conftest import Service
from tests.events import cloud_event
from tests.integration.worker.scene import all_applied, working

_UNKNOWN: list[tuple[dict[str, Any], str, str]] = [
    ({"type": "order-created.v2"}, "unknown_type", "`type`"),
    ({"type": "order-updated.v2", "data": {"order": {"lines": []}}}, "unknown_type", "`type`"),
    ({"type": "com.example.order.created"}, "unknown_type", "`type`"),
    ({"specversion": "2.0"}, "unsupported_version", "`specversion`"),
    ({"specversion": 1.0}, "unsupported_version", "`specversion`"),
]


def _document(order_id: str, **changed: Any) -> bytes:
    return json.dumps(cloud_event(order_id, email="jane@example.org") | changed).encode()


@pytest.mark.parametrize(("changed", "reason", "named"), _UNKNOWN)
async def test_an_unknown_version_becomes_a_dead_letter_and_its_neighbours_are_applied(
    service: Service, changed: dict[str, Any], reason: str, named: str
) -> None:
    strange = _document("ORD-2", **changed)
    for document in (_document("ORD-1"), strange, _document("ORD-3")):
        await service.publish({b"data": document})
    async with working(service):
        await all_applied(service, 3)
    (letter,) = await service.rows("SELECT reason, error, field_values FROM dead_letters")
    assert letter["reason"] == reason
    assert named in letter["error"]
    assert letter["field_values"] == [strange]
    orders = await service.rows("SELECT id FROM orders ORDER BY id")
    assert [order["id"] for order in orders] == ["ORD-1", "ORD-3"]


async def test_new_fields_need_no_new_version(service: Service) -> None:
    order = cloud_event("ORD-1", email="jane@example.org", giftWrap={"paper": "red"})
    order |= {"dataschema": "https://schemas.example.org/order/7", "partitionkey": "x"}
    await service.publish({b"data": json.dumps(order).encode()})
    async with working(service):
        await all_applied(service, 1)
    assert not await service.rows("SELECT 1 FROM dead_letters")
    assert await service.rows("SELECT 1 FROM orders")
