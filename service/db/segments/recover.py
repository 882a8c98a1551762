"""What the out-stream knows and a database restored to an earlier moment has forgotten.

Analytics has seen those segment changes and drops other ones of the same sequence. So they are
taken back into the history, and where a customer now stands elsewhere, one more change says so.
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
from service.db.segments import outbox
from service.streams import groups

_PAGE = 1000

_LOCK = text("SELECT id FROM customers WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE")
# Nobody has seen them: what the stream has of these customers comes first.
_UNSEEN = text(
    "DELETE FROM segment_changes WHERE customer_id = ANY(:ids) AND publish_number IS NULL"
)
_TAKE = text("""
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
# The segment itself is not touched here: only `service.db.segments.assign` writes it.
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
# The ids of customers who are forgotten must not go to others.
_NUMBER_BEYOND = text("""
SELECT setval(sequence, GREATEST(CAST(:id AS bigint), (SELECT max(id) FROM customers)))
FROM pg_get_serial_sequence('customers', 'id') AS sequence
WHERE CAST(:id AS bigint) > coalesce(pg_sequence_last_value(CAST(sequence AS regclass)), 0)
""")


async def is_older(connection: AsyncConnection, redis: Redis, stream: str) -> bool:
    """Tell whether the stream holds more than this database has ever numbered."""
    return await groups.last_id(redis, stream) > (await outbox.state(connection)).numbered


async def take_back(engine: AsyncEngine, redis: Redis, stream: str) -> int:
    """Take back what was published and is forgotten; give how many changes that were.

    The caller is the relay, or keeps it from running. Entries that are not ours are passed over.
    """
    taken = 0
    while True:
        async with engine.connect() as connection:
            published = (await outbox.state(connection)).published
        page = await groups.read_range(redis, stream, f"({published}-0", "+", _PAGE)
        last = page[-1].milliseconds if page else await groups.last_id(redis, stream)
        changes = [change for entry in page if (change := _read(entry))]

        async def work(
            connection: AsyncConnection,
            published: int = published,
            last: int = last,
            changes: Sequence[dict[str, Any]] = changes,
        ) -> None:
            await outbox.renumber_beyond(connection, published, last)
            if changes:
                await _take(connection, changes)

        await in_transaction(engine, work)
        taken += len(changes)
        if len(page) < _PAGE:
            return taken


async def _take(connection: AsyncConnection, changes: Sequence[dict[str, Any]]) -> None:
    ids = sorted({change["id"] for change in changes})
    await connection.execute(_NUMBER_BEYOND, {"id": ids[-1]})
    await connection.execute(_LOCK, {"ids": ids})
    await connection.execute(_UNSEEN, {"ids": ids})
    await connection.execute(_TAKE, {"changes": json.dumps(changes)})
    await connection.execute(_BRIDGE, {"ids": ids, "cause": Cause.REBUILD.value})


def _read(entry: Entry) -> dict[str, Any] | None:
    """Read a change back from its entry; None: somebody else wrote it."""
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
