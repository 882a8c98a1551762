"""What has just happened: orders, segment changes and edits, the latest of each.

Each list is read backwards along an index, so this costs the same however much there is. Nobody's
e-mail is in it, and of an edit only which fields it changed.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.customer_ids import customer_ref
from service.core.numbers import whole_number

_ORDERS = text("""
SELECT o.*, c.name FROM (
  SELECT id, version, updated_at, status, payment_status, total, refunded, counts, customer_id,
         date_created AS at, applied_at
  FROM orders ORDER BY date_created DESC LIMIT :most
) o LEFT JOIN customers c ON c.id = o.customer_id
""")
_SEGMENT_CHANGES = text("""
SELECT s.*, c.name FROM (
  SELECT id, customer_id, previous, segment, cause, changed_at AS at
  FROM segment_changes ORDER BY id DESC LIMIT :most
) s LEFT JOIN customers c ON c.id = s.customer_id
""")
_EDITS = text("""
SELECT a.*, c.name FROM (
  SELECT id, at, actor, action, customer_id,
         ARRAY(SELECT jsonb_object_keys(details) ORDER BY 1) AS fields
  FROM audit ORDER BY id DESC LIMIT :most
) a LEFT JOIN customers c ON c.id = a.customer_id
""")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND_DIGITS = 16  # more than these lie beyond the last year that a datetime has


class ActivityEvent(NamedTuple):
    """Something that happened."""

    id: str
    """Begins with ``known`` in microseconds; of an order that changed, another than before."""
    number: int
    """Of two happenings of one kind at the same moment the later one has the greater. Orders: 0."""
    known: datetime
    """When the service learnt of it; a late order is known long after it was placed."""
    at: datetime
    body: dict[str, Any]
    """What is written outside."""


async def latest(connection: AsyncConnection, most: int) -> list[ActivityEvent]:
    """Give up to ``most`` orders, as many segment changes and edits; the newest first.

    Orders are placed by their own date, so one of last year is not news.
    """
    happenings = [
        *(_order(row) for row in await connection.execute(_ORDERS, {"most": most})),
        *(_change(row) for row in await connection.execute(_SEGMENT_CHANGES, {"most": most})),
        *(_edit(row) for row in await connection.execute(_EDITS, {"most": most})),
    ]
    return sorted(happenings, key=lambda each: (each.at, each.number, each.id), reverse=True)


def known_at(happening_id: str) -> datetime | None:
    """Read from an id when the service knew; None for what is no such id."""
    microseconds = happening_id.partition("-")[0]
    number = whole_number(microseconds, _MICROSECOND_DIGITS)
    return None if number is None else _EPOCH + timedelta(microseconds=number)


def _order(row: Row[Any]) -> ActivityEvent:
    # An order's id may be any text; it must not break a line of the stream.
    state = f"{row.id}\n{row.version}\n{row.updated_at}\n{row.customer_id}"
    return _happening(
        row,
        f"order-{hashlib.sha256(state.encode()).hexdigest()[:16]}",
        0,
        row.applied_at,
        {
            "type": "order",
            "orderId": row.id,
            "status": row.status,
            "paymentStatus": row.payment_status,
            "totalAmount": row.total,
            "refundedAmount": row.refunded,
            "counts": row.counts,
        },
    )


def _change(row: Row[Any]) -> ActivityEvent:
    return _happening(
        row,
        f"segment-{row.id}",
        row.id,
        row.at,
        {
            "type": "segment",
            "previousSegment": row.previous,
            "segment": row.segment,
            "cause": row.cause,
        },
    )


def _edit(row: Row[Any]) -> ActivityEvent:
    return _happening(
        row,
        f"edit-{row.id}",
        row.id,
        row.at,
        {"type": "edit", "actor": row.actor, "action": row.action, "fields": row.fields},
    )


def _happening(
    row: Row[Any], name: str, number: int, known: datetime, body: dict[str, Any]
) -> ActivityEvent:
    happening_id = f"{(known - _EPOCH) // timedelta(microseconds=1)}-{name}"
    customer = None if row.customer_id is None else customer_ref(row.customer_id)
    common = {"id": happening_id, "at": row.at, "customerId": customer, "customerName": row.name}
    return ActivityEvent(happening_id, number, known, row.at, common | body)
