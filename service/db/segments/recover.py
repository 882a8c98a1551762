"""Restore from the out-stream the segment changes that a restored database lacks.

A database that was restored from a backup has none of the changes that were published after the
backup. Subscribers have seen them, and they drop other changes with the same sequence. So the
changes are inserted into the history again. If a customer's segment now differs from the last of
them, one more change announces it to subscribers.
"""

import json
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.core.customer_ids import customer_number
from service.core.envelope import FASTSTREAM_FIELD, Entry
from service.core.segment_event import Cause, SegmentChangedCloudEvent
from service.db.engine import in_transaction
from service.db.locks import lock_customers
from service.db.segments import outbox
from service.streams import groups
from service.streams.entries import Limits, read_range

_PAGE = 1000

# No subscriber has seen unpublished changes, and the stream's changes of these customers need their
# sequences.
_DELETE_UNPUBLISHED = text(
    "DELETE FROM segment_changes WHERE customer_id = ANY(:ids) AND publish_number IS NULL"
)
_INSERT_CHANGES = text("""
INSERT INTO segment_changes (customer_id, sequence, previous, segment, cause, settings_version,
  total_orders, total_spent, last_order_date, changed_at, publish_number, traceparent)
SELECT substr("customerId", 6)::bigint, sequence, "previousSegment", segment, cause,
  "settingsVersion", "totalOrders", "totalSpent", "lastOrderDate", "changedAt", number, traceparent
FROM jsonb_to_recordset(CAST(:changes AS jsonb)) AS p (
  "customerId" text, sequence integer, "previousSegment" text, segment text, cause text,
  "settingsVersion" integer, "totalOrders" integer, "totalSpent" numeric,
  "lastOrderDate" timestamptz, "changedAt" timestamptz, number bigint, traceparent text)
ORDER BY number
ON CONFLICT (customer_id, sequence) DO NOTHING
""")
# Adds a change from the last segment that the stream has to the customer's own, where they differ.
# The segment itself stays: only `service.db.segments.assign` writes it.
_BRIDGE = text("""
WITH latest AS (
  SELECT DISTINCT ON (customer_id) customer_id, sequence, segment
  FROM segment_changes WHERE customer_id = ANY(:ids) ORDER BY customer_id, sequence DESC
),
bridged AS (
  INSERT INTO segment_changes (customer_id, sequence, previous, segment, cause, settings_version,
    total_orders, total_spent, last_order_date, changed_at)
  SELECT c.id, l.sequence + 1, l.segment, c.segment, :cause, (SELECT max(version) FROM settings),
    c.total_orders, c.total_spent, c.last_order_date, clock_timestamp()
  FROM customers c JOIN latest l ON l.customer_id = c.id WHERE c.segment <> l.segment ORDER BY c.id
)
UPDATE customers c SET segment_sequence = l.sequence + CAST(c.segment <> l.segment AS integer)
FROM latest l WHERE c.id = l.customer_id
""")
# New customers must not get the ids of customers whom this database has forgotten.
_RESERVE_IDS = text("""
SELECT setval(sequence, GREATEST(CAST(:id AS bigint), (SELECT max(id) FROM customers)))
FROM pg_get_serial_sequence('customers', 'id') AS sequence
WHERE CAST(:id AS bigint) > coalesce(pg_sequence_last_value(CAST(sequence AS regclass)), 0)
""")


async def is_older(connection: AsyncConnection, redis: Redis, stream: str) -> bool:
    """Return True if the stream has more changes than this database has ever numbered."""
    return await groups.last_number(redis, stream) > (await outbox.state(connection)).numbered


async def restore_changes(engine: AsyncEngine, redis: Redis, stream: str) -> int:
    """Insert the changes that were published and that the database lacks; return how many.

    The caller must be the relay, or keep it from running. Entries that are no segment changes of
    ours are skipped.
    """
    taken = 0
    while True:
        async with engine.connect() as connection:
            published = (await outbox.state(connection)).published
        page = await read_range(redis, stream, f"({published}-0", "+", Limits(_PAGE))
        last = page[-1].milliseconds if page else await groups.last_number(redis, stream)
        changes = [change for entry in page if (change := _read(entry))]
        await in_transaction(engine, _take_page, published, last, changes)
        taken += len(changes)
        if not page:
            return taken


async def _take_page(
    connection: AsyncConnection, published: int, last: int, changes: Sequence[dict[str, Any]]
) -> None:
    await outbox.renumber_beyond(connection, published, last)
    if not changes:
        return
    ids = sorted({change["id"] for change in changes})
    await connection.execute(_RESERVE_IDS, {"id": ids[-1]})
    await lock_customers(connection, ids)
    await connection.execute(_DELETE_UNPUBLISHED, {"ids": ids})
    await connection.execute(_INSERT_CHANGES, {"changes": json.dumps(changes)})
    await connection.execute(_BRIDGE, {"ids": ids, "cause": Cause.REBUILD.value})


def _read(entry: Entry) -> dict[str, Any] | None:
    """Read a change back from its entry. None if somebody else wrote the entry."""
    body = entry.fields.get(FASTSTREAM_FIELD, b"")
    try:
        SegmentChangedCloudEvent.model_validate_json(body)
    except ValidationError:
        return None
    document = json.loads(body, parse_float=str)  # every digit of an amount
    number = customer_number(document["data"]["customerId"])
    if number is None:
        return None
    return {
        **document["data"],
        "id": number,
        "number": entry.milliseconds,
        "traceparent": document.get("traceparent"),
    }
