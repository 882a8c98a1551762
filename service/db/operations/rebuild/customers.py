"""Recompute customers' metrics and segments from their orders, a chunk at a time."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.core.segment_event import Cause
from service.db.engine import TRANSACTION_SECONDS, limit_transaction
from service.db.locks import lock_customers, read_clock
from service.db.operations.status import SWEEP_PROMISE
from service.db.segments.assign import JUDGED, assign_sql
from service.db.segments.order_metrics import recounted
from service.db.segments.rules_sql import PROMISED, misplaced_sql

# A hold ends with an order that was placed after it, whether that order counts or not.
_AFTER = recounted(
    "c.date_created",
    "c.total_orders AS stored_orders, c.total_spent AS stored_spent",
    "c.first_order_date AS stored_first, c.last_order_date AS stored_last",
    "c.segment_sequence = 0 AS unannounced",
)
_IDS = text("SELECT id FROM customers WHERE id > :after ORDER BY id LIMIT :most")
# A segment that the sweep or the job of new settings still has time to assign is no difference.
_DIFFERENCES = text(f"""
WITH {_AFTER}, {JUDGED}, {PROMISED},
compared AS (
  SELECT j.*,
    (stored_orders, stored_spent, stored_first, stored_last) IS DISTINCT FROM
      (total_orders, total_spent, first_order_date, last_order_date) AS metrics_differ,
    unannounced OR {misplaced_sql("j", "j.newest_order")} AS segment_differs
  FROM judged j CROSS JOIN limits l CROSS JOIN promised p
)
SELECT id, metrics_differ, stored_orders, stored_spent, stored_first, stored_last, segment,
       total_orders, total_spent, first_order_date, last_order_date, judged_segment
FROM compared WHERE metrics_differ OR segment_differs ORDER BY id
""")
_CORRECT = text(
    assign_sql(
        _AFTER,
        "SELECT count(*) FROM updated CROSS JOIN (SELECT count(*) FROM announced) a",
    )
)


async def next_ids(engine: AsyncEngine, after: int, most: int) -> Sequence[int]:
    """Return the next customers' numbers above ``after``, in rising order."""
    async with engine.connect() as connection:
        return (await connection.execute(_IDS, {"after": after, "most": most})).scalars().all()


async def differences(engine: AsyncEngine, ids: Sequence[int]) -> Sequence[Row[Any]]:
    """Return those of these customers who differ, as they are stored and as they should be."""
    async with engine.connect() as connection:
        now = await read_clock(connection)
        parameters = {"ids": ids, "now": now, "promise": SWEEP_PROMISE}
        return (await connection.execute(_DIFFERENCES, parameters)).all()


async def correct(connection: AsyncConnection, ids: Sequence[int]) -> None:
    """Lock these customers, recompute them under the lock, and write what they should be."""
    # The connection allows scans of an hour, but this transaction judges customers.
    await limit_transaction(connection, TRANSACTION_SECONDS)
    now = await lock_customers(connection, ids)
    await connection.execute(_CORRECT, {"ids": ids, "now": now, "cause": Cause.REBUILD.value})
