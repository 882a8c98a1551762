"""Count the orders again after the settings have changed what counts, page by page.

`orders.counts` is stored. Every statement that writes an order judges it by the newest settings. So
the job only has to find the orders that earlier settings left with another answer. It reads all
orders in the order of their ids, which say how far it has come, whoever the orders belong to
meanwhile. Customers of whom an order changes are locked, and recomputed from all their orders at
once: each moves at most once. A page and the id that it ends at are committed together.

An erasure may give an order another id. Then the job begins again when it has come to the end.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_event import Cause
from service.db.counting import COUNTING, RULES_OF_NOW, counts_sql
from service.db.locks import lock_customers
from service.db.segments.assign import assign_sql
from service.db.segments.order_metrics import ORDER_METRICS, recounted

PAGE = 20_000
"""Orders examined per transaction."""
CHUNK = 2000
"""Orders per transaction that may turn out to be judged otherwise. Their customers are locked."""

LAST_RECOUNT = (
    "version = (SELECT max(version) FROM settings_changes WHERE counted_since IS NOT NULL)"
)
"""The condition that a row of ``settings_changes`` has the latest recount, finished or not. A newer
version that is saved before the end of a recount begins one of its own."""
RECOUNTING = f"""(
  SELECT version, counted_since, last_order FROM settings_changes
  WHERE {LAST_RECOUNT} AND recounted_at IS NULL)"""
"""A relation: the recount that has not come to its end; no row if there is none."""

WRONG = f"counts <> {counts_sql()}"
"""The condition that an order counts otherwise than the settings in ``counting`` say."""

MISCOUNTED = f"""
SELECT o.id AS order, o.customer_id AS customer, o.counts
FROM orders o CROSS JOIN ({COUNTING}) counting LEFT JOIN {RECOUNTING} job ON true
WHERE {WRONG} AND NOT coalesce(
  (o.id > job.last_order OR o.erased) AND (
    job.counted_since = 0 OR EXISTS (
      SELECT FROM settings earlier WHERE earlier.version >= job.counted_since
        AND {counts_sql("earlier.count_from", "earlier.count_free_orders")} = o.counts)),
  false)"""
"""A query for the orders that neither the newest settings count like that nor, where a recount has
not come yet, those that it replaces."""

_FIND = text(f"""
WITH {RULES_OF_NOW},
page AS MATERIALIZED (
  SELECT id, customer_id, {WRONG} AS wrong
  FROM (SELECT * FROM orders WHERE id > :after ORDER BY id LIMIT :page) o CROSS JOIN counting
),
found AS MATERIALIZED (SELECT * FROM page WHERE wrong ORDER BY id LIMIT :chunk),
reached AS (
  SELECT CASE WHEN count(*) < :chunk THEN (SELECT max(id) FROM page) ELSE max(id) END AS id
  FROM found
)
SELECT reached.id AS last_order,
  (SELECT count(*) FROM page WHERE page.id <= reached.id) AS examined,
  ARRAY(SELECT DISTINCT customer_id FROM found WHERE customer_id IS NOT NULL ORDER BY 1)
    AS customers,
  ARRAY(SELECT id FROM found WHERE customer_id IS NULL ORDER BY id) AS unowned
FROM reached
""")
_MISCOUNTED_CHUNK = text(f"""
WITH found AS MATERIALIZED ({MISCOUNTED} LIMIT {CHUNK})
SELECT ARRAY(SELECT DISTINCT customer FROM found WHERE customer IS NOT NULL ORDER BY 1)
    AS customers,
  ARRAY(SELECT "order" FROM found WHERE customer IS NULL ORDER BY 1) AS unowned
""")
_LOCK_UNOWNED = text("""
SELECT FROM orders WHERE id = ANY(:unowned) AND customer_id IS NULL ORDER BY id FOR NO KEY UPDATE
""")
# This statement does not see what it rewrites, so it judges the orders once more for the metrics.
_JUDGED_AGAIN = f"""(
    SELECT {ORDER_METRICS}
    FROM (
      SELECT date_created, net, {counts_sql()} AS counts
      FROM orders CROSS JOIN counting WHERE customer_id = c.id
    ) judged_again
  )"""
# An order ended a hold when it was applied: none ends one here.
_NO_ORDER = "CAST(NULL AS timestamptz)"
_RECOUNT = text(
    assign_sql(
        f"""{RULES_OF_NOW},
rewritten AS (
  UPDATE orders SET counts = NOT counts FROM counting
  WHERE (customer_id = ANY(:ids) OR customer_id IS NULL AND id = ANY(:unowned)) AND {WRONG}
  RETURNING date_created, CASE WHEN counts THEN 1 ELSE -1 END AS orders,
    CASE WHEN counts THEN net ELSE -net END AS revenue
),
{recounted("c.date_created", of_orders=_JUDGED_AGAIN, newest_order=_NO_ORDER)}""",
        """SELECT (SELECT count(*) FROM rewritten) AS orders,
  count(*) FILTER (WHERE sequence > old_sequence) AS moved
FROM updated CROSS JOIN (SELECT count(*) FROM announced) a""",
        "TABLE created UNION ALL SELECT date_created, 0, orders, revenue FROM rewritten",
    )
)
_LEFT = text(f"""
SELECT EXISTS (
  SELECT FROM orders CROSS JOIN ({COUNTING}) counting
  WHERE id > :after AND id <= :last_order AND {WRONG})
""")
_BEGIN = text("""
UPDATE settings_changes SET
  orders_total = GREATEST(orders_examined, (SELECT count(*) FROM orders)),
  ids_replaced = (SELECT ids_replaced FROM installation)
WHERE version = :version
""")
_ADVANCE = text("""
UPDATE settings_changes SET
  orders_examined = orders_examined + :examined,
  orders_total = GREATEST(orders_total, orders_examined + :examined),
  orders_changed = LEAST(orders_changed + :changed, orders_examined + :examined),
  customers_moved = customers_moved + :moved,
  last_order = coalesce(CAST(:last_order AS text), last_order)
WHERE version = :version
""")
_END = text("""
UPDATE settings_changes SET
  recounted_at = CASE WHEN still THEN clock_timestamp() END,
  orders_total = orders_examined,
  last_order = CASE WHEN still THEN last_order ELSE '' END,
  ids_replaced = i.ids_replaced
FROM (SELECT ids_replaced FROM installation) i
CROSS JOIN LATERAL (
  SELECT s.ids_replaced IS NOT DISTINCT FROM i.ids_replaced AS still
  FROM settings_changes s WHERE s.version = :version
) c
WHERE version = :version
""")


class Recounted(NamedTuple):
    """What counting some orders again has changed."""

    orders: int
    customers_moved: int


async def recount(
    connection: AsyncConnection,
    customers: Sequence[int],
    unowned: Sequence[str],
    cause: Cause,
    now: datetime | None = None,
) -> Recounted:
    """Judge all orders of these customers, and these orders without one, by the newest settings.

    Both are sorted. The customers' metrics and segments, the counters and the daily totals follow.
    None for ``now`` means the database's clock, read after the lock. The caller commits.
    """
    locked_at = await lock_customers(connection, customers)
    if unowned:
        await connection.execute(_LOCK_UNOWNED, {"unowned": unowned})
    parameters = {
        "ids": customers,
        "unowned": unowned,
        "cause": cause.value,
        "now": now or locked_at,
    }
    return Recounted(*(await connection.execute(_RECOUNT, parameters)).one())


async def recount_page(
    connection: AsyncConnection, version: int, after: str, now: datetime | None
) -> None:
    """Count the next page of orders again for the recount of a version. The caller commits.

    The caller has locked the row of the job; ``after`` is its ``last_order``.
    """
    if not after:
        await connection.execute(_BEGIN, {"version": version})
    page = (await connection.execute(_FIND, {"after": after, "page": PAGE, "chunk": CHUNK})).one()
    if page.last_order is None:
        await connection.execute(_END, {"version": version})
        return
    changed = Recounted(0, 0)
    passed = True
    if page.customers or page.unowned:
        changed = await recount(connection, page.customers, page.unowned, Cause.RULES, now)
        # An order may have got another owner before we locked the one that it had: it is left.
        left = {"after": after, "last_order": page.last_order}
        passed = not (await connection.execute(_LEFT, left)).scalar_one()
    await connection.execute(
        _ADVANCE,
        {
            "version": version,
            "examined": page.examined if passed else 0,
            "changed": changed.orders,
            "moved": changed.customers_moved,
            "last_order": page.last_order if passed else None,
        },
    )


async def recount_miscounted(connection: AsyncConnection) -> int:
    """Count up to `CHUNK` orders again that `MISCOUNTED` finds. Return how many were changed."""
    found = (await connection.execute(_MISCOUNTED_CHUNK)).one()
    if not (found.customers or found.unowned):
        return 0
    return (await recount(connection, found.customers, found.unowned, Cause.REBUILD)).orders
