"""Use `segment_changes` as an outbox: the relay numbers the changes, then publishes them.

A primary key is no safe cursor, because commits become visible out of order. The publish number is
one, because only the holder of the relay's lock assigns it. For one customer, publish numbers rise
with the sequence: the next change of a customer is written under the customer's lock, which the
transaction of the change before held until that change was visible.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.customer_ids import customer_ref
from service.core.json_values import money
from service.db.locks import AdvisoryLock

_COLUMNS = (
    "publish_number, customer_id, sequence, previous, segment, cause, settings_version,"
    " total_orders, total_spent, last_order_date, changed_at, traceparent"
)
_NUMBERED = text(
    f"SELECT {_COLUMNS} FROM segment_changes WHERE publish_number > :after"
    " ORDER BY publish_number LIMIT :most"
)
_BETWEEN = text(
    f"SELECT {_COLUMNS} FROM segment_changes WHERE publish_number > :after"
    " AND publish_number <= :until ORDER BY publish_number LIMIT :most"
)
# Changes of customers of whom the out-stream has unknown changes wait: subscribers would drop them,
# because their sequences are taken. That is rare, and the statement without the condition is one
# that reads the waiting changes and no others, whatever the planner expects.
_ANY_HELD = text("SELECT EXISTS (SELECT FROM unknown_changes)")
_NOT_HELD = "AND NOT EXISTS (SELECT FROM unknown_changes u WHERE u.customer_id = s.customer_id)"


def _number_next(condition: str = "") -> TextClause:
    """Return the statement that numbers the next changes.

    The update finds each row by its place (ctid): one look-up per change, whatever size the planner
    expects the history to have. With a join by id, a plan made while the history was empty read all
    of it for each change of a page. A place stays valid until the update, because nobody else
    writes to changes that have no number.
    """
    return text(f"""
WITH next AS MATERIALIZED (
  SELECT place, row_number() OVER (ORDER BY id) AS nth FROM (
    SELECT ctid AS place, id FROM segment_changes s
    WHERE publish_number IS NULL {condition} ORDER BY id LIMIT :most
  ) waiting
),
base AS (
  UPDATE relay SET numbered = numbered + (SELECT count(*) FROM next)
  WHERE EXISTS (SELECT FROM next)
  RETURNING old.numbered
)
UPDATE segment_changes s SET publish_number = base.numbered + next.nth
FROM next CROSS JOIN base WHERE s.ctid = next.place
""")


_NUMBER_NEXT = _number_next()
_NUMBER_NEXT_NOT_HELD = _number_next(_NOT_HELD)
_READ_STATE = text("SELECT numbered, published, trimmed FROM relay")
_MARK_PUBLISHED = text("UPDATE relay SET published = :number")
_REMOVE_NUMBERS = text(
    "UPDATE segment_changes SET publish_number = NULL WHERE publish_number > :after"
)
_CONTINUE_ABOVE = text(
    "UPDATE relay SET numbered = GREATEST(numbered, :number), published = :number"
)

_LAST_BIGINT = 2**63 - 1
# Index look-ups find a page of changes. The planner cannot know how many changes have no number. As
# long as its statistics say that the history is small, it would read all of it for each page.
_BY_INDEX = text("""
SELECT set_config('enable_hashjoin', 'off', false), set_config('enable_mergejoin', 'off', false)
""")
LEASE_SECONDS = 15
"""The server ends the session of a relay that sends nothing for this long, and frees its lock. The
relay may hang, or be cut off by something that keeps the connection open towards the server."""
_LEASE = text(f"SELECT set_config('idle_session_timeout', '{LEASE_SECONDS}s', false)")


class OutboxChange(NamedTuple):
    """A segment change, ready for the out-stream."""

    number: int
    body: bytes
    """CloudEvents JSON. A change that is published again has the same bytes."""
    traceparent: str | None


class RelayState(NamedTuple):
    """How far the relay has come, as publish numbers."""

    numbered: int
    published: int
    trimmed: int
    """Every change up to this number was trimmed off the stream on purpose."""


async def lead(connection: AsyncConnection) -> bool:
    """Try to become the one relay while the connection lives; return whether that worked."""
    held = await connection.execute(
        text("SELECT pg_try_advisory_lock(:lock)"), {"lock": AdvisoryLock.RELAY}
    )
    if not held.scalar_one():
        return False
    await connection.execute(_BY_INDEX)
    await connection.execute(_LEASE)
    return True


async def state(connection: AsyncConnection) -> RelayState:
    """Return how far the relay has come."""
    row = (await connection.execute(_READ_STATE)).one()
    return RelayState(*row)


async def next_changes(connection: AsyncConnection, after: int, most: int) -> list[OutboxChange]:
    """Return changes after publish number ``after``; if there are none, number new ones first."""
    rows = (await connection.execute(_NUMBERED, {"after": after, "most": most})).all()
    if not rows:
        held = (await connection.execute(_ANY_HELD)).scalar_one()
        await connection.execute(_NUMBER_NEXT_NOT_HELD if held else _NUMBER_NEXT, {"most": most})
        rows = (await connection.execute(_NUMBERED, {"after": after, "most": most})).all()
    return _changes(rows)


async def numbered_between(
    connection: AsyncConnection, after: int, until: int, most: int
) -> list[OutboxChange]:
    """Return numbered changes after publish number ``after`` and up to ``until``."""
    until = min(until, _LAST_BIGINT)
    rows = await connection.execute(_BETWEEN, {"after": after, "until": until, "most": most})
    return _changes(rows.all())


async def mark_published(connection: AsyncConnection, number: int) -> None:
    """Store that the stream holds every change up to ``number`` and none beyond."""
    await connection.execute(_MARK_PUBLISHED, {"number": number})


async def renumber_beyond(connection: AsyncConnection, published: int, number: int) -> None:
    """Make publish numbers continue above ``number``.

    Changes that were numbered after ``published`` get new numbers.
    """
    await connection.execute(_REMOVE_NUMBERS, {"after": published})
    await connection.execute(_CONTINUE_ABOVE, {"number": number})


def _changes(rows: Sequence[Row[Any]]) -> list[OutboxChange]:
    return [OutboxChange(row.publish_number, _body(row), row.traceparent) for row in rows]


def _body(row: Row[Any]) -> bytes:
    """Write the event that `service.core.segment_event` describes.

    The pydantic model does not write it, because its `float` would lose the second decimal of 6.30.
    """
    customer = customer_ref(row.customer_id)
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": f"{customer}:{row.sequence}",
            "source": "/recovery-essentials-crm",
            "type": "customer-segment-changed",
            "time": row.changed_at,
            "subject": customer,
            "datacontenttype": "application/json",
            **({"traceparent": row.traceparent} if row.traceparent else {}),
            "data": {
                "customerId": customer,
                "previousSegment": row.previous,
                "segment": row.segment,
                "cause": row.cause,
                "totalOrders": row.total_orders,
                "totalSpent": money(row.total_spent),
                "lastOrderDate": row.last_order_date,
                "settingsVersion": row.settings_version,
                "changedAt": row.changed_at,
                "sequence": row.sequence,
            },
        },
        option=orjson.OPT_UTC_Z,  # Postgres gives every moment in UTC
    )
