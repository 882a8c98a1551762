"""A shop whose customers order and leave at random, as the model says they do."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import NamedTuple

from service.core.envelope import Entry
from service.core.outlook import Band, Compared, FitCause, Gate, HoldOut
from service.core.rfm import Cuts
from service.db.outlook import models
from service.db.outlook.fit import fit
from service.db.outlook.models import Fitted, Parameters, StoredModel
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


async def foretell(service: Service, said: float = 100, *, everybody: bool = False) -> None:
    """Store a model without fitting one, and an outlook of each customer with an even number.

    With ``everybody``, of all customers. Outlooks are of few values, so that many customers share
    one. ``said`` orders were expected in the model's test, and 100 came.
    """
    same = Compared(said=said, came=100)
    band = Band(lowest=0, highest=1, customers=500, said=0.2, came=0.2)
    test = HoldOut(
        begun_at=datetime(2026, 1, 1, tzinfo=UTC),
        days=90,
        customers=500,
        buyers=same,
        orders=same,
        revenue=same,
        ranked_right=0.8,
        ranked_right_by_rules=0.7,
        ranked_right_by_recency=0.7,
        brier=0.1,
        bands=[band],
        stages=[],
    )
    day = datetime(2026, 1, 1, tzinfo=UTC)
    fitted = Fitted(
        Parameters(0.2, 30, 0.8, 2.4, 1, 10, 3.4, 8),
        settled=True,
        cuts=Cuts((day,) * 4, (1, 1, 2, 4), (1, 2, 3, 4)),
        hold_out=test,
    )
    gate = Gate(customers=500, repeaters=100, history_days=200, silent_days=1)
    async with service.engine.begin() as connection:
        await models.store(connection, day, 1.0, FitCause.DAILY, gate, fitted)
    await service.execute(
        """INSERT INTO customer_outlook
           SELECT id, 2, id % 7 / 7.0, id % 5 / 10.0, id % 5 * 12.34, '2026-12-14', '2026-02-20',
             554
           FROM customers WHERE id % 2 = 0 OR :everybody ON CONFLICT DO NOTHING""",
        everybody=everybody,
    )
