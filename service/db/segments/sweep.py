"""The sweep: find the customers whom time has moved to another segment since the last sweep.

A customer who becomes at_risk now placed an order exactly ``atRiskDays`` ago. So an index on the
date of orders and a watermark find these customers and no others. The cost depends on how many are
due, not on how many customers there are.
"""

import logging
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_event import Cause
from service.core.segment_rules import AGE_LIMITS
from service.db.engine import TRANSACTION_SECONDS
from service.db.locks import AdvisoryLock
from service.db.segments.assign import reclassify
from service.db.segments.rules_sql import LIMITS, due_sql

log = logging.getLogger(__name__)

CHUNK = 2000
"""Customers per transaction."""
OVERLAP = timedelta(seconds=2 * TRANSACTION_SECONDS)
"""How far each sweep looks back beyond the watermark. A batch may judge its customers before a
moment and commit after the sweep has passed that moment, at most `TRANSACTION_SECONDS` later."""

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
# An order ends a hold when it is applied. So there is no order that the sweep would have to see.
_DUE_NOW = due_sql("c", "l", "CAST(:now AS timestamptz)", "CAST(NULL AS timestamptz)")
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
  AND {_DUE_NOW}
ORDER BY due.moment LIMIT :most
""")
_ANY_DUE = text(f"""
WITH {LIMITS}
SELECT c.id FROM customers c CROSS JOIN limits l
WHERE c.segment_sequence > 0 AND {_DUE_NOW} LIMIT :most
""")
_SET_WATERMARK = text("UPDATE sweep SET swept_until = :moment")


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
    if lock.swept_until > lock.now + OVERLAP:
        return await _sweep_everybody(connection, lock.now, now)
    window = max(lock.now - lock.swept_until, timedelta()) + OVERLAP
    due = (await connection.execute(_DUE, {"now": lock.now, "window": window, "most": CHUNK})).all()
    moved = 0
    if due:
        ids = sorted({row.id for row in due})
        moved = await reclassify(connection, ids, Cause.TIME, now)
    # Customers come in the order of their moments. After a full chunk, everybody up to the moment
    # of its last customer is done. A clock that was set back a little does not move the watermark
    # back: until the clock has caught up, the overlap covers the difference.
    swept_until = due[-1].moment if len(due) == CHUNK else lock.now
    await connection.execute(_SET_WATERMARK, {"moment": max(swept_until, lock.swept_until)})
    return SweepResult(moved, finished=not due)


async def _sweep_everybody(
    connection: AsyncConnection, clock: datetime, now: datetime | None
) -> SweepResult:
    """Judge customers without regard to the watermark, and set it to the clock when all are done.

    A watermark in the future says that the clock was set back, or that somebody wrote it. It does
    not say what was swept: a sweep that believed it would skip everybody who becomes due while no
    worker runs. This reads the whole table of customers once per chunk.
    """
    ids = (await connection.execute(_ANY_DUE, {"now": clock, "most": CHUNK})).scalars().all()
    if ids:
        return SweepResult(
            await reclassify(connection, sorted(ids), Cause.TIME, now), finished=False
        )
    log.warning("the sweep's watermark lay in the future: everybody was judged again")
    await connection.execute(_SET_WATERMARK, {"moment": clock})
    return SweepResult(0, finished=True)
