"""An e-mail that staff corrected still means the same customer in events."""

import asyncio
from datetime import datetime, timedelta

from sqlalchemy import text

from consumers.orders import judge_all
from service.db.customers import editing
from service.db.engine import in_transaction
from service.db.ingest.ingest import ingest
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.customers.conftest import Api
from tests.integration.db.ingest.test_concurrency import WAITING
from tests.wait import until

NOTHING = editing.HoldEdit(frozenset())


async def owners(service: Service) -> dict[str, int | None]:
    rows = await service.rows("SELECT id, customer_id FROM orders")
    return {row["id"]: row["customer_id"] for row in rows}


async def test_orders_with_the_email_before_belong_to_the_customer(
    api: Api, service: Service
) -> None:
    first = entry("ORD-1", email="jnae@x.org")
    await service.ingest(first)
    await api.patch("CUST-1001", email="jane@x.org")
    await service.ingest(first, entry("ORD-2", email="JNAE@x.org"), entry("ORD-3", email="b@x.org"))
    assert await owners(service) == {"ORD-1": 1001, "ORD-2": 1001, "ORD-3": 1002}
    assert await service.findings() == []


async def test_nobody_else_can_take_an_email_that_means_somebody(
    api: Api, service: Service
) -> None:
    await service.ingest(entry("ORD-1", email="a@x.org"))
    await api.patch("CUST-1001", email="b@x.org")
    for email in ("A@x.org", "b@x.org"):
        await api.create(409, name="Abe", email=email)
    await api.create(name="Abe", email="c@x.org")
    (abe,) = await service.rows("SELECT id FROM customers WHERE name = 'Abe'")
    await api.patch(f"CUST-{abe['id']}", 409, email="a@x.org")
    await service.ingest(entry("ORD-2", email="a@x.org"))
    assert await owners(service) == {"ORD-1": 1001, "ORD-2": 1001}
    await api.patch("CUST-1001", email="a@x.org")
    await service.ingest(entry("ORD-3", email="b@x.org"))
    assert (await owners(service))["ORD-3"] == 1001


async def test_an_email_from_before_is_personal_data_and_is_erased(
    api: Api, service: Service, now: datetime
) -> None:
    placed = entry("ORD-1", email="jnae@x.org", created=now - timedelta(days=1))
    await service.ingest(placed, entry("ORD-2", email="jnae@x.org", total="-1"))
    await api.patch("CUST-1001", email="jane@x.org")
    held = await api.get("/CUST-1001/data")
    assert held["formerEmails"] == ["jnae@x.org"]
    assert [each["value"] for each in held["identifiers"]] == ["jnae@x.org", "jane@x.org"]
    assert [letter["reason"] for letter in held["deadLetters"]] == ["invalid_amount"]
    await api.http.delete("/api/v1/customers/CUST-1001")
    await service.ingest(placed)
    assert await service.rows("SELECT 1 FROM customers") == []
    assert await service.rows("SELECT 1 FROM identifiers") == []


async def test_correcting_an_email_while_a_batch_waits_leaves_no_order_unattributed(
    service: Service,
) -> None:
    await service.ingest(entry("ORD-1", email="a@x.org"))
    async with service.engine.begin() as connection:
        await editing.edit(connection, "a test", 1001, {"email": "b@x.org"}, NOTHING, None)
        ingesting = asyncio.create_task(service.ingest(entry("ORD-2", email="a@x.org")))
        await until(lambda: service.rows(WAITING))
    await ingesting
    assert await owners(service) == {"ORD-1": 1001, "ORD-2": 1001}


async def test_the_clock_of_a_batch_is_read_after_its_last_lock(service: Service) -> None:
    """Otherwise a segment change would be dated before the change that the batch waited for."""
    await service.ingest(entry("ORD-1", email="a@x.org"), entry("ORD-2", email="b@x.org"))
    more = judge_all(
        [entry("ORD-3", email="a@x.org"), entry("ORD-4", email="b@x.org")], service.config
    )
    async with service.engine.begin() as connection:
        await connection.execute(text("SELECT FROM customers WHERE id = 1002 FOR UPDATE"))
        waiting = asyncio.create_task(
            in_transaction(service.engine, lambda other: ingest(other, more))
        )
        await until(lambda: service.rows(WAITING))
        (held,) = await service.rows("SELECT clock_timestamp() AS until")
    await waiting
    changed = await service.rows("SELECT changed_at FROM segment_changes WHERE sequence = 2")
    assert len(changed) == 2
    assert all(row["changed_at"] > held["until"] for row in changed)
