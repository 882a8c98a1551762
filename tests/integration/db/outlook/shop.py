"""A shop whose customers order and leave at random, as the model says they do."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import NamedTuple

from service.core.envelope import Entry
from service.core.outlook import FitCause
from service.db.outlook.fit import fit
from service.db.outlook.models import StoredModel
from service.db.outlook.refresh import Refreshed, refresh_chunk
from tests.conftest import Service
from tests.events import entry

CUSTOMERS = 700
HISTORY_DAYS = 400


class Purchase(NamedTuple):
    """An order of the made-up shop."""

    customer: int
    at: datetime
    total: str


def purchases(rng: Random, now: datetime, customers: int = CUSTOMERS) -> Iterator[Purchase]:
    """Yield the orders of a shop that opened `HISTORY_DAYS` ago."""
    for customer in range(customers):
        at = now - timedelta(days=rng.uniform(0.1, HISTORY_DAYS))
        rate, leaves = rng.gammavariate(0.9, 1 / 50), rng.betavariate(0.8, 2.2)
        usual = rng.lognormvariate(3.4, 0.5)
        while at < now:
            yield Purchase(customer, at, f"{usual * rng.uniform(0.6, 1.4):.2f}")
            if rng.random() < leaves:
                break
            at += timedelta(days=rng.expovariate(max(rate, 1e-6)))


def entries(orders: list[Purchase]) -> list[Entry]:
    """Return an entry for each order."""
    return [
        entry(
            f"ORD-{number}",
            email=f"c{order.customer}@x.org",
            total=order.total,
            created=order.at,
            updated=order.at,
        )
        for number, order in enumerate(orders)
    ]


async def open_shop(service: Service, rng: Random, now: datetime) -> list[Purchase]:
    """Apply the orders of a shop, shuffled, and return them."""
    orders = list(purchases(rng, now))
    shuffled = entries(orders)
    rng.shuffle(shuffled)
    for start in range(0, len(shuffled), 2000):
        await service.ingest(*shuffled[start : start + 2000])
    return orders


async def fit_now(service: Service, cause: FitCause = FitCause.DAILY) -> StoredModel:
    """Fit, as the process that a worker starts does."""
    async with service.engine.connect() as connection:
        return await fit(connection, cause)


async def refresh_all(
    service: Service, now: datetime | None = None, most: int = 2000
) -> list[Refreshed]:
    """Complete a circle, and return its steps."""
    model, steps = None, list[Refreshed]()
    while not steps or not steps[-1].done:
        async with service.engine.begin() as connection:
            step, model = await refresh_chunk(connection, model, now=now, most=most)
        steps.append(step)
    return steps
