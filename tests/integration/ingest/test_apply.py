"""What a batch does to orders, customers, segments and counters."""

from datetime import datetime, timedelta
from decimal import Decimal

from service.core.batch import Outcome
from tests.conftest import Service
from tests.events import entry

_CUSTOMER = "SELECT * FROM customers WHERE email_key = :email"


async def test_first_order_makes_a_customer(service: Service, now: datetime) -> None:
    counted = await service.ingest(
        entry("ORD-1", email=" Jane@Example.com", name="Jane", total="129.97", created=now)
    )
    (jane,) = await service.rows(_CUSTOMER, email="jane@example.com")
    assert counted == {Outcome.APPLIED: 1}
    assert (jane["id"], jane["name"], jane["segment"]) == (1001, "Jane", "new")
    assert (jane["total_orders"], jane["total_spent"]) == (1, Decimal("129.97"))
    assert jane["date_created"] == jane["first_order_date"] == jane["last_order_date"] == now


async def test_order_moves_between_customers(service: Service, now: datetime) -> None:
    await service.ingest(entry("ORD-1", email="a@x.org", created=now - timedelta(days=2)))
    await service.ingest(entry("ORD-2", email="a@x.org", created=now - timedelta(days=1)))
    await service.ingest(
        entry("ORD-2", email="b@x.org", version=2, created=now - timedelta(days=1))
    )
    (a,) = await service.rows(_CUSTOMER, email="a@x.org")
    (b,) = await service.rows(_CUSTOMER, email="b@x.org")
    assert (a["total_orders"], b["total_orders"]) == (1, 1)
    assert a["last_order_date"] == now - timedelta(days=2)


async def test_cancelling_takes_the_order_back(service: Service, now: datetime) -> None:
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


async def test_an_unknown_id_of_ours_does_not_leave_a_customer_behind(
    service: Service, now: datetime
) -> None:
    """CUST-1001 is created by the very batch that names it; the event's e-mail decides."""
    await service.ingest(
        entry("ORD-1", email="a@x.org", created=now),
        entry("ORD-2", customer={"id": "CUST-1001", "email": "b@x.org"}, created=now),
    )
    found = await service.rows("SELECT email_key, total_orders FROM customers ORDER BY 1")
    assert [tuple(row.values()) for row in found] == [("a@x.org", 1), ("b@x.org", 1)]
