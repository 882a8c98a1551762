"""Tell subscribers that customers are gone: `removals` is an outbox of `customer-removed`.

A customer is removed once, because ids are never used again. So the event's id is made of the
customer's, and a removal that is repeated after a restore has the same one.
"""

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.customer_ids import customer_ref
from service.core.published_removal import PublishedRemoval, event_id, read_removal
from service.core.removal_event import RemovalReason
from service.db.outbox import CHANNEL, REPEATED, Outbox, OutboxEvent, Unknown

_ADD = text(f"""
WITH added AS (
  INSERT INTO removals (customer_id, reason, merged_into, removed_at)
  SELECT id, :reason, :merged_into, clock_timestamp()
  FROM unnest(CAST(:ids AS bigint[])) AS gone (id) ORDER BY id
  RETURNING 1
)
SELECT pg_notify('{CHANNEL}', '') FROM added LIMIT 1
""")
_KNOWN = text("""
SELECT customer_id, coalesce(publish_number <= :position, false) AS published
FROM removals WHERE customer_id = ANY(:ids)
""")


async def add(
    connection: AsyncConnection,
    customer_ids: Sequence[int],
    reason: RemovalReason,
    *,
    merged_into: int | None = None,
) -> None:
    """Announce that customers are gone. Call it in the transaction that deletes them.

    ``merged_into`` is the customer who stays; only for the reason `merged`. The caller commits.
    """
    await connection.execute(
        _ADD, {"ids": list(customer_ids), "reason": reason.value, "merged_into": merged_into}
    )


async def _refusals(
    connection: AsyncConnection, unknown: Sequence[Unknown[PublishedRemoval]], position: int
) -> list[str | None]:
    ids = sorted({each.event.customer_id for each in unknown})
    rows = await connection.execute(_KNOWN, {"ids": ids, "position": position})
    reasons = {
        row.customer_id: "the removal of this customer was published before"
        if row.published
        else REPEATED
        for row in rows
    }
    return [reasons.get(each.event.customer_id) for each in unknown]


def _event(row: Row[Any]) -> OutboxEvent:
    """Write the event that `service.core.removal_event` describes."""
    customer = customer_ref(row.customer_id)
    body = orjson.dumps(
        {
            "specversion": "1.0",
            "id": event_id(customer),
            "source": "/recovery-essentials-crm",
            "type": "customer-removed",
            "time": row.removed_at,
            "subject": customer,
            "datacontenttype": "application/json",
            "data": {
                "customerId": customer,
                "reason": row.reason,
                "mergedInto": row.merged_into and customer_ref(row.merged_into),
                "removedAt": row.removed_at,
            },
        },
        option=orjson.OPT_UTC_Z,  # Postgres gives every moment in UTC
    )
    return OutboxEvent(row.publish_number, event_id(customer), row.customer_id, body, None)


REMOVALS = Outbox(
    event="removal",
    table="removals",
    relay="removals_relay",
    columns=("customer_id", "reason", "merged_into", "removed_at"),
    write=_event,
    read=read_removal,
    refusals=_refusals,
    on_unknown="They are removed from the stream, and the relay goes on. If the database was "
    "restored, remove these customers again. See `crm foreign`",
)
