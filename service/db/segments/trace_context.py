"""Store which trace a segment change belongs to. Used only if tracing is on."""

from collections.abc import Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

# Only changes that this transaction has made, no earlier ones.
_OWN = (
    "s.sequence = c.segment_sequence AND s.customer_id = c.id"
    " AND s.xmin = CAST(pg_current_xact_id() AS xid)"
)
_BY_ORDER = text(f"""
UPDATE segment_changes s SET traceparent = t.traceparent
FROM unnest(CAST(:orders AS text[]), CAST(:traceparents AS text[])) AS t (order_id, traceparent)
JOIN orders o ON o.id = t.order_id JOIN customers c ON c.id = o.customer_id
WHERE {_OWN}
""")
_BY_CUSTOMER = text(f"""
UPDATE segment_changes s SET traceparent = :traceparent
FROM customers c WHERE c.id = :customer_id AND {_OWN}
""")


async def trace_orders(connection: AsyncConnection, traceparents: Mapping[str, str]) -> None:
    """Store the trace of each segment change that an order caused in this transaction."""
    await connection.execute(
        _BY_ORDER,
        {"orders": list(traceparents), "traceparents": list(traceparents.values())},
    )


async def trace_customer(connection: AsyncConnection, customer_id: int, traceparent: str) -> None:
    """Store the trace of the segment change that a request caused in this transaction."""
    await connection.execute(_BY_CUSTOMER, {"customer_id": customer_id, "traceparent": traceparent})
