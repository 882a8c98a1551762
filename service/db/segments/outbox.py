"""`segment_changes` as an outbox: numbered by whoever holds the relay's lock, then published.

A primary key is no safe cursor, because commits land out of order; the relay's own number is. Per
customer it follows the sequence: a customer's next change is only written under the lock that the
one before held until it was visible.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.customer_ids import customer_ref
from service.core.json_values import money

_LEADER = 0x43524D02  # "CRM" 2

_COLUMNS = (
    "publish_number, customer_id, sequence, previous, segment, cause, settings_version,"
    " total_orders, total_spent, last_order_date, changed_at, traceparent"
)
_NUMBERED = text(
    f"SELECT {_COLUMNS} FROM segment_changes WHERE publish_number > :after"
    " ORDER BY publish_number LIMIT :most"
)
# By place: one look per change, whatever the planner believes of the history's size. Joined by id,
# a plan made while the history was empty went through all of it for each change of a page. Nobody
# else writes to changes that have no number.
_NUMBER_NEXT = text("""
WITH next AS MATERIALIZED (
  SELECT place, row_number() OVER (ORDER BY id) AS nth FROM (
    SELECT ctid AS place, id FROM segment_changes
    WHERE publish_number IS NULL ORDER BY id LIMIT :most
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
_STATE = text("SELECT numbered, published, trimmed FROM relay")
_PUBLISHED = text("UPDATE relay SET published = :number")
_FORGET = text("UPDATE segment_changes SET publish_number = NULL WHERE publish_number > :after")
_JUMP = text("UPDATE relay SET numbered = GREATEST(numbered, :number), published = :number")


# A page of changes is found row by row. The planner, who cannot know how many are waiting, would
# read all history for each page while it believes it to be small.
_BY_PROBES = text("""
SELECT set_config('enable_hashjoin', 'off', false), set_config('enable_mergejoin', 'off', false)
""")


class OutboxChange(NamedTuple):
    """A segment change, ready for the out-stream."""

    number: int
    body: bytes
    """CloudEvents JSON; the same bytes whenever it is published again."""
    traceparent: str | None


class RelayState(NamedTuple):
    """How far the relay is."""

    numbered: int
    published: int
    trimmed: int
    """Everything up to it was trimmed off the stream on purpose."""


async def lead(connection: AsyncConnection) -> bool:
    """Try to become the one relay; it lasts as long as the connection."""
    held = await connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": _LEADER})
    if not held.scalar_one():
        return False
    await connection.execute(_BY_PROBES)
    return True


async def state(connection: AsyncConnection) -> RelayState:
    """Read how far the relay is."""
    row = (await connection.execute(_STATE)).one()
    return RelayState(*row)


async def next_changes(connection: AsyncConnection, after: int, most: int) -> list[OutboxChange]:
    """Give the changes to publish after number ``after``, numbering new ones if need be."""
    rows = (await connection.execute(_NUMBERED, {"after": after, "most": most})).all()
    if not rows:
        await connection.execute(_NUMBER_NEXT, {"most": most})
        rows = (await connection.execute(_NUMBERED, {"after": after, "most": most})).all()
    return _changes(rows)


async def mark_published(connection: AsyncConnection, number: int) -> None:
    """Note that the stream holds everything up to ``number`` and nothing beyond."""
    await connection.execute(_PUBLISHED, {"number": number})


async def renumber_beyond(connection: AsyncConnection, published: int, number: int) -> None:
    """Continue above ``number``; what was numbered after ``published`` gets new numbers."""
    await connection.execute(_FORGET, {"after": published})
    await connection.execute(_JUMP, {"number": number})


def _changes(rows: Sequence[Row[Any]]) -> list[OutboxChange]:
    return [OutboxChange(row.publish_number, _body(row), row.traceparent) for row in rows]


def _body(row: Row[Any]) -> bytes:
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
