"""Orders that belong to nobody yet: their events named no customer."""

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.cursor import BadCursorError, decode, encode

_ORDER = "unattributed"

_UNATTRIBUTED = text("""
SELECT id, version, status, payment_status, total, refunded, counts, date_created, updated_at
FROM orders
WHERE customer_id IS NULL AND NOT erased
  AND (CAST(:at AS timestamptz) IS NULL OR (date_created, id) < (:at, :last))
ORDER BY date_created DESC, id DESC LIMIT :one_more
""")
_COUNT = text("SELECT count(*) FROM orders WHERE customer_id IS NULL AND NOT erased")


class Listed(NamedTuple):
    """A page of orders."""

    items: list[dict[str, Any]]
    total: int
    next_cursor: str | None


async def unattributed(connection: AsyncConnection, limit: int, cursor: str | None) -> Listed:
    """List them, the latest first. Raises BadCursorError."""
    at, last = _position(cursor)
    found = await connection.execute(_UNATTRIBUTED, {"at": at, "last": last, "one_more": limit + 1})
    rows = found.all()
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
    next_cursor = None
    if len(rows) > limit:
        next_cursor = encode(f"{shown[-1].date_created.isoformat()} {shown[-1].id}", 0, _ORDER)
    return Listed(items, int((await connection.execute(_COUNT)).scalar_one()), next_cursor)


def _position(cursor: str | None) -> tuple[datetime | None, str]:
    if cursor is None:
        return None, ""
    moment, _, last = decode(cursor, _ORDER)[0].partition(" ")
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        raise BadCursorError from None
    if at.tzinfo is None or "\x00" in last:
        raise BadCursorError
    return at, last
