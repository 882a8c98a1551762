"""The sweep: find the customers whom time has moved to another segment since the last sweep.

A customer who becomes at_risk now placed an order exactly ``atRiskDays`` ago. So an index on the
date of orders and a watermark find these customers and no others. The cost depends on how many are
due, not on how many customers there are.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_event import Cause
from service.core.segment_rules import AGE_LIMITS
from service.db.engine import TRANSACTION_SECONDS
from service.db.locks import AdvisoryLock
from service.db.segments.assign import reclassify
from service.db.segments.rules_sql import LIMITS, segment_sql

CHUNK = 2000
"""Customers per transaction."""
OVERLAP = timedelta(seconds=2 * TRANSACTION_SECONDS)
"""How far each sweep looks back beyond the watermark. A batch may judge its customers before a
moment and commit after the sweep has passed that moment, at most `TRANSACTION_SECONDS` later."""

_IDLE_STRIDE = timedelta(hours=1)
"""How far the watermark may be behind while nobody is due. Each time it is moved, PostgreSQL writes
to its log. A service that has nothing to do should write nothing, or its archive fills for no
reason."""

_LOCK = text("""
SELECT pg_try_advisory_xact_lock(:lock) AS acquired, swept_until,
       coalesce(CAST(:now AS timestamptz), clock_timestamp()) AS now
FROM sweep
""")


def _came_of_age(limit: str) -> str:
    """Return a query for the customers with an order that reached an age limit in the window."""
    return f"""
  SELECT o.customer_id, o.date_created + (CAST(:now AS timestamptz) - l.{limit}) AS moment
  FROM limits l JOIN orders o
    ON o.counts AND o.date_created <= l.{limit}
   AND o.date_created > l.{limit} - CAST(:window AS interval)
  WHERE o.customer_id IS NOT NULL"""


_CAME_OF_AGE = "\n  UNION ALL".join(map(_came_of_age, AGE_LIMITS))
_DUE = text(f"""
WITH {LIMITS},
due AS (
  {_CAME_OF_AGE}
  UNION ALL
  SELECT id, segment_pinned_until FROM customers
  WHERE segment_pinned_until <= CAST(:now AS timestamptz)
)
SELECT c.id, due.moment
FROM (SELECT * FROM due ORDER BY moment OFFSET 0) due CROSS JOIN limits l
-- One index probe for each, until there are enough. The planner does not know how many are due, so
-- without OFFSET 0 it would read all customers.
CROSS JOIN LATERAL (SELECT * FROM customers WHERE id = due.customer_id OFFSET 0) c
WHERE c.segment_sequence > 0
  AND CASE WHEN c.segment_manual
           THEN NOT c.segment_pinned AND c.segment_pinned_until <= CAST(:now AS timestamptz)
           ELSE l.auto_segmentation AND {segment_sql("c", "l")} <> c.segment
      END
ORDER BY due.moment LIMIT :most
""")
_CLOCK = text("SELECT swept_until, clock_timestamp() AS now FROM sweep")
# The watermark never goes back, even if the clock was set back.
_ADVANCE = text("UPDATE sweep SET swept_until = GREATEST(swept_until, :moment)")


class SweepResult(NamedTuple):
    """The result of one transaction of a sweep."""

    moved: int
    finished: bool
    """No customer was due, or another replica is sweeping."""


async def sweep(connection: AsyncConnection, now: datetime | None = None) -> SweepResult:
    """Assign the segments of up to `CHUNK` customers whom time has moved.

    The caller commits and repeats until it is finished. None for ``now`` means the database's
    clock, which batches are judged by as well. While another replica sweeps, this does nothing and
    returns that it is finished.
    """
    lock = (await connection.execute(_LOCK, {"lock": AdvisoryLock.SWEEP, "now": now})).one()
    if not lock.acquired:
        return SweepResult(0, finished=True)
    window = max(lock.now - lock.swept_until, timedelta()) + OVERLAP
    due = (await connection.execute(_DUE, {"now": lock.now, "window": window, "most": CHUNK})).all()
    moved = 0
    if due:
        ids = sorted({row.id for row in due})
        moved = await reclassify(connection, ids, Cause.TIME, now)
    if due or lock.now - lock.swept_until > _IDLE_STRIDE:
        # Customers come in the order of their moments. After a full chunk, everybody up to the
        # moment of its last customer is done.
        reached = due[-1].moment if len(due) == CHUNK else lock.now
        await connection.execute(_ADVANCE, {"moment": reached})
    return SweepResult(moved, finished=not due)


async def oldest_due(connection: AsyncConnection) -> datetime | None:
    """Return since when the customer who has waited longest for the sweep is due; None: nobody."""
    clock = (await connection.execute(_CLOCK)).one()
    window = max(clock.now - clock.swept_until, timedelta()) + OVERLAP
    due = await connection.execute(_DUE, {"now": clock.now, "window": window, "most": 1})
    first = due.first()
    return None if first is None else first.moment
