"""The audit: everything that must be true once no order is on its way."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from service.core.order_flags import OrderFlag
from service.db.customers.order_flags import FLAGS
from tests.model import Customer, Document, Order, World, world
from tests.system.chaos.hooks import Endpoint
from tests.system.chaos.shop import bad
from tests.system.chaos.stage import BOUND_SECONDS, Stage
from tests.wait import until


class Audit:
    """The differences found: what was lost, doubled or is otherwise wrong."""

    def __init__(self) -> None:
        """Start without a difference."""
        self.lost = 0
        """Events without an effect, and segment changes that were never published."""
        self.doubled = 0
        """Customers with more orders or money than published, and changes published twice."""
        self.losses = 0
        """Losses in Redis that the service reported."""
        self.merged = 0
        """Customers whom events put together with another one, and who were merged."""
        self.wrong: list[str] = []

    @property
    def clean(self) -> bool:
        return not self.wrong

    def fault(self, what: str) -> None:
        self.wrong.append(what)


async def audit(stage: Stage) -> Audit:
    """Wait until time has moved every customer that is due, then compare everything."""
    found = Audit()

    async def agrees() -> bool:
        nonlocal found
        found = Audit()
        await _against_model(stage, found)
        await _against_consumer(stage, found)
        for name, endpoint in (("hurt", stage.hooks.hurt), ("steady", stage.hooks.steady)):
            await _against_endpoint(stage, found, name, endpoint)
        return found.clean

    try:
        # The model moves a customer at once; the sweeper may take a minute.
        await until(agrees, BOUND_SECONDS)
    except AssertionError:
        if found.clean:
            raise
    await _dead_letters(stage, found)
    await _web(stage, found)
    await _losses(stage, found)
    await _foreign(stage, found)
    await _verify(stage, found)
    return found


# As the model names a customer.
_LEAST = """
(SELECT min(identifier) FROM identifiers WHERE customer_id = {} AND identifier !~ '^customer:')"""


async def _against_model(stage: Stage, found: Audit) -> None:
    connection = await stage.servers.connect()
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            now = await connection.fetchval("SELECT clock_timestamp()")
            orders = await connection.fetch(
                f"SELECT o.*, {_LEAST.format('o.customer_id')} AS owner, {FLAGS} AS flags"
                " FROM orders o",
                timeout=BOUND_SECONDS,  # the flags of all orders at once, which no page asks for
            )
            customers = await connection.fetch(
                f"SELECT c.*, {_LEAST.format('c.id')} AS least FROM customers c"
            )
    finally:
        await connection.close()
    stored = World(
        {
            row["id"]: Order(
                row["status"],
                row["payment_status"],
                row["total"],
                row["refunded"],
                row["date_created"],
                row["owner"],
                # The model does not know of entries that are refused.
                flags=[flag for flag in row["flags"] if flag != OrderFlag.UPDATE_REFUSED],
            )
            for row in orders
        },
        {
            row["least"]: Customer(
                row["date_created"],
                email=row["email"],
                name=row["name"],
                phone=row["phone"],
                address=json.loads(row["address"]) if row["address"] else None,
                orders=row["total_orders"],
                spent=row["total_spent"],
                first=row["first_order_date"],
                last=row["last_order_date"],
                segment=row["segment"],
            )
            for row in customers
        },
    )
    expected_orders = expected_customers = 0
    for expected in _worlds(stage, now):
        expected_orders += len(expected.orders)
        expected_customers += len(expected.customers)
        for id_, told in expected.orders.items():
            order = replace(told, contradicted_by=set())  # that there is a conflict is a flag
            if stored.orders.get(id_) != order:
                found.lost += 1
                found.fault(f"order {id_}: {stored.orders.get(id_)}, not {order}")
        for least, customer in expected.customers.items():
            kept = stored.customers.get(least)
            if kept != customer:
                more = kept and (kept.orders, kept.spent) > (customer.orders, customer.spent)
                found.doubled += bool(more)
                found.fault(f"customer {least}: {kept}, not {customer}")
    if (len(orders), len(customers)) != (expected_orders, expected_customers):
        found.fault(
            f"{len(orders)} orders and {len(customers)} customers,"
            f" not {expected_orders} and {expected_customers}"
        )


def _worlds(stage: Stage, now: datetime) -> Iterator[World]:
    """Yield the model's world for one family of customers at a time."""
    shop = stage.publishers.shop
    for number, places in list(stage.publishers.ledger.events.items()):
        family = shop.family(number)
        documents: list[Document] = [family[place] for place in sorted(places)]
        yield world(documents, now)


async def _against_consumer(stage: Stage, found: Audit) -> None:
    rows = await stage.servers.sql("SELECT id, segment, segment_sequence FROM customers")
    stored = {f"CUST-{row['id']}": (row["segment"], row["segment_sequence"]) for row in rows}
    seen = stage.analytics
    arrived = {
        customer: (segment, seen.sequences[customer])
        for customer, segment in seen.segments.items()
        if customer not in seen.removed
    }
    for customer in stored.keys() | arrived.keys():
        kept, came = stored.get(customer), arrived.get(customer)
        if kept != came:
            found.lost += came is None or (kept is not None and came[1] < kept[1])
            found.doubled += kept is None or (came is not None and came[1] > kept[1])
            found.fault(f"{customer}: analytics has {came}, the database {kept}")
    gone = await stage.servers.sql("SELECT customer_id, reason FROM removals")
    found.merged = sum(row["reason"] == "merged" for row in gone)
    if not found.merged:
        found.fault("events put nobody together, so the run shows nothing about merges")
    announced = {f"CUST-{row['customer_id']}" for row in gone}
    if announced != seen.removed:
        found.lost += len(announced - seen.removed)
        found.doubled += len(seen.removed - announced)
        found.fault(f"{len(seen.removed)} removals arrived, not {len(announced)}")
    for hole in seen.holes:
        found.lost += hole.came - hole.after - 1
        found.fault(f"a hole in the out-stream: {hole}")


async def _against_endpoint(stage: Stage, found: Audit, name: str, endpoint: Endpoint) -> None:
    """Compare the database with what an endpoint has got, which was there from the start."""
    rows = await stage.servers.sql("SELECT id, segment, segment_sequence FROM customers")
    for row in rows:
        customer = f"CUST-{row['id']}"
        came = (endpoint.segments.get(customer), endpoint.sequences.get(customer))
        if came != (row["segment"], row["segment_sequence"]):
            found.lost += 1
            found.fault(f"{customer}: the {name} endpoint has {came}, the database {tuple(row)}")
    gone = await stage.servers.sql("SELECT customer_id FROM removals")
    announced = {f"CUST-{row['customer_id']}" for row in gone}
    if announced != endpoint.removed:
        found.lost += len(announced - endpoint.removed)
        found.fault(f"{len(endpoint.removed)} removals came by HTTP, not {len(announced)}")
    for what in endpoint.wrong:
        found.fault(f"the {name} endpoint: {what}")


async def _dead_letters(stage: Stage, found: Audit) -> None:
    rows = await stage.servers.sql("SELECT field_names, field_values FROM dead_letters")
    kept = {frozenset(zip(row["field_names"], row["field_values"], strict=True)) for row in rows}
    ledger = stage.publishers.ledger
    sent = {frozenset(bad(number).items()) for number in ledger.bad}
    sent |= {frozenset({(b"data", kept)}) for kept in ledger.oversize}
    if kept != sent:
        found.lost += len(sent - kept)
        found.fault(f"dead letters: {len(sent - kept)} missing, {len(kept - sent)} not expected")


async def _web(stage: Stage, found: Audit) -> None:
    (row,) = await stage.servers.sql(
        "SELECT count(*) AS customers, coalesce(sum(total_spent), 0)::float8 AS spent"
        " FROM customers"
    )
    for web in stage.crew.webs:
        status, body = await web.ask("/api/v1/statistics")
        told: Any = (status, body.get("totalCustomers"), body.get("totalRevenue"))
        if told != (200, row["customers"], row["spent"]):
            found.fault(f"a web process tells {told}, the database {tuple(row)}")


async def _losses(stage: Stage, found: Audit) -> None:
    """Acknowledge the losses of Redis, as a publisher does who has sent the entries again."""
    incidents = json.loads((await stage.crm("losses", "--json"))[1])
    found.losses = len(incidents)
    for incident in incidents:
        status, output = await stage.crm("losses", "--acknowledge", str(incident["id"]))
        if status:
            found.fault(f"crm losses ended with {status}:\n{output}")


async def _foreign(stage: Stage, found: Audit) -> None:
    """Acknowledge what the service noticed of forged entries; all of them must be there."""
    records = json.loads((await stage.crm("foreign", "--json"))[1])
    noticed = sum(record["entries"] for record in records)
    if noticed < stage.forged:
        found.fault(f"{stage.forged} entries were forged, and {noticed} noticed")
    if records and not stage.forged:
        found.fault(f"{noticed} foreign entries were reported although nobody forged one")
    for record in records:
        status, output = await stage.crm("foreign", "--acknowledge", str(record["id"]))
        if status:
            found.fault(f"crm foreign ended with {status}:\n{output}")


async def _verify(stage: Stage, found: Audit) -> None:
    status, output = await stage.crm("verify")
    if status:
        found.fault(f"crm verify ended with {status}:\n{output}")
