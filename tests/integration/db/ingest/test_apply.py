"""The effect of a batch on orders, customers, segments and counters."""

from datetime import datetime, timedelta
from decimal import Decimal

from service.core.batch import Outcome
from tests.conftest import Service
from tests.events import entry

_CUSTOMER = "SELECT * FROM customers WHERE email_key = :email"


async def test_the_first_order_creates_a_customer(service: Service, now: datetime) -> None:
    outcomes = await service.ingest(
        entry("ORD-1", email=" Jane@Example.com", name="Jane", total="129.97", created=now)
    )
    (jane,) = await service.rows(_CUSTOMER, email="jane@example.com")
    assert outcomes == {Outcome.APPLIED: 1}
    assert (jane["id"], jane["name"], jane["segment"]) == (1001, "Jane", "new")
    assert (jane["total_orders"], jane["total_spent"]) == (1, Decimal("129.97"))
    assert jane["date_created"] == jane["first_order_date"] == jane["last_order_date"] == now


async def test_an_order_moves_to_the_customer_whom_a_newer_event_names(
    service: Service, now: datetime
) -> None:
    await service.ingest(entry("ORD-1", email="a@x.org", created=now - timedelta(days=2)))
    await service.ingest(entry("ORD-2", email="a@x.org", created=now - timedelta(days=1)))
    await service.ingest(
        entry("ORD-2", email="b@x.org", version=2, created=now - timedelta(days=1))
    )
    (a,) = await service.rows(_CUSTOMER, email="a@x.org")
    (b,) = await service.rows(_CUSTOMER, email="b@x.org")
    assert (a["total_orders"], b["total_orders"]) == (1, 1)
    assert a["last_order_date"] == now - timedelta(days=2)


async def test_a_cancelled_order_no_longer_counts(service: Service, now: datetime) -> None:
    for day in (3, 2, 1):
        await service.ingest(entry(f"ORD-{day}", email="a@x.org", created=now - timedelta(day)))
    await service.ingest(
        entry("ORD-1", email="a@x.org", version=2, status="cancelled", created=now - timedelta(1))
    )
    (a,) = await service.rows(_CUSTOMER, email="a@x.org")
    assert (a["total_orders"], a["segment"]) == (2, "returning")
    assert a["last_order_date"] == now - timedelta(days=2)
    history = await service.rows("SELECT segment FROM segment_changes ORDER BY sequence")
    assert [row["segment"] for row in history] == ["new", "returning", "vip", "returning"]


async def test_the_email_decides_if_no_customer_has_the_id(service: Service, now: datetime) -> None:
    """Even if the same batch creates the customer who gets that id, here CUST-1001."""
    await service.ingest(
        entry("ORD-1", email="a@x.org", created=now),
        entry("ORD-2", customer={"id": "CUST-1001", "email": "b@x.org"}, created=now),
    )
    customers = await service.rows("SELECT email_key, total_orders FROM customers ORDER BY 1")
    assert [tuple(row.values()) for row in customers] == [("a@x.org", 1), ("b@x.org", 1)]
