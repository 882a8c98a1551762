"""Time moves customers: find those whose moment has come since the last look, and only those.

Who turns at_risk now placed an order exactly ``atRiskDays`` ago, so an index on the orders' date
and a watermark find them; the cost depends on who is due, not on how many customers there are.
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
"""Each look goes back this far beyond the last one: a batch that judged its customers before a
moment and commits after it has at most `TRANSACTION_SECONDS` to do so."""

_BEGIN = text("""
SELECT pg_try_advisory_xact_lock(:lock) AS mine, swept_until,
       coalesce(CAST(:now AS timestamptz), clock_timestamp()) AS now
FROM sweep
""")


def _reached(limit: str) -> str:
    """Return a query for the customers with an order that has come of age since the last look."""
    return f"""
  SELECT o.customer_id, o.date_created + (CAST(:now AS timestamptz) - l.{limit}) AS moment
  FROM limits l JOIN orders o
    ON o.counts AND o.date_created <= l.{limit}
   AND o.date_created > l.{limit} - CAST(:window AS interval)
  WHERE o.customer_id IS NOT NULL"""


_REACHED = "\n  UNION ALL".join(map(_reached, AGE_LIMITS))
_DUE = text(f"""
WITH {LIMITS},
due AS (
  {_REACHED}
  UNION ALL
  SELECT id, segment_pinned_until FROM customers
  WHERE segment_pinned_until <= CAST(:now AS timestamptz)
)
SELECT c.id, due.moment
FROM (SELECT * FROM due ORDER BY moment OFFSET 0) due CROSS JOIN limits l
-- A probe each, until there are enough: the planner, who knows no bounds, would read everybody.
CROSS JOIN LATERAL (SELECT * FROM customers WHERE id = due.customer_id OFFSET 0) c
WHERE c.segment_sequence > 0
  AND CASE WHEN c.segment_manual
           THEN NOT c.segment_pinned AND c.segment_pinned_until <= CAST(:now AS timestamptz)
           ELSE l.auto_segmentation AND {segment_sql("c", "l")} <> c.segment
      END
ORDER BY due.moment LIMIT :most
""")
# A clock that was set back must not take the watermark back with it.
_DONE = text("UPDATE sweep SET swept_until = GREATEST(swept_until, :moment)")


class Swept(NamedTuple):
    """What one transaction of a sweep did."""

    moved: int
    finished: bool
    """Nobody was due."""


async def sweep(connection: AsyncConnection, now: datetime | None = None) -> Swept:
    """Settle up to `CHUNK` customers whom time has moved; the caller commits and repeats.

    ``now``: None is the database's clock, the same that batches are judged by. While another
    replica sweeps, this does nothing and reports to be finished.
    """
    begin = (await connection.execute(_BEGIN, {"lock": AdvisoryLock.SWEEP, "now": now})).one()
    if not begin.mine:
        return Swept(0, finished=True)
    window = max(begin.now - begin.swept_until, timedelta()) + OVERLAP
    due = (
        await connection.execute(_DUE, {"now": begin.now, "window": window, "most": CHUNK})
    ).all()
    moved = 0
    if due:
        ids = sorted({row.id for row in due})
        moved = await reclassify(connection, ids, Cause.TIME, now)
    # In the order of their moments: after a full chunk, all up to its last one's are settled.
    await connection.execute(_DONE, {"moment": due[-1].moment if len(due) == CHUNK else begin.now})
    return Swept(moved, finished=not due)
