"""Leave out of a batch the events that are already the state of their orders.

A stream is read again if a group was set back, or if a publisher sends everything once more. Then
most events are of this kind. Finding them is less than half the work of applying them. If no event
comes twice, looking for them is wasted work, so the caller decides.
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
    "sent_at": "timestamptz",
    "event_id": "text",
    "names_customer": "boolean",
}
# Keys only rise, so what this finds without a lock stays true. If an event names a customer, it
# must also be the event that named the order's customer. Otherwise the customer whom it names may
# have become known only after it was applied.
_KNOWN = text(f"""
SELECT e.place FROM ({unpack(_COLUMNS)}) e CROSS JOIN LATERAL (
  SELECT version, updated_at, sent_at, event_id, identifier, named_event_id, erased
  FROM orders WHERE id = e.order_id OFFSET 0
) o
WHERE (o.version, o.updated_at, coalesce(o.sent_at, o.updated_at), o.event_id)
    = (e.version, e.updated_at, e.sent_at, e.event_id)
  AND (NOT e.names_customer OR o.erased
       OR (o.identifier IS NOT NULL AND o.named_event_id = e.event_id))
""")


async def without_repeats(
    connection: AsyncConnection, events: Sequence[OrderEvent]
) -> list[OrderEvent]:
    """Return the events that may still change something. The others would change nothing."""
    rows = await connection.execute(
        _KNOWN,
        pack(
            {
                "place": list(range(len(events))),
                "order_id": [event.order_id for event in events],
                "version": [event.key.version for event in events],
                "updated_at": [event.key.at for event in events],
                "sent_at": [event.key.sent for event in events],
                "event_id": [event.key.event_id for event in events],
                "names_customer": [event.customer is not None for event in events],
            }
        ),
    )
    repeats = set(rows.scalars())
    return [event for place, event in enumerate(events) if place not in repeats]
