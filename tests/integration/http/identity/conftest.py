"""Orders of people with ids of a shop, and a look at everything that a request may change."""

from datetime import UTC, datetime, timedelta
from typing import Any

from service.core.envelope import Entry
from tests.conftest import Service
from tests.events import entry

API = "/api/v1"
_TABLES = (
    "customers",
    "customer_search",
    "orders",
    "identifiers",
    "pending_merges",
    "separations",
    "segment_changes",
    "segment_counters",
    "daily_changes",
    "daily_totals",
    "interactions",
    "audit",
    "removals",
    "installation",
)


def order(number: int, **customer: Any) -> Entry:
    """Return an order of a customer with an id of the shop, an e-mail or a phone."""
    at = datetime.now(UTC) - timedelta(minutes=100 - number)
    fields = {name: customer.pop(name) for name in ("shippingAddress",) if name in customer}
    return entry(f"ORD-{number}", customer=customer, created=at, **fields)


async def everything(service: Service) -> dict[str, list[dict[str, Any]]]:
    """Return all rows that a change of identity may touch, to compare them before and after."""
    return {
        table: await service.rows(f"SELECT * FROM {table} t ORDER BY CAST(t AS text)")
        for table in _TABLES
    }
