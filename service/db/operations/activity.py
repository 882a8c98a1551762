"""The latest orders, segment changes and edits.

Each list is read backwards along an index, so the cost does not grow with the tables. A list has no
e-mails, and only the names of the fields that an edit changed.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.numbers import whole_number

_ORDERS = text("""
SELECT o.*, c.name FROM (
  SELECT id, version, updated_at, status, payment_status, total, refunded, currency, counts,
         customer_id, LEAST(date_created, applied_at) AS at, applied_at
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
  FROM audit WHERE :accounts OR NOT (action LIKE 'user.%' OR action LIKE 'key.%')
  ORDER BY id DESC LIMIT :most
) a LEFT JOIN customers c ON c.id = a.customer_id
""")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND_DIGITS = 16  # more digits would lie beyond the last year that a datetime can hold


class OrderActivity(NamedTuple):
    """An order in its latest known state."""

    order_id: str
    status: str
    payment_status: str | None
    total_amount: Decimal
    refunded_amount: Decimal
    currency: str | None
    """The currency of both amounts. None: the store's."""
    counts: bool


class SegmentActivity(NamedTuple):
    """A segment change."""

    previous_segment: str | None
    segment: str
    cause: str


class EditActivity(NamedTuple):
    """Something that staff changed."""

    actor: str
    action: str
    fields: Sequence[str]


class ActivityEvent(NamedTuple):
    """An order, a segment change or an edit."""

    id: str
    """``known`` in microseconds, then kind and key. An order that changes gets another id."""
    number: int
    """Sorts events of one kind at the same time: the later one has the greater. 0 for orders."""
    known: datetime
    """When the service learnt of it. A late order is known long after it was placed."""
    at: datetime
    kind: str
    """``order``, ``segment`` or ``edit``."""
    customer_id: int | None
    customer_name: str | None
    details: OrderActivity | SegmentActivity | EditActivity

    @property
    def of_accounts(self) -> bool:
        """Whether it is about sign-ins, users or keys: for admins only."""
        return isinstance(self.details, EditActivity) and self.details.action.startswith(
            ("user.", "key.")
        )


async def latest(connection: AsyncConnection, most: int, *, accounts: bool) -> list[ActivityEvent]:
    """Return up to ``most`` orders, segment changes and edits each, the newest first.

    An order counts by the date it was placed, so an order of last year is not news. An order that
    is dated ahead counts by when the service learnt of it. Without ``accounts``, sign-ins and
    changes of users and keys are left out.
    """
    limit = {"most": most}
    events = [
        *(_order(row) for row in await connection.execute(_ORDERS, limit)),
        *(_segment_change(row) for row in await connection.execute(_SEGMENT_CHANGES, limit)),
        *(_edit(row) for row in await connection.execute(_EDITS, {**limit, "accounts": accounts})),
    ]
    return sorted(events, key=lambda event: (event.at, event.number, event.id), reverse=True)


def known_at(event_id: str) -> datetime | None:
    """Return when the service learnt of the event with this id. None if it is not such an id."""
    microseconds = whole_number(event_id.partition("-")[0], _MICROSECOND_DIGITS)
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)


def _order(row: Row[Any]) -> ActivityEvent:
    # An order id may be any text. It is hashed, so that it cannot break a line of the stream.
    state = f"{row.id}\n{row.version}\n{row.updated_at}\n{row.customer_id}"
    key = hashlib.sha256(state.encode()).hexdigest()[:16]
    details = OrderActivity(
        row.id, row.status, row.payment_status, row.total, row.refunded, row.currency, row.counts
    )
    return _event(row, "order", key, 0, row.applied_at, details)


def _segment_change(row: Row[Any]) -> ActivityEvent:
    details = SegmentActivity(row.previous, row.segment, row.cause)
    return _event(row, "segment", row.id, row.id, row.at, details)


def _edit(row: Row[Any]) -> ActivityEvent:
    details = EditActivity(row.actor, row.action, row.fields)
    return _event(row, "edit", row.id, row.id, row.at, details)


def _event(
    row: Row[Any],
    kind: str,
    key: str | int,
    number: int,
    known: datetime,
    details: OrderActivity | SegmentActivity | EditActivity,
) -> ActivityEvent:
    microseconds = (known - _EPOCH) // timedelta(microseconds=1)
    return ActivityEvent(
        id=f"{microseconds}-{kind}-{key}",
        number=number,
        known=known,
        at=row.at,
        kind=kind,
        customer_id=row.customer_id,
        customer_name=row.name,
        details=details,
    )
