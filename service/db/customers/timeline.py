"""Everything that happened with one customer, the latest first."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.cursor import Listed, decode_moment, encode_moment

# One branch per kind; each gives at most a page, so the union stays small.
_EVENTS = """
SELECT at, kind, ref, body FROM (
  (SELECT date_created AS at, 'order' AS kind, id AS ref, jsonb_build_object('orderId', id,
     'status', status, 'totalAmount', total, 'refundedAmount', refunded) AS body
   FROM orders WHERE customer_id = :id)
  UNION ALL
  (SELECT updated_at, 'order-updated', id, jsonb_build_object('orderId', id, 'status', status,
     'paymentStatus', payment_status, 'version', version)
   FROM orders WHERE customer_id = :id AND updated_at > date_created)
  UNION ALL
  (SELECT changed_at, 'segment', sequence::text, jsonb_build_object('previousSegment', previous,
     'segment', segment, 'cause', cause, 'sequence', sequence)
   FROM segment_changes WHERE customer_id = :id)
  UNION ALL
  (SELECT at, 'edit', id::text, jsonb_build_object('actor', actor, 'action', action,
     'changes', details)
   FROM audit WHERE customer_id = :id)
  UNION ALL
  (SELECT happened_at, 'interaction', id::text, jsonb_build_object('kind', kind, 'author', author,
     'text', text)
   FROM interactions WHERE customer_id = :id)
) events
"""
_TIMELINE = text(f"""
{_EVENTS}
WHERE CAST(:at AS timestamptz) IS NULL OR (at, kind || ref) < (:at, :last)
ORDER BY at DESC, kind || ref DESC LIMIT :one_more
""")
_TIMELINE_COUNT = text(f"SELECT count(*) FROM ({_EVENTS}) counted")

_SINCE = text("""
SELECT changed_at, cause, sequence FROM segment_changes
WHERE customer_id = :id ORDER BY sequence DESC LIMIT 1
""")


async def timeline(
    connection: AsyncConnection, customer_id: int, limit: int, cursor: str | None
) -> Listed:
    """List orders, their last updates, segment changes, edits and interactions of a customer.

    The latest comes first. Raises BadCursorError.
    """
    at, last = decode_moment(cursor, "timeline")
    rows = (
        await connection.execute(
            _TIMELINE, {"id": customer_id, "at": at, "last": last, "one_more": limit + 1}
        )
    ).all()
    total = (await connection.execute(_TIMELINE_COUNT, {"id": customer_id})).scalar_one()
    shown = rows[:limit]
    items = [{"at": row.at, "type": row.kind, **row.body} for row in shown]
    last_shown = (shown[-1].at, shown[-1].kind + shown[-1].ref) if len(rows) > limit else None
    return Listed(items, total, last_shown and encode_moment(*last_shown, "timeline"))


async def segment_since(connection: AsyncConnection, customer_id: int) -> dict[str, Any] | None:
    """Say since when, why and as the how manieth a customer has their segment."""
    row = (await connection.execute(_SINCE, {"id": customer_id})).mappings().one_or_none()
    return None if row is None else dict(row)
