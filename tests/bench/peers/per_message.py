"""Peer A, what most teams write: one message, one ORM session, one commit, one publish.

The handler takes a pydantic model, loads or creates customer and order, recomputes the customer's
metrics from the orders, sets the segment, commits, and publishes a change.
"""

import uvloop
from faststream import FastStream
from faststream.redis import RedisBroker, StreamSub
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from tests.bench.peers.shop import (
    CHANGES,
    GROUP,
    NOT_COUNTED,
    NOT_PAID,
    REDIS_URL,
    STREAM,
    Customer,
    Order,
    OrderEvent,
    SegmentChanged,
    connect,
    segment_of,
)

broker = RedisBroker(REDIS_URL)
app = FastStream(broker)
session_of = async_sessionmaker(connect(), expire_on_commit=False)


@broker.subscriber(stream=StreamSub(STREAM, group=GROUP, consumer="peer"))
async def handle(event: OrderEvent) -> None:
    """Apply one event."""
    async with session_of() as session:
        customer = await _customer(session, event)
        await _order(session, event, customer)
        previous = customer.segment
        await _recompute(session, customer)
        await session.commit()
    if customer.segment != previous:
        await broker.publish(
            SegmentChanged(email=customer.email, previous=previous, segment=customer.segment),
            stream=CHANGES,
        )


async def _customer(session: AsyncSession, event: OrderEvent) -> Customer:
    told = event.data.customer
    email = told.email.lower()
    customer = await session.scalar(select(Customer).where(Customer.email == email))
    if customer is None:
        customer = Customer(email=email)
        session.add(customer)
    customer.name = told.name or customer.name
    customer.phone = told.phone or customer.phone
    customer.address = event.data.address or customer.address
    await session.flush()
    return customer


async def _order(session: AsyncSession, event: OrderEvent, customer: Customer) -> None:
    data = event.data
    order = await session.get(Order, data.id)
    if order is None:
        order = Order(id=data.id, customer_id=customer.id)
        session.add(order)
    elif (order.version, order.updated_at, order.event_id) >= event.key:
        return
    order.version, order.updated_at, order.event_id = event.key
    order.status, order.payment_status = data.status, data.payment_status
    order.total, order.refunded = data.total, data.refunded
    order.date_created = data.date_created
    await session.flush()


async def _recompute(session: AsyncSession, customer: Customer) -> None:
    row = (
        await session.execute(
            select(
                func.count(),
                func.coalesce(func.sum(Order.total - Order.refunded), 0),
                func.min(Order.date_created),
                func.max(Order.date_created),
            ).where(
                Order.customer_id == customer.id,
                Order.status.not_in(NOT_COUNTED),
                Order.payment_status.not_in(NOT_PAID),
            )
        )
    ).one()
    customer.total_orders, customer.total_spent = row[0], row[1]
    customer.first_order_date, customer.last_order_date = row[2], row[3]
    customer.segment = segment_of(row[0], row[1], row[3])


if __name__ == "__main__":
    uvloop.run(app.run())
