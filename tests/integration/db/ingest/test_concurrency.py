"""Several workers on the same customers do not deadlock, and end with the same result as one."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from consumers.orders import judge_all
from service.core.batch import Outcome
from service.core.order_event import Judged
from service.db.ingest.ingest import ingest
from service.db.ingest.owners import OwnerChangedError
from tests.conftest import Service
from tests.events import cloud_event
from tests.integration.db.ingest.test_model import entries, kept_figures, stored
from tests.model import Document, world
from tests.wait import until

CUSTOMERS = 1000
ORDERS = 1500
CONNECTIONS = 4
CREATED = 2000
WAITING = (
    "SELECT 1 FROM pg_stat_activity"
    " WHERE application_name = 'crm tests' AND wait_event_type = 'Lock'"
)


def some_event(rng: random.Random, order: int, version: int, now: datetime) -> Document:
    """Return one state of an order. It names a random customer, the order's usual one, or none."""
    number = rng.randrange(CUSTOMERS)
    emails = [None, f"c{number}@x.org", f"C{number}@x.org", f"c{order % CUSTOMERS}@x.org"]
    email = rng.choice(emails)
    created = now - timedelta(days=rng.choice([1, 10, 61, 95]), minutes=order)
    return cloud_event(
        f"ORD-{order}",
        email=email,
        name=rng.choice([None, "Ann", "Bob"]),
        version=version,
        created=created,
        updated=created + timedelta(hours=version),
        status=rng.choice(["completed", "completed", "cancelled"]),
        total=str(rng.randrange(30_000) / 100),
    )


async def commit_once(service: Service, batch: Sequence[Judged], now: datetime) -> Counter[Outcome]:
    """Ingest and commit a batch, without any retry."""
    async with service.engine.begin() as connection:
        return await ingest(connection, batch, now)


async def commit(service: Service, batch: Sequence[Judged], now: datetime) -> Counter[Outcome]:
    """Ingest and commit a batch. Retry only if an owner changed: a deadlock must not be hidden."""
    while True:
        try:
            return await commit_once(service, batch, now)
        except OwnerChangedError:
            continue


async def test_four_connections_on_a_thousand_customers_do_not_deadlock(
    service: Service, now: datetime
) -> None:
    rng = random.Random(20)
    documents = [
        some_event(rng, order, version, now) for order in range(ORDERS) for version in (1, 2, 3)
    ]
    expected = world(documents, now)

    async def worker(number: int) -> int:
        mine = documents[number::CONNECTIONS] + rng.sample(documents, len(documents) // 4)
        rng.shuffle(mine)
        judged = judge_all(entries(mine), service.config)
        for start in range(0, len(judged), 200):
            await commit(service, judged[start : start + 200], now)
        return len(mine)

    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(worker(number)) for number in range(CONNECTIONS)]
    read = [each.result() for each in workers]
    assert await stored(service) == expected
    assert await kept_figures(service) == expected.figures
    (kept,) = await service.rows("SELECT sum(read) AS read FROM ingest_counters")
    assert kept == {"read": sum(read)}


async def test_a_batch_starts_again_if_its_order_was_attributed_meanwhile(
    service: Service, now: datetime
) -> None:
    """It found the order unattributed, so it has not locked the customer who owns it now."""
    placed = cloud_event("ORD-1", created=now, total="10.00")
    await service.ingest(*entries([placed]))
    named = cloud_event("ORD-1", email="a@x.org", created=now, version=2, total="10.00")
    cancelled = cloud_event("ORD-1", created=now, version=3, status="cancelled")
    first, second = (judge_all(entries([event]), service.config) for event in (named, cancelled))

    async with service.engine.begin() as connection:
        await ingest(connection, first, now)
        other = asyncio.create_task(commit_once(service, second, now))
        await until(lambda: service.rows(WAITING))
    with pytest.raises(OwnerChangedError):
        await other
    await commit_once(service, second, now)
    assert await stored(service) == world([placed, named, cancelled], now)


async def test_a_batch_that_has_to_start_again_waits_for_no_customer(
    service: Service, now: datetime
) -> None:
    """It holds locks already. Whoever has locked that customer may be waiting for one of them."""
    known = cloud_event("ORD-0", email="a@x.org", created=now)
    placed = cloud_event("ORD-1", created=now, total="10.00")
    await service.ingest(*entries([known, placed]))
    named = cloud_event("ORD-1", email="a@x.org", created=now, version=2, total="10.00")
    cancelled = cloud_event("ORD-1", created=now, version=3, status="cancelled")
    first, second = (judge_all(entries([event]), service.config) for event in (named, cancelled))
    started_again = asyncio.Event()

    async def hold_the_customer() -> None:
        async with service.engine.begin() as connection:
            await connection.execute(text("SELECT FROM customers FOR UPDATE"))
            await asyncio.wait_for(started_again.wait(), 10)

    async with asyncio.TaskGroup() as group:
        async with service.engine.begin() as connection:
            await ingest(connection, first, now)
            group.create_task(hold_the_customer())
            await until(lambda: service.rows(WAITING))
            other = asyncio.create_task(commit_once(service, second, now))
            await until(lambda: service.rows(f"{WAITING} OFFSET 1"))
        with pytest.raises(OwnerChangedError):
            await other
        started_again.set()


async def test_workers_with_the_same_events_in_other_orders_create_each_customer_once(
    service: Service, now: datetime
) -> None:
    rng = random.Random(3)
    documents = [
        cloud_event(f"ORD-{number}", email=f"c{number}@x.org", created=now)
        for number in range(CREATED)
    ]
    judged = judge_all(entries(documents), service.config)
    batches = [rng.sample(judged, CREATED) for _ in range(CONNECTIONS)]
    connections = [
        await service.engine.connect() for _ in batches
    ]  # opened now, so that all begin at once
    for connection in connections:
        await connection.close()
    outcomes = await asyncio.gather(*(commit(service, batch, now) for batch in batches))
    assert sum((each for each in outcomes), Counter()) == {
        Outcome.APPLIED: CREATED,
        Outcome.DUPLICATE: CREATED * (CONNECTIONS - 1),
    }
    assert await stored(service) == world(documents, now)


async def test_a_new_customer_whose_email_is_taken_meanwhile_keeps_their_other_identifier(
    service: Service, now: datetime
) -> None:
    """The two are due to be merged."""
    by_email = cloud_event("ORD-1", email="a@x.org", created=now, total="10.00")
    by_both = cloud_event("ORD-2", customer={"id": "77"}, email="a@x.org", created=now)
    first, second = (judge_all(entries([event]), service.config) for event in (by_email, by_both))
    async with service.engine.begin() as connection:
        await ingest(connection, first, now)
        other = asyncio.create_task(commit_once(service, second, now))
        await until(lambda: service.rows(WAITING))
    assert await other == {Outcome.APPLIED: 1}
    owners = await service.rows(
        "SELECT identifier, email, total_orders, segment_sequence FROM identifiers"
        " JOIN customers ON customers.id = customer_id ORDER BY identifier"
    )
    assert owners == [
        {"identifier": identifier, "email": email, "total_orders": 1, "segment_sequence": 1}
        for identifier, email in (
            ("email:a@x.org", "a@x.org"),
            ("external:/order-management#77", None),
        )
    ]
    assert len(await service.rows("SELECT low FROM pending_merges")) == 1
    assert await service.findings() == []


async def test_a_batch_that_names_an_id_of_ours_goes_on_if_an_identifier_is_taken_meanwhile(
    service: Service, now: datetime
) -> None:
    await service.ingest(*entries([cloud_event("ORD-0", email="known@x.org", created=now)]))
    new = cloud_event("ORD-1", email="new@x.org", created=now)
    both = [
        cloud_event("ORD-2", customer={"id": "CUST-1001"}, created=now),
        cloud_event("ORD-3", email="new@x.org", created=now),
    ]
    first, second = (judge_all(entries(events), service.config) for events in ([new], both))
    async with service.engine.begin() as connection:
        await ingest(connection, first, now)
        other = asyncio.create_task(commit_once(service, second, now))
        await until(lambda: service.rows(WAITING))
    assert await other == {Outcome.APPLIED: 2}
    rows = await service.rows("SELECT email, total_orders FROM customers ORDER BY id")
    assert rows == [
        {"email": "known@x.org", "total_orders": 2},
        {"email": "new@x.org", "total_orders": 2},
    ]


async def test_a_batch_starts_again_if_an_identifier_vanished_while_it_waited_for_another(
    service: Service, now: datetime
) -> None:
    """As when its customer is erased meanwhile."""
    await service.ingest(*entries([cloud_event("ORD-0", email="known@x.org", created=now)]))
    named = [
        cloud_event(f"ORD-{number}", email=email, created=now)
        for number, email in enumerate(("new@x.org", "new@x.org", "known@x.org"), 1)
    ]
    first, second = (
        judge_all(entries(events), service.config) for events in (named[:1], named[1:])
    )
    async with service.engine.begin() as connection:
        await ingest(connection, first, now)
        other = asyncio.create_task(commit_once(service, second, now))
        await until(lambda: service.rows(WAITING))
        rename = "UPDATE identifiers SET identifier = :new WHERE identifier = :old"
        await service.execute(rename, old="email:known@x.org", new="email:gone@x.org")
    with pytest.raises(OwnerChangedError):
        await other
    await service.execute(rename, old="email:gone@x.org", new="email:known@x.org")
