"""Peer C, a stream processor: Bytewax, its state in memory and in its recovery store.

The dataflow keeps each customer's orders as state, keyed by e-mail; one sink upserts orders and
customers, another publishes the changes. Quix Streams, the other candidate, needs a Kafka broker:
its other sources write to a topic first.

``flow`` publishes a change when it has computed it. ``flow_with_outbox`` keeps more of what we
keep: the history of changes and counters of each segment, written in the transaction of the totals,
and it publishes what that transaction has stored.

Run by ``python -m bytewax.run tests.bench.peers.stream_processor:flow -r FOLDER``.
"""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import asyncpg
import bytewax.operators as op
import redis
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.bench.peers.shop import (
    CHANGES,
    DATABASE_URL,
    NOT_COUNTED,
    NOT_PAID,
    REDIS_URL,
    SCHEMA,
    STREAM,
    OrderEvent,
    SegmentChanged,
    segment_of,
)

BATCH = 1000
_TABLES = f"""
DROP SCHEMA IF EXISTS {SCHEMA} CASCADE;
CREATE SCHEMA {SCHEMA};
CREATE TABLE {SCHEMA}.customers (
  email text PRIMARY KEY, name text, phone text, address jsonb,
  total_orders integer NOT NULL, total_spent numeric(14, 2) NOT NULL,
  first_order_date timestamptz, last_order_date timestamptz, segment text NOT NULL
);
CREATE TABLE {SCHEMA}.orders (
  id text PRIMARY KEY, email text NOT NULL, status text NOT NULL, payment_status text,
  total numeric(14, 2) NOT NULL, refunded numeric(14, 2) NOT NULL, date_created timestamptz NOT NULL
);
CREATE INDEX ON {SCHEMA}.orders (email);
CREATE TABLE {SCHEMA}.progress (events bigint NOT NULL);
INSERT INTO {SCHEMA}.progress VALUES (0);
CREATE TABLE {SCHEMA}.history (
  email text NOT NULL, sequence integer NOT NULL, previous text, segment text NOT NULL,
  changed_at timestamptz NOT NULL DEFAULT now(), published boolean NOT NULL DEFAULT false,
  PRIMARY KEY (email, sequence)
);
CREATE INDEX ON {SCHEMA}.history (changed_at) WHERE NOT published;
CREATE TABLE {SCHEMA}.counters (
  segment text PRIMARY KEY, customers bigint NOT NULL, spent numeric(14, 2) NOT NULL
);
"""
_UPSERT_ORDER = f"""
INSERT INTO {SCHEMA}.orders VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (id) DO UPDATE SET status = excluded.status, payment_status = excluded.payment_status,
  total = excluded.total, refunded = excluded.refunded, date_created = excluded.date_created
"""
_UPSERT_CUSTOMER = f"""
INSERT INTO {SCHEMA}.customers VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (email) DO UPDATE SET name = excluded.name, phone = excluded.phone,
  address = excluded.address, total_orders = excluded.total_orders,
  total_spent = excluded.total_spent, first_order_date = excluded.first_order_date,
  last_order_date = excluded.last_order_date, segment = excluded.segment
"""
_BEFORE = f"SELECT email, segment, total_spent FROM {SCHEMA}.customers WHERE email = ANY($1)"
_INSERT_CHANGE = f"""
INSERT INTO {SCHEMA}.history (email, sequence, previous, segment) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING
"""
_COUNT = f"""
INSERT INTO {SCHEMA}.counters AS c VALUES ($1, $2, $3)
ON CONFLICT (segment) DO UPDATE SET customers = c.customers + excluded.customers,
  spent = c.spent + excluded.spent
"""
_UNPUBLISHED = f"""
SELECT email, sequence, previous, segment FROM {SCHEMA}.history WHERE NOT published
ORDER BY changed_at LIMIT 5000
"""
_PUBLISHED = f"UPDATE {SCHEMA}.history SET published = true WHERE email = $1 AND sequence = $2"


class Change(SegmentChanged):
    """A change, with its place in the customer's history."""

    sequence: int


@dataclass
class Known:
    """The dataflow's state of a customer."""

    orders: dict[str, tuple[Any, bool, Decimal, datetime]] = field(default_factory=dict)
    segment: str | None = None
    sequence: int = 0


@dataclass(frozen=True)
class Update:
    """The rows to write after an event; ``order`` is None if the event is stale."""

    order: tuple[Any, ...] | None
    customer: tuple[Any, ...]
    change: Change | None


class StreamPartition(StatefulSourcePartition[bytes, str]):
    """Goes on reading after the last entry of the epoch before a crash."""

    def __init__(self, position: str | None) -> None:
        self._redis: Any = redis.Redis.from_url(REDIS_URL)
        self._position = position or "0"

    def next_batch(self) -> list[bytes]:
        found = self._redis.xread({STREAM: self._position}, count=BATCH, block=100)
        if not found:
            return []
        ((_, entries),) = found
        self._position = entries[-1][0].decode()
        return [fields[b"data"] for _, fields in entries]

    def snapshot(self) -> str:
        return self._position


class StreamSource(FixedPartitionedSource[bytes, str]):
    """A Redis stream as a source; Bytewax has none."""

    def list_parts(self) -> list[str]:
        return [STREAM]

    def build_part(
        self,
        step_id: str,  # noqa: ARG002
        for_part: str,  # noqa: ARG002
        resume_state: str | None,
    ) -> StreamPartition:
        return StreamPartition(resume_state)


def apply(known: Known | None, event: OrderEvent) -> tuple[Known, Update]:
    """Fold one event into its customer's state."""
    known = known or Known()
    data, person = event.data, event.data.customer
    order = None
    if data.id not in known.orders or event.key > known.orders[data.id][0]:
        counts = data.status not in NOT_COUNTED and data.payment_status not in NOT_PAID
        net = data.total - data.refunded
        known.orders[data.id] = (event.key, counts, net, data.date_created)
        order = (
            data.id,
            person.email.lower(),
            data.status,
            data.payment_status,
            data.total,
            data.refunded,
            data.date_created,
        )
    counted = [(net, date) for _, counts, net, date in known.orders.values() if counts]
    spent = sum((net for net, _ in counted), Decimal(0))
    dates = [date for _, date in counted]
    segment = segment_of(len(counted), spent, max(dates, default=None))
    change = None
    if segment != known.segment:
        known.sequence += 1
        change = Change(
            email=person.email.lower(),
            previous=known.segment,
            segment=segment,
            sequence=known.sequence,
        )
        known.segment = segment
    customer = (
        person.email.lower(),
        person.name,
        person.phone,
        data.address,
        len(counted),
        spent,
        min(dates, default=None),
        max(dates, default=None),
        segment,
    )
    return known, Update(order, customer, change)


class TablesPartition(StatelessSinkPartition[Update]):
    """Upserts a batch in one transaction."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._connection: Any = self._runner.run(_connect())

    def write_batch(self, items: list[Update]) -> None:
        self._runner.run(self._write(items))

    async def _write(self, items: list[Update]) -> None:
        orders = {update.order[0]: update.order for update in items if update.order}
        customers = {update.customer[0]: update.customer for update in items}
        async with self._connection.transaction():
            await self._write_more(items, customers)
            await self._connection.executemany(_UPSERT_ORDER, list(orders.values()))
            await self._connection.executemany(_UPSERT_CUSTOMER, list(customers.values()))
            await self._connection.execute(
                f"UPDATE {SCHEMA}.progress SET events = events + $1", len(items)
            )

    async def _write_more(self, items: list[Update], customers: dict[str, tuple[Any, ...]]) -> None:
        pass

    def close(self) -> None:
        self._runner.run(self._connection.close())
        self._runner.close()


class Tables(DynamicSink[Update]):
    def build(self, *_: object) -> TablesPartition:
        return TablesPartition()


class OutboxPartition(TablesPartition):
    """Also writes history and counters, and publishes from the history after each commit."""

    def __init__(self) -> None:
        super().__init__()
        self._redis: Any = redis.Redis.from_url(REDIS_URL)

    def write_batch(self, items: list[Update]) -> None:
        super().write_batch(items)
        self._runner.run(self._publish())

    async def _write_more(self, items: list[Update], customers: dict[str, tuple[Any, ...]]) -> None:
        changes = [item.change for item in items if item.change]
        await self._connection.executemany(
            _INSERT_CHANGE, [(it.email, it.sequence, it.previous, it.segment) for it in changes]
        )
        counted: dict[str, list[Any]] = {}
        for row in await self._connection.fetch(_BEFORE, list(customers)):
            figures = counted.setdefault(row["segment"], [0, Decimal(0)])
            figures[0] -= 1
            figures[1] -= row["total_spent"]
        for customer in customers.values():
            figures = counted.setdefault(customer[8], [0, Decimal(0)])
            figures[0] += 1
            figures[1] += customer[5]
        await self._connection.executemany(
            _COUNT, [(segment, *counted[segment]) for segment in sorted(counted)]
        )

    async def _publish(self) -> None:
        rows = await self._connection.fetch(_UNPUBLISHED)
        pipeline = self._redis.pipeline(transaction=False)
        for row in rows:
            pipeline.xadd(CHANGES, {"data": json.dumps(dict(row))})
        pipeline.execute()
        await self._connection.executemany(
            _PUBLISHED, [(row["email"], row["sequence"]) for row in rows]
        )


class TablesAndOutbox(DynamicSink[Update]):
    def build(self, *_: object) -> OutboxPartition:
        return OutboxPartition()


class ChangesPartition(StatelessSinkPartition[SegmentChanged]):
    """Publishes a batch in one pipeline."""

    def __init__(self) -> None:
        self._redis: Any = redis.Redis.from_url(REDIS_URL)

    def write_batch(self, items: list[SegmentChanged]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for change in items:
            pipeline.xadd(CHANGES, {"data": change.model_dump_json()})
        pipeline.execute()


class Changes(DynamicSink[SegmentChanged]):
    def build(self, *_: object) -> ChangesPartition:
        return ChangesPartition()


async def _connect() -> Any:
    connection = await asyncpg.connect(DATABASE_URL.replace("+asyncpg", ""))
    await connection.set_type_codec(
        "jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog"
    )
    return connection


async def create_tables(engine: AsyncEngine) -> None:
    """Create empty tables."""
    async with engine.begin() as connection:
        for statement in _TABLES.split(";\n"):
            if statement.strip():
                await connection.execute(text(statement))


def _updates(flow: Dataflow) -> Any:
    """Return the stream of what is to be written."""
    entries = op.input("orders", flow, StreamSource())
    events = op.map("validate", entries, OrderEvent.model_validate_json)
    keyed = op.key_on("by customer", events, lambda event: event.data.customer.email.lower())
    return op.map("value", op.stateful_map("apply", keyed, apply), lambda pair: pair[1])


flow = Dataflow("segments")
updates = _updates(flow)
op.output("tables", updates, Tables())
changes = op.filter_map("changed", updates, lambda update: update.change)
op.output("changes", changes, Changes())

flow_with_outbox = Dataflow("segments_with_outbox")
op.output("tables", _updates(flow_with_outbox), TablesAndOutbox())
