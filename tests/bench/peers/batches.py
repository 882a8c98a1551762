"""Peer B: FastStream batches, SQLAlchemy Core with executemany and ON CONFLICT.

It folds a batch in Python to the newest event per order, upserts customers and orders, aggregates
the metrics of these customers by one query, finds their segments in Python, and writes them back.
"""

from typing import Any

import uvloop
from faststream import FastStream
from faststream.redis import RedisBroker, StreamSub
from faststream.redis.annotations import Pipeline
from sqlalchemy import bindparam, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.bench.peers.shop import (
    CHANGES,
    GROUP,
    NOT_COUNTED,
    NOT_PAID,
    REDIS_URL,
    SCHEMA,
    STREAM,
    Customer,
    Order,
    OrderEvent,
    SegmentChanged,
    StreamEntry,
    connect,
    segment_of,
)

BATCH = 500

broker = RedisBroker(REDIS_URL)
app = FastStream(broker)
engine = connect()

_customers = Customer.metadata.tables[f"{SCHEMA}.customers"]

_new_customer = insert(Customer)
UPSERT_CUSTOMER = _new_customer.on_conflict_do_update(
    index_elements=[Customer.email],
    set_={name: _new_customer.excluded[name] for name in ("name", "phone", "address")},
)
_new_order = insert(Order)
_KEY = ("version", "updated_at", "event_id")
UPSERT_ORDER = _new_order.on_conflict_do_update(
    index_elements=[Order.id],
    set_={
        name: _new_order.excluded[name]
        for name in (*_KEY, "status", "payment_status", "total", "refunded", "date_created")
    },
    where=tuple_(*(_new_order.excluded[name] for name in _KEY))
    > tuple_(*(getattr(Order, name) for name in _KEY)),
)
SET_METRICS = (
    update(_customers)
    .where(_customers.c.id == bindparam("customer_id"))
    .values(
        {
            name: bindparam(name)
            for name in (
                "total_orders",
                "total_spent",
                "first_order_date",
                "last_order_date",
                "segment",
            )
        }
    )
)


@broker.subscriber(
    stream=StreamSub(STREAM, group=GROUP, consumer="peer", batch=True, max_records=BATCH)
)
async def handle(entries: list[StreamEntry], pipeline: Pipeline) -> None:
    """Apply a batch in one transaction, then publish the changes."""
    newest: dict[str, OrderEvent] = {}
    for event in (entry.data for entry in entries):
        known = newest.get(event.data.id)
        if known is None or event.key > known.key:
            newest[event.data.id] = event
    async with engine.begin() as connection:
        ids = await _write_customers(connection, list(newest.values()))
        await connection.execute(
            UPSERT_ORDER,
            [_order(newest[order_id], ids) for order_id in sorted(newest)],
        )
        changes = await _write_metrics(connection, list(ids.values()))
    for change in changes:
        await broker.publish(change, stream=CHANGES, pipeline=pipeline)
    await pipeline.execute()


async def _write_customers(connection: AsyncConnection, events: list[OrderEvent]) -> dict[str, int]:
    told: dict[str, dict[str, Any]] = {}
    for event in events:
        person = event.data.customer
        email = person.email.lower()
        told[email] = {
            "email": email,
            "name": person.name,
            "phone": person.phone,
            "address": event.data.address,
        }
    await connection.execute(UPSERT_CUSTOMER, [told[email] for email in sorted(told)])
    rows = await connection.execute(
        select(Customer.email, Customer.id).where(Customer.email.in_(told))
    )
    return {row.email: row.id for row in rows}


def _order(event: OrderEvent, ids: dict[str, int]) -> dict[str, Any]:
    data = event.data
    return {
        "id": data.id,
        "customer_id": ids[data.customer.email.lower()],
        "version": data.version,
        "updated_at": data.date_updated,
        "event_id": event.id,
        "status": data.status,
        "payment_status": data.payment_status,
        "total": data.total,
        "refunded": data.refunded,
        "date_created": data.date_created,
    }


async def _write_metrics(connection: AsyncConnection, ids: list[int]) -> list[SegmentChanged]:
    counted = Order.status.not_in(NOT_COUNTED) & Order.payment_status.not_in(NOT_PAID)
    rows = (
        await connection.execute(
            select(
                Customer.id,
                Customer.email,
                Customer.segment,
                func.count(Order.id),
                func.coalesce(func.sum(Order.total - Order.refunded), 0),
                func.min(Order.date_created),
                func.max(Order.date_created),
            )
            .outerjoin(Order, (Order.customer_id == Customer.id) & counted)
            .where(Customer.id.in_(ids))
            .group_by(Customer.id)
        )
    ).all()
    changes, metrics = [], []
    for customer_id, email, previous, orders, spent, first, last in rows:
        segment = segment_of(orders, spent, last)
        metrics.append(
            {
                "customer_id": customer_id,
                "total_orders": orders,
                "total_spent": spent,
                "first_order_date": first,
                "last_order_date": last,
                "segment": segment,
            }
        )
        if segment != previous:
            changes.append(SegmentChanged(email=email, previous=previous, segment=segment))
    await connection.execute(SET_METRICS, metrics)
    return changes


if __name__ == "__main__":
    uvloop.run(app.run())
