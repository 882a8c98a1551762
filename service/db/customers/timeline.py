"""Everything that happened with one customer, the latest first."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.customers.identity.naming import PREDECESSORS
from service.db.customers.paging import Listed, TimePosition

# One branch for each kind of event. The audit and the history of a customer who was merged stay
# under their number.
_EVENTS = f"""
SELECT at, kind, ref, details FROM (
  (SELECT date_created AS at, 'order' AS kind, id AS ref, jsonb_build_object('order_id', id,
     'status', status, 'total_amount', total, 'refunded_amount', refunded,
     'currency', currency) AS details
   FROM orders WHERE customer_id = :id)
  UNION ALL
  (SELECT updated_at, 'order-updated', id, jsonb_build_object('order_id', id, 'status', status,
     'payment_status', payment_status, 'version', version)
   FROM orders WHERE customer_id = :id AND updated_at > date_created)
  UNION ALL
  (SELECT changed_at, 'segment', sequence::text, jsonb_build_object('previous_segment', previous,
     'segment', segment, 'cause', cause, 'sequence', sequence)
   FROM segment_changes WHERE customer_id IN {PREDECESSORS})
  UNION ALL
  (SELECT at, 'edit', id::text, jsonb_build_object('actor', actor, 'action', action,
     'changes', details)
   FROM audit WHERE customer_id IN {PREDECESSORS})
  UNION ALL
  (SELECT done.at, 'edit', 'bulk' || b.id || done.way, jsonb_build_object('actor', done.actor,
     'action', 'customer.tagged', 'changes', jsonb_build_object(done.way, jsonb_build_array(b.tag),
     'bulk', b.id))
   FROM bulk_changed x JOIN bulk_changes b ON b.id = x.bulk_id
   CROSS JOIN LATERAL (
     VALUES (b.at, b.actor, CASE b.kind WHEN 'add_tag' THEN 'added' ELSE 'removed' END),
       (b.undone_at, b.undone_by, CASE b.kind WHEN 'add_tag' THEN 'removed' ELSE 'added' END)
   ) done (at, actor, way)
   WHERE x.customer_id = :id AND done.at IS NOT NULL)
  UNION ALL
  (SELECT happened_at, 'interaction', id::text, jsonb_build_object('kind', kind, 'author', author,
     'text', text)
   FROM interactions WHERE customer_id = :id AND removed_at IS NULL)
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


class TimelineRow(NamedTuple):
    """Something that happened with a customer."""

    at: datetime
    kind: str
    """``order``, ``order-updated``, ``segment``, ``edit`` or ``interaction``."""
    details: Mapping[str, Any]
    """The fields of this kind."""


class SegmentSince(NamedTuple):
    """The segment change that gave a customer their current segment."""

    changed_at: datetime
    cause: str
    sequence: int


async def timeline(
    connection: AsyncConnection, customer_id: int, limit: int, after: TimePosition | None
) -> Listed[TimelineRow]:
    """Return a page of a customer's events, the latest first.

    Events are orders, the last update of each order, segment changes, edits and interactions.
    """
    at, last = after or (None, "")
    parameters = {"id": customer_id, "at": at, "last": last, "one_more": limit + 1}
    rows = (await connection.execute(_TIMELINE, parameters)).all()
    total = (await connection.execute(_TIMELINE_COUNT, {"id": customer_id})).scalar_one()
    shown = rows[:limit]
    end = TimePosition(shown[-1].at, shown[-1].kind + shown[-1].ref) if len(rows) > limit else None
    return Listed([TimelineRow(row.at, row.kind, row.details) for row in shown], total, end)


async def segment_since(connection: AsyncConnection, customer_id: int) -> SegmentSince | None:
    """Return the latest segment change of a customer. None if they have had none."""
    row = (await connection.execute(_SINCE, {"id": customer_id})).one_or_none()
    return None if row is None else SegmentSince(*row)
