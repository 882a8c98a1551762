"""Everything that happened with one customer, the latest first."""

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.cursor import decode, encode
from service.rules import SegmentSettings

_ORDER_COLUMNS = """
id, version, status, payment_status, total, refunded, counts, date_created, updated_at"""

_ORDERS = text(f"""
SELECT {_ORDER_COLUMNS} FROM orders
WHERE customer_id = :id
  AND (CAST(:at AS timestamptz) IS NULL OR (date_created, id) < (:at, :last))
ORDER BY date_created DESC, id DESC LIMIT :one_more
""")
_ORDER_COUNT = text("SELECT count(*) FROM orders WHERE customer_id = :id")

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
_SETTINGS = text("SELECT * FROM settings ORDER BY version DESC LIMIT 1")
_DEAD_LETTERS = text("""
SELECT stream_id, reason FROM dead_letters WHERE EXISTS (
  SELECT FROM unnest(field_values) AS v(value)
  WHERE position(:email IN lower(encode(v.value, 'escape'))) > 0)
""")


class Listed(NamedTuple):
    """A page of what happened."""

    items: list[dict[str, Any]]
    total: int
    next_cursor: str | None


async def orders_of(
    connection: AsyncConnection, customer_id: int, limit: int, cursor: str | None
) -> Listed:
    """List a customer's orders, the latest first. Raises BadCursorError."""
    at, last = _position(cursor, "orders")
    rows = (
        await connection.execute(
            _ORDERS, {"id": customer_id, "at": at, "last": last, "one_more": limit + 1}
        )
    ).all()
    total = (await connection.execute(_ORDER_COUNT, {"id": customer_id})).scalar_one()
    shown = rows[:limit]
    items = [
        {
            "id": row.id,
            "version": row.version,
            "status": row.status,
            "paymentStatus": row.payment_status,
            "totalAmount": row.total,
            "refundedAmount": row.refunded,
            "counts": row.counts,
            "dateCreated": row.date_created,
            "dateUpdated": row.updated_at,
        }
        for row in shown
    ]
    last_shown = (shown[-1].date_created, shown[-1].id) if len(rows) > limit else None
    return Listed(items, total, _next(last_shown, "orders"))


async def timeline(
    connection: AsyncConnection, customer_id: int, limit: int, cursor: str | None
) -> Listed:
    """List orders, their last updates, segment changes, edits and interactions of a customer.

    The latest comes first. Raises BadCursorError.
    """
    at, last = _position(cursor, "timeline")
    rows = (
        await connection.execute(
            _TIMELINE, {"id": customer_id, "at": at, "last": last, "one_more": limit + 1}
        )
    ).all()
    total = (await connection.execute(_TIMELINE_COUNT, {"id": customer_id})).scalar_one()
    shown = rows[:limit]
    items = [{"at": row.at, "type": row.kind, **row.body} for row in shown]
    last_shown = (shown[-1].at, shown[-1].kind + shown[-1].ref) if len(rows) > limit else None
    return Listed(items, total, _next(last_shown, "timeline"))


async def segment_since(connection: AsyncConnection, customer_id: int) -> dict[str, Any] | None:
    """Say since when, why and as the how manieth a customer has their segment."""
    row = (await connection.execute(_SINCE, {"id": customer_id})).mappings().one_or_none()
    return None if row is None else dict(row)


async def current_settings(connection: AsyncConnection) -> tuple[int, SegmentSettings]:
    """Read the settings in force and their version."""
    row = (await connection.execute(_SETTINGS)).mappings().one()
    return row["version"], SegmentSettings.model_validate(dict(row))


async def dead_letters_about(connection: AsyncConnection, email: str) -> list[dict[str, str]]:
    """List the dead letters that name an e-mail."""
    rows = await connection.execute(_DEAD_LETTERS, {"email": email.lower()})
    return [{"streamId": row.stream_id, "reason": row.reason} for row in rows]


def _position(cursor: str | None, order: str) -> tuple[datetime | None, str]:
    if cursor is None:
        return None, ""
    moment, _, last = decode(cursor, order)[0].partition(" ")
    return datetime.fromisoformat(moment), last


def _next(last_shown: tuple[datetime, str] | None, order: str) -> str | None:
    if last_shown is None:
        return None
    at, last = last_shown
    return encode(f"{at.isoformat()} {last}", 0, order)
