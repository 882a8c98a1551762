"""Leave out of a batch the events that orders already have as their state.

A stream that is read again (a group set back, a publisher that sends all once more) consists of
little else, and to find that out is less than half the work of applying it. When nothing comes
twice the question is for nothing, so it is the caller who knows when to ask.
"""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.order_event import OrderEvent
from service.db.columns import pack, unpack

_COLUMNS = {
    "place": "integer",
    "order_id": "text",
    "version": "bigint",
    "updated_at": "timestamptz",
    "event_id": "text",
    "names": "boolean",
}
# Keys only rise, so what is true without a lock stays true. An event that names somebody must be
# the one that named the order's customer: whom it named may only have come to be known since.
_APPLIED = text(f"""
SELECT e.place FROM ({unpack(_COLUMNS)}) e CROSS JOIN LATERAL (
  SELECT version, updated_at, event_id, customer_id, named_event_id, erased
  FROM orders WHERE id = e.order_id OFFSET 0
) o
WHERE (o.version, o.updated_at, o.event_id) = (e.version, e.updated_at, e.event_id)
  AND (NOT e.names OR o.erased OR (o.customer_id IS NOT NULL AND o.named_event_id = e.event_id))
""")


async def without_repeats(
    connection: AsyncConnection, events: Sequence[OrderEvent]
) -> list[OrderEvent]:
    """Give the events that may still change something; applying the others would change nothing."""
    rows = await connection.execute(
        _APPLIED,
        pack(
            {
                "place": list(range(len(events))),
                "order_id": [event.order_id for event in events],
                "version": [event.key.version for event in events],
                "updated_at": [event.key.at for event in events],
                "event_id": [event.key.event_id for event in events],
                "names": [event.customer is not None for event in events],
            }
        ),
    )
    repeats = set(rows.scalars())
    return [event for place, event in enumerate(events) if place not in repeats]
