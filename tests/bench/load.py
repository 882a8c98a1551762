"""A shop's events for the benchmarks: reproducible, 760 bytes each, with chosen irregularities.

No order is dated within a day of 60 or 90 days ago. So no segment changes by time during a run, and
a peer without a sweeper is not wrong.
"""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any


def events(  # noqa: PLR0913  each is a share or a size of the load
    total: int,
    customers: int,
    *,
    updates: float = 0.2,
    duplicates: float = 0.01,
    late: float = 0.01,
    moved: float = 0.0,
    apart: int = 1,
    seed: int = 1,
) -> list[bytes]:
    """Return ``total`` CloudEvents documents.

    ``updates``, ``duplicates`` and ``late`` are shares of all events: a newer version of an
    earlier order, an earlier event again, an event that arrives some hundred places late. Of the
    newer versions, ``moved`` names another customer. In a larger shop, every ``apart``-th customer
    orders.
    """
    rng = random.Random(seed)
    today = datetime.now(UTC)
    placed: list[dict[str, Any]] = []
    written: list[bytes] = []
    delayed: list[tuple[int, bytes]] = []
    for number in range(total):
        moment = today - _age(1 - number / total)
        kind = rng.random()
        if placed and kind < duplicates:
            document = written[rng.randrange(max(0, len(written) - 5000), len(written))]
        else:
            if placed and kind < duplicates + updates:
                order = dict(rng.choice(placed[-20_000:]))
                order["version"] += 1
                order["status"] = rng.choice(("processing", "shipped", "delivered", "cancelled"))
                order["dateUpdated"] = moment.isoformat()
                if moved and rng.random() < moved:
                    order |= _of_customer(apart * rng.randrange(customers))
            else:
                order = _order(rng, len(placed), apart * rng.randrange(customers), moment)
                placed.append(order)
            document = _document(order, number, moment)
        if rng.random() < late:
            delayed.append((number + rng.randrange(100, 1000), document))
        else:
            written.append(document)
        while delayed and delayed[0][0] <= number:
            written.append(delayed.pop(0)[1])
    return written + [document for _, document in delayed]


def pages(documents: list[bytes], size: int) -> Iterator[list[bytes]]:
    """Yield the documents in pages."""
    for start in range(0, len(documents), size):
        yield documents[start : start + size]


def _age(share: float) -> timedelta:
    """Return the n-th date, spread over 120 days without those around the limits."""
    days = share * (120 - 4)
    return timedelta(days=days + 2 * (days >= 59) + 2 * (days >= 87))


def _order(rng: random.Random, number: int, customer: int, moment: datetime) -> dict[str, Any]:
    return {
        "id": f"ORD-{number:08}",
        "version": 1,
        "customer": None,
        "status": "pending",
        "paymentStatus": "paid",
        "totalAmount": f"{rng.randrange(100, 20_000) / 100:.2f}",
        "refundedAmount": "0.00",
        "currency": "USD",
        "shippingAddress": None,
        "dateCreated": moment.isoformat(),
        "dateUpdated": moment.isoformat(),
        **_of_customer(customer),
    }


def _of_customer(number: int) -> dict[str, Any]:
    """Return the part of an order that says whose it is."""
    return {
        "customer": {
            "id": None,
            "name": f"Customer {number}",
            "email": f"customer{number}@example.com",
            "phone": f"555-{number % 10_000:04}",
        },
        "shippingAddress": {
            "street": f"{number % 999} Main St",
            "city": "Austin",
            "state": "TX",
            "zip": "78701",
            "country": "US",
        },
    }


def _document(order: dict[str, Any], number: int, moment: datetime) -> bytes:
    return json.dumps(
        {
            "specversion": "1.0",
            "id": f"event-{number:012}",
            "source": "/order-management",
            "type": "order-created" if order["version"] == 1 else "order-updated",
            "time": moment.isoformat(),
            "subject": order["id"],
            "datacontenttype": "application/json",
            "data": order,
        }
    ).encode()
