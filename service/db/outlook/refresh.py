"""Refresh what is expected of customers: in a circle, chunk by chunk, in the order of their ids.

Only rows that would read differently are written. No row of ``customers`` is written or locked. The
row of ``insight_refresh`` is locked instead, and says how far the circle has come.
"""

import time
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.outlook import HORIZONS, ModelState, Outlook
from service.core.time_zones import zone_of
from service.db.columns import pack, unpack
from service.db.outlook import models
from service.db.outlook.facts import next_chunk
from service.db.outlook.fit import model_of
from service.db.outlook.models import StoredModel
from service.db.store_clock import STORE_ZONE
from service.insight.model import predict

CHUNK = 2000
"""Customers per transaction."""
_BEYOND = 2**63 - 1

_LOCK = text(f"""
SELECT r.next_id, r.begun_at, r.model,
  coalesce(r.begun_at > coalesce(r.completed_at, '-infinity'), false) AS under_way,
  r.busy, r.orders, r.revenue, m.id AS newest, m.state,
  clock_timestamp() AS now, {STORE_ZONE} AS zone
FROM insight_refresh r
LEFT JOIN (SELECT id, state FROM insight_models ORDER BY id DESC LIMIT 1) m ON true
FOR UPDATE OF r
""")
_COLUMNS = {
    "customer_id": "bigint",
    "order_days": "integer",
    "chance": "real",
    "orders": "real",
    "value": "real",
    "expected_on": "date",
    "overdue_on": "date",
    "rfm": "smallint",
}
_EXACT = ("order_days", "expected_on", "overdue_on", "rfm")
_READS_DIFFERENTLY = f"""(
    ({", ".join(f"f.{name}" for name in _EXACT)})
      IS DISTINCT FROM ({", ".join(f"o.{name}" for name in _EXACT)})
    OR abs(f.chance - o.chance) > 0.005
    OR abs(f.orders - o.orders) > GREATEST(0.01 * o.orders, 0.0005)
    OR abs(f.value - o.value) > GREATEST(0.01 * o.value, 0.005))"""
"""The condition that fresh figures ``f`` would read otherwise than the stored ones ``o``."""
_WRITE = text(f"""
WITH fresh AS MATERIALIZED ({unpack(_COLUMNS)}),
written AS (
  INSERT INTO customer_outlook ({", ".join(_COLUMNS)})
  SELECT f.* FROM fresh f LEFT JOIN customer_outlook o USING (customer_id)
  WHERE (o.customer_id IS NULL OR {_READS_DIFFERENTLY})
    -- who was erased or merged since the facts were read gets no row
    AND EXISTS (SELECT FROM customers c WHERE c.id = f.customer_id)
  ON CONFLICT (customer_id) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in list(_COLUMNS)[1:])}
  RETURNING 1
),
removed AS (
  DELETE FROM customer_outlook o WHERE o.customer_id > :after AND o.customer_id <= :until
    AND NOT EXISTS (SELECT FROM fresh f WHERE f.customer_id = o.customer_id)
  RETURNING 1
),
advanced AS (
  UPDATE insight_refresh SET model = :model, next_id = :next_id,
    begun_at = :begun_at,
    busy = CASE WHEN :done THEN 0 ELSE :busy END,
    orders = CAST(:sum_orders AS float8[]), revenue = CAST(:sum_revenue AS float8[]),
    completed_at = CASE WHEN :done THEN clock_timestamp() ELSE completed_at END,
    took = CASE WHEN :done THEN :busy ELSE took END,
    expected_orders = CASE WHEN :done THEN CAST(:sum_orders AS float8[]) ELSE expected_orders END,
    expected_revenue = CASE WHEN :done THEN CAST(:sum_revenue AS float8[]) ELSE expected_revenue END
)
SELECT (SELECT count(*) FROM written) AS written, (SELECT count(*) FROM removed) AS removed
""")
_EMPTY = text("""
WITH emptied AS (
  DELETE FROM customer_outlook WHERE customer_id IN (
    SELECT customer_id FROM customer_outlook ORDER BY customer_id LIMIT :most)
  RETURNING 1
),
forgotten AS (
  UPDATE insight_refresh SET next_id = 0, begun_at = NULL, completed_at = NULL,
    expected_orders = NULL, expected_revenue = NULL
  WHERE completed_at IS NOT NULL OR begun_at IS NOT NULL
)
SELECT count(*) FROM emptied
""")


# A process of the release before does not delete them with the customer.
_DROP_CONTACTS = text("""
DELETE FROM contacts WHERE NOT EXISTS (SELECT FROM customers c WHERE c.id = customer_id)
""")


class Refreshed(NamedTuple):
    """What one transaction of the refresh did."""

    examined: int
    """Customers with orders."""
    written: int
    removed: int
    done: bool
    """The circle is complete."""


async def refresh_chunk(
    connection: AsyncConnection,
    known: StoredModel | None = None,
    *,
    now: datetime | None = None,
    most: int = CHUNK,
) -> tuple[Refreshed, StoredModel | None]:
    """Refresh the next ``most`` customers; begin a circle if none is under way. The caller commits.

    ``known`` is what the step before returned, and spares it reading the model. None for ``now``
    means the database's clock. Without a model, outlooks are deleted.
    """
    started = time.perf_counter()
    state = (await connection.execute(_LOCK)).one()
    if state.state != ModelState.FITTED:
        removed = (await connection.execute(_EMPTY, {"most": most})).scalar_one()
        return Refreshed(0, 0, removed, done=removed < most), None
    if known is None or known.id != state.newest:
        known = await models.newest(connection)
    assert known is not None  # noqa: S101  the lock has just seen it
    assert known.fitted is not None  # noqa: S101
    begins = not state.under_way or state.model != known.id
    after = 0 if begins else state.next_id
    chunk = await next_chunk(connection, after, most)
    predicted = predict(
        model_of(known.fitted),
        known.fitted.cuts,
        chunk.facts,
        now or state.now,
        zone_of(state.zone),
    )
    done = chunk.examined < most
    nothing = [0.0] * len(HORIZONS)
    sums = {
        "sum_orders": _plus(nothing if begins else state.orders, predicted.orders),
        "sum_revenue": _plus(nothing if begins else state.revenue, predicted.revenue),
    }
    columns = list(zip(*predicted.outlooks, strict=True)) or [()] * len(Outlook._fields)
    values = dict(zip(_COLUMNS, [chunk.ids, *columns], strict=True))
    result = await connection.execute(
        _WRITE,
        {
            **pack(values),
            **sums,
            "after": after,
            "until": _BEYOND if done else chunk.last_id,
            "model": known.id,
            "next_id": 0 if done else chunk.last_id,
            "begun_at": state.now if begins else state.begun_at,
            "done": done,
            "busy": (0.0 if begins else state.busy) + time.perf_counter() - started,
        },
    )
    row = result.one()
    if done:
        await connection.execute(_DROP_CONTACTS)
    return Refreshed(len(chunk.ids), row.written, row.removed, done), known


def _plus(some: list[float], more: list[float]) -> list[float]:
    return [one + other for one, other in zip(some, more, strict=True)]
