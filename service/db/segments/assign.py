"""Assign segments. No other module writes one.

Code that changes what the rules look at calls `assign_sql` with a source: CTEs that end in the
customers' rows as they will be. The statement decides each segment from exactly these rows, and
writes the rows, the history (which is the outbox) and the counters together. An earlier statement
must have locked the customers, so that the snapshot of this one is newer than the lock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service import tracing
from service.core.segment_event import Cause
from service.db import registers
from service.db.figures import FIGURES, added_by, each_figure
from service.db.locks import lock_customers
from service.db.outbox import CHANNEL
from service.db.schema import COUNTER_SLOTS
from service.db.search_text import SEARCHED, folded, unfolded
from service.db.segments.rules_sql import LIMITS, hold_ended_sql, segment_sql
from service.db.segments.trace_context import trace_customer
from service.db.statistics.daily import daily_changes_sql, daily_totals_sql

JUDGED = f"""
{LIMITS},
judged AS (
  SELECT a.*, h.held,
         CASE WHEN h.held OR NOT l.auto_segmentation THEN a.segment
              ELSE {segment_sql("a", "l")}
         END AS judged_segment
  FROM after a CROSS JOIN limits l CROSS JOIN LATERAL (
    SELECT a.segment_manual
      AND NOT {hold_ended_sql("a", "CAST(:now AS timestamptz)", "a.newest_order")} AS held
  ) h
)"""
"""CTEs that decide each customer's segment by the newest settings. They write nothing, so previews
use them, too."""

SLOT = f"""
slot AS MATERIALIZED (  -- locks in one order, so that two writers of a slot cannot deadlock
  SELECT k.slot, k.segment FROM segment_counters k
  WHERE k.slot = pg_backend_pid() % {COUNTER_SLOTS}
  ORDER BY k.segment FOR NO KEY UPDATE
)"""
"""The counters that this connection writes. It locks them before all other rows of its slot."""
THIS_SLOT = "(SELECT min(slot) FROM slot)"

_UPDATED = f"""
  UPDATE customers c SET
    {", ".join(f"{column} = j.{column}" for column in registers.COLUMNS)},
    email_key = j.email_key,
    date_created = j.date_created, date_updated = CAST(:now AS timestamptz),
    total_orders = j.total_orders, total_spent = j.total_spent,
    first_order_date = j.first_order_date, last_order_date = j.last_order_date,
    segment = j.judged_segment,
    segment_sequence = c.segment_sequence
      + CAST(c.segment_sequence = 0 OR c.segment <> j.judged_segment AS integer),
    segment_manual = j.held,
    segment_pinned = j.held AND j.segment_pinned,
    segment_pinned_until = CASE WHEN j.held THEN j.segment_pinned_until END,
    segment_held_since = CASE WHEN j.held THEN j.segment_held_since END
  FROM judged j
  WHERE c.ctid = j.place  -- the row is locked, so it has not moved
  RETURNING c.id,
    old.segment AS old_segment, old.segment_sequence AS old_sequence,
    old.total_orders AS old_total_orders, old.total_spent AS old_total_spent,
    old.date_created AS old_created, new.date_created,
    new.segment, new.segment_sequence AS sequence, new.total_orders, new.total_spent,
    new.last_order_date,
    CASE WHEN old.segment_sequence = 0 OR {
    " OR ".join(f"old.{value} IS DISTINCT FROM new.{value}" for value in SEARCHED)
}
      THEN {unfolded("new")} END AS unfolded  -- NULL: it has not changed
"""
_INSERTED = f"""
  INSERT INTO customers ({", ".join(registers.COLUMNS)}, email_key, id, date_created, date_updated,
    total_orders, total_spent, first_order_date, last_order_date, segment, segment_sequence)
  SELECT {", ".join(registers.COLUMNS)}, email_key, id, date_created, CAST(:now AS timestamptz),
    total_orders, total_spent, first_order_date, last_order_date, judged_segment, 1
  FROM judged WHERE place IS NULL ORDER BY id
  RETURNING id, CAST(NULL AS text), 0, 0, 0.00, date_created, date_created, segment,
    segment_sequence, total_orders, total_spent, last_order_date, {unfolded("new")}
"""

_TAIL = f"""
search_rows AS (
  INSERT INTO customer_search (customer_id, searched)
  SELECT id, {folded("unfolded")} FROM updated WHERE unfolded IS NOT NULL ORDER BY id
  ON CONFLICT (customer_id) DO UPDATE SET searched = excluded.searched
),
history AS (
  INSERT INTO segment_changes (customer_id, sequence, previous, segment, cause,
    settings_version, total_orders, total_spent, last_order_date, changed_at)
  SELECT id, sequence, CASE WHEN old_sequence > 0 THEN old_segment END, segment, :cause,
    (SELECT version FROM limits), total_orders, total_spent, last_order_date,
    CAST(:now AS timestamptz)
  FROM updated WHERE sequence > old_sequence
  ORDER BY id
),
announced AS MATERIALIZED (
  SELECT pg_notify('{CHANNEL}', '') FROM updated WHERE sequence > old_sequence LIMIT 1
),
difference AS (
  SELECT segment, {each_figure("sum({figure}) AS {figure}")}
  FROM (
    SELECT old_segment AS segment,
      {", ".join(f"-{added_by(figure, 'old_')} AS {figure}" for figure in FIGURES)}
    FROM updated WHERE old_sequence > 0
    UNION ALL
    SELECT segment, {", ".join(map(added_by, FIGURES))}
    FROM updated
  ) sides
  GROUP BY segment
),
{SLOT},
counted AS (
  UPDATE segment_counters k SET
    {each_figure("{figure} = k.{figure} + d.{figure}")}
  FROM slot s JOIN difference d USING (segment)
  WHERE k.slot = s.slot AND k.segment = s.segment
),
changed AS (
  {daily_changes_sql("slot JOIN difference USING (segment)", "CAST(:now AS timestamptz)")}
),
created AS (
  SELECT date_created AS at, 1 AS created, 0 AS orders, 0.00 AS revenue
  FROM updated WHERE old_sequence = 0 OR old_created <> date_created
  UNION ALL
  SELECT old_created, -1, 0, 0 FROM updated WHERE old_sequence > 0 AND old_created <> date_created
)"""


def assign_sql(
    source: str, result: str, dated: str = "TABLE created", *, creates: bool = False
) -> str:
    """Compose the statement that assigns segments.

    ``source`` is CTEs that end in ``after``: the columns of ``customers`` as they will be;
    ``place``, the row's ctid; and ``newest_order``, the date of the customer's latest order that
    this transaction has seen, or NULL. If the statement ``creates`` customers, they are the rows
    without a place.
    ``result`` selects the rows that the caller wants, from ``updated`` or its own CTEs. It must
    join the CTE ``announced``: Postgres does not run a SELECT that nothing reads, and without that
    one it would send no notification.
    ``dated`` selects the changes of the daily totals: at least the rows of ``created``.
    The parameters are those of the source, ``now`` and ``cause``.
    """
    updated = f"updated AS ({_UPDATED})"
    if creates:
        updated = (
            f"changed_rows AS ({_UPDATED}),\nnew_rows AS ({_INSERTED}),\n"
            "updated AS (TABLE changed_rows UNION ALL TABLE new_rows)"
        )
    totalled = daily_totals_sql(f"({dated}) dated", THIS_SLOT)
    return f"WITH {source}, {JUDGED},\n{updated},{_TAIL},\ntotalled AS (\n{totalled}\n)\n{result}"


_MOVED = (
    "SELECT count(*) FILTER (WHERE sequence > old_sequence) FROM updated"
    " CROSS JOIN (SELECT count(*) FROM announced) a"
)
AS_THEY_ARE = (
    "SELECT c.ctid AS place, c.*, CAST(NULL AS timestamptz) AS newest_order FROM customers c"
)
"""The stored rows of customers, as a source for `assign_sql` and `JUDGED`."""
_RECLASSIFY = text(assign_sql(f"after AS ({AS_THEY_ARE} WHERE c.id = ANY(:ids))", _MOVED))

_HOLD = text(
    assign_sql(
        f"""after AS (
          SELECT place, id, {", ".join(registers.COLUMNS)}, email_key, date_created, total_orders,
                 total_spent, first_order_date, last_order_date, newest_order,
                 coalesce(CAST(:segment AS text), segment) AS segment,
                 CAST(:manual AS boolean) AS segment_manual,
                 CAST(:pinned AS boolean) AS segment_pinned,
                 CAST(:pinned_until AS timestamptz) AS segment_pinned_until,
                 -- a publisher's clock may run ahead: the hold outlasts orders seen so far
                 CASE WHEN CAST(:manual AS boolean)
                      THEN GREATEST(CAST(:now AS timestamptz), (
                        SELECT max(date_created) FROM orders WHERE customer_id = :id)) END
                   AS segment_held_since
          FROM ({AS_THEY_ARE} WHERE c.id = :id) c
        )""",
        _MOVED,
    )
)
_MINUS_ONE = "(SELECT at, -1 AS created, 0 AS orders, 0.00 AS revenue FROM subtracted) dated"
_FORGET = text(f"""
WITH gone AS (DELETE FROM customers WHERE id = :id RETURNING *),
search_rows AS (DELETE FROM customer_search WHERE customer_id = :id),
outlook_rows AS (DELETE FROM customer_outlook WHERE customer_id = :id),
contact_rows AS (DELETE FROM contacts WHERE customer_id = :id),
{SLOT},
subtracted AS (
  UPDATE segment_counters k SET
    {", ".join(f"{figure} = k.{figure} - {added_by(figure, 'gone.')}" for figure in FIGURES)}
  FROM gone JOIN slot s USING (segment)
  WHERE k.slot = s.slot AND k.segment = s.segment
  RETURNING k.slot, k.segment, {each_figure("new.{figure} - old.{figure} AS {figure}")},
    gone.date_created AS at
),
changed AS ({daily_changes_sql("subtracted", "clock_timestamp()")}
)
{daily_totals_sql(_MINUS_ONE, THIS_SLOT)}
""")

_FOLLOW_HISTORY = text("""
UPDATE customers c SET segment = h.segment, segment_sequence = h.sequence
FROM (
  SELECT DISTINCT ON (customer_id) customer_id, segment, sequence FROM segment_changes
  WHERE customer_id = ANY(:ids) ORDER BY customer_id, sequence DESC
) h
WHERE c.id = h.customer_id AND (c.segment, c.segment_sequence) <> (h.segment, h.sequence)
""")


async def follow_history(connection: AsyncConnection, ids: Sequence[int]) -> int:
    """Give damaged rows of customers the segment that their last change announced.

    Return how many rows were written. Counters are not touched: a recount follows. The caller has
    locked the customers, and commits.
    """
    return int((await connection.execute(_FOLLOW_HISTORY, {"ids": ids})).rowcount)


async def reclassify(
    connection: AsyncConnection, ids: Sequence[int], cause: Cause, now: datetime | None = None
) -> int:
    """Lock customers and assign the segments that rules and holds give at ``now``.

    Return how many customers changed their segment. None for ``now`` means the database's clock,
    read after the lock. The caller commits.
    """
    locked_at = await lock_customers(connection, ids)
    result = await connection.execute(
        _RECLASSIFY, {"ids": ids, "cause": cause.value, "now": now or locked_at}
    )
    return int(result.scalar_one())


@dataclass(frozen=True)
class Hold:
    """A segment set by hand. Unless pinned, it lasts until the customer's next order."""

    segment: str | None
    """None holds the current segment."""
    pinned: bool = False
    """The hold lasts for ever."""
    until: datetime | None = None
    """The hold lasts until this moment."""


async def hold(
    connection: AsyncConnection,
    customer_id: int,
    held: Hold | None,
    now: datetime,
    cause: Cause = Cause.MANUAL,
) -> int:
    """Set a customer's segment by hand. With None the rules decide again.

    Return 1 if the segment changed, else 0. The caller has locked the customer, and commits.
    """
    result = await connection.execute(
        _HOLD,
        {
            "id": customer_id,
            "segment": held and held.segment,
            "manual": held is not None,
            "pinned": bool(held and held.pinned),
            "pinned_until": held and held.until,
            "now": now,
            "cause": cause.value,
        },
    )
    moved = int(result.scalar_one())
    if moved and (traceparent := tracing.current_traceparent()):
        await trace_customer(connection, customer_id, traceparent)
    return moved


async def forget(connection: AsyncConnection, customer_id: int) -> None:
    """Delete a customer and subtract them from the counters. Their segment changes stay."""
    await connection.execute(_FORGET, {"id": customer_id})
