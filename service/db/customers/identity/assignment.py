"""Create customers for orders, and recompute those whose orders came or went.

The caller has locked them, and commits.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.json_values import dumps
from service.core.segment_event import Cause
from service.db import registers
from service.db.customers.identity.own_email import keep_own_email
from service.db.search_text import write_search_text
from service.db.segments.assign import AS_THEY_ARE, assign_sql
from service.db.segments.order_metrics import HOLD, METRICS, OF_ORDERS, recounted

_DONE = "SELECT count(*) FROM updated CROSS JOIN (SELECT count(*) FROM announced) a"
# Each register keeps the greater key, and of two holds the later one stays.
_ABSORBED = f"""after AS (
  SELECT c.place, c.id, {registers.merged("g", "c")},
    CASE WHEN {registers.newer("email", "g", "c")} THEN g.email_key ELSE c.email_key END
      AS email_key,
    LEAST(c.date_created, g.date_created) AS date_created,
    CASE WHEN h.theirs THEN g.segment ELSE c.segment END AS segment,
    {
    ", ".join(
        f"CASE WHEN h.theirs THEN g.{column} ELSE c.{column} END AS {column}" for column in HOLD
    )
},
    {METRICS}
  FROM ({AS_THEY_ARE} WHERE c.id = :id) c
  CROSS JOIN (
    SELECT * FROM jsonb_populate_record(CAST(NULL AS customers), CAST(:gone AS jsonb))) g
  CROSS JOIN LATERAL {OF_ORDERS} o
  CROSS JOIN LATERAL (
    SELECT g.segment_manual AND coalesce(g.segment_held_since > c.segment_held_since, true)
      AS theirs) h
)"""
_ABSORB = text(assign_sql(_ABSORBED, _DONE))
_CREATE = text("INSERT INTO customers (date_created) VALUES (:at) RETURNING id")
_RECOUNT = text(assign_sql(recounted("LEAST(c.date_created, o.first_order_date)"), _DONE))


async def create_empty(connection: AsyncConnection, date_created: datetime) -> int:
    """Create a customer who gets identifiers and orders next; return their number."""
    return int((await connection.execute(_CREATE, {"at": date_created})).scalar_one())


async def recount(connection: AsyncConnection, ids: Sequence[int], now: datetime) -> None:
    """Recompute metrics and segments of customers from their orders."""
    parameters = {"ids": sorted(ids), "now": now, "cause": Cause.IDENTITY.value}
    await connection.execute(_RECOUNT, parameters)
    await write_search_text(connection, ids)


async def absorb(
    connection: AsyncConnection, customer_id: int, gone: Mapping[str, Any], now: datetime
) -> None:
    """Give a customer the profile and the hold of one who is gone, where those are newer.

    ``gone`` has the columns of their row, as JSON has them. Metrics and segment are recomputed.
    """
    parameters = {
        "id": customer_id,
        "gone": dumps(gone).decode(),
        "now": now,
        "cause": Cause.IDENTITY.value,
    }
    await connection.execute(_ABSORB, parameters)
    await keep_own_email(connection, [customer_id])
    await write_search_text(connection, [customer_id])
