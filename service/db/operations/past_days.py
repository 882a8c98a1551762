"""Compute the figures of past days from the orders, while others write.

It is done for a new time zone, whose generation of daily figures has nothing before its beginning,
and when somebody asks for it: after an import, after old orders came through the stream, and where
this service is younger than its orders. For each day that is over, the segments are those that
today's rules give for the orders placed until its end. Segments set by hand are not known for past
days, and are left out.

One transaction reads one snapshot, customers by customers, and rests between them, so that
ingestion keeps most of the machine. It adds up changes: a customer in a state adds to the day on
which the state begins, and is subtracted on the day on which the next one begins. Only rows of days
that are over and of a slot of its own are written, so no writer waits. Whatever the figures of
today are besides, one correction row makes the sum of all changes equal to the counters. If it is
killed, nothing has happened.
"""

import asyncio
import time
from datetime import date, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.reconstruction import ReconstructionCause
from service.core.segment_rules import AGE_LIMITS
from service.db.engine import SCAN_SECONDS, limit_transaction
from service.db.figures import FIGURES, added_by, each_figure
from service.db.locks import AdvisoryLock, try_lock
from service.db.schema import GENERATION_SLOTS
from service.db.segments.rules_sql import limit_columns, segment_sql
from service.db.statistics.daily import TOTALS, day_of
from service.db.statistics.generations import COMPUTED_SLOT

CHUNK = 5_000
"""Customers whose orders are read at once."""
_RESTS = 2.0
"""A rest is this many times as long as the reading before it."""
_MOST_REST_SECONDS = 5.0

_ONE_SNAPSHOT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
_ONE_PROCESS = text("SET LOCAL max_parallel_workers_per_gather = 0")
_TARGET = text("""
SELECT generation, time_zone, counted_at IS NULL AS is_new,
  CAST(clock_timestamp() AT TIME ZONE time_zone AS date) AS today,
  ARRAY(SELECT id FROM reconstructions) AS requests,
  (SELECT bool_and(cause = :upgrade) FROM reconstructions) AS only_unknown_days
FROM daily_generations ORDER BY generation DESC LIMIT 1
""")
_OF_GENERATION = f"slot / {GENERATION_SLOTS} = CAST(:generation AS integer)"
_COMPUTED = f"slot % {GENERATION_SLOTS} = {COMPUTED_SLOT}"
_SLOT = f"{GENERATION_SLOTS} * CAST(:generation AS integer) + {COMPUTED_SLOT}"
_FIRST_KNOWN = text(
    f"SELECT min(day) FROM daily_changes WHERE {_OF_GENERATION} AND NOT {_COMPUTED}"
)
_CHUNK = text("""
SELECT max(id) FROM (SELECT id FROM customers WHERE id > :after ORDER BY id LIMIT :most) chunk
""")


def _collects(name: str, like: str, columns: tuple[str, ...]) -> str:
    """Return the statement that creates a table for sums, which ends with the transaction."""
    return (
        f"CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS"
        f" SELECT day, {', '.join(columns)} FROM {like} WITH NO DATA"
    )


_CREATE_SUMS = [
    text(_collects("computed_changes", "daily_changes", ("segment", *FIGURES))),
    text(_collects("computed_totals", "daily_totals", TOTALS)),
]
_STAGES = ", ".join(
    ["(interval '0')", *(f"({days} * interval '24 hours')" for days in AGE_LIMITS.values())]
)
"""How long after an order time alone may move its customer."""
# A state is what an order, or time since it, has made of a customer. The first state has no orders.
# An order may be older than its customer, who is in the state that it makes from the first day on.
_COMPUTE_CHANGES = text(f"""
INSERT INTO computed_changes (day, segment, {", ".join(FIGURES)})
WITH rules AS MATERIALIZED (SELECT * FROM settings ORDER BY version DESC LIMIT 1),
people AS MATERIALIZED (
  SELECT id, date_created, first_order_date FROM customers WHERE id > :after AND id <= :last
),
stages AS MATERIALIZED (
  SELECT stage, lead(stage) OVER (ORDER BY stage) AS next_stage
  FROM rules CROSS JOIN LATERAL (VALUES {_STAGES}) s(stage)
),
placed AS (
  SELECT customer_id, date_created AS last_order_date,
    count(*) OVER orders_so_far AS total_orders, sum(net) OVER orders_so_far AS total_spent,
    lead(date_created) OVER orders_so_far AS next_order
  FROM orders WHERE counts AND customer_id > :after AND customer_id <= :last
  WINDOW orders_so_far AS (PARTITION BY customer_id ORDER BY date_created ROWS UNBOUNDED PRECEDING)
),
states AS (
  SELECT id, date_created AS since, date_created AS begins, first_order_date AS ends,
    CAST(0 AS bigint) AS total_orders, 0.00 AS total_spent,
    CAST(NULL AS timestamptz) AS last_order_date
  FROM people
  UNION ALL
  SELECT id, date_created, last_order_date + stage, LEAST(last_order_date + next_stage, next_order),
    total_orders, total_spent, last_order_date
  FROM placed JOIN people ON id = customer_id CROSS JOIN stages
  WHERE stage = interval '0' OR next_order IS NULL OR last_order_date + stage < next_order
),
judged AS MATERIALIZED (
  SELECT total_orders, total_spent, {segment_sql("s", "l")} AS segment,
    {day_of("GREATEST(begins, since)", ":zone")} AS first_day,
    CASE WHEN ends IS NOT NULL THEN {day_of("GREATEST(ends, since)", ":zone")} END AS last_day
  FROM states s CROSS JOIN LATERAL (SELECT precedence, {limit_columns("s.begins")} FROM rules) l
),
dated AS (
  SELECT first_day AS day, segment,
    {", ".join(f"{added_by(figure)} AS {figure}" for figure in FIGURES)}
  FROM judged
  UNION ALL
  SELECT last_day, segment,
    {", ".join(f"-{added_by(figure)}" for figure in FIGURES)}
  FROM judged
)
SELECT day, segment, {each_figure("sum({figure})")}
FROM dated WHERE day <= CAST(:until AS date) GROUP BY day, segment
""")
_COMPUTE_TOTALS = f"""
INSERT INTO computed_totals (day, {", ".join(TOTALS)})
SELECT day, {", ".join(f"sum({field})" for field in TOTALS)} FROM (
  SELECT {day_of("date_created", ":zone")} AS day, 1 AS created, 0 AS orders, 0.00 AS revenue
  FROM customers WHERE {{of_customers}}
  UNION ALL
  SELECT {day_of("date_created", ":zone")}, 0, 1, net FROM orders WHERE counts AND {{of_orders}}
) dated GROUP BY day"""
_COMPUTE_TOTALS_OF_CUSTOMERS = text(
    _COMPUTE_TOTALS.format(
        of_customers="id > :after AND id <= :last",
        of_orders="customer_id > :after AND customer_id <= :last",
    )
)
_COMPUTE_TOTALS_OF_NOBODY = text(
    _COMPUTE_TOTALS.format(of_customers="false", of_orders="customer_id IS NULL")
)


def _sums(columns: tuple[str, ...]) -> str:
    return ", ".join(f"sum({column})" for column in columns)


def _any(columns: tuple[str, ...]) -> str:
    return f"({_sums(columns)}) <> ({', '.join('0' for _ in columns)})"


_WRITE_CHANGES = [
    text(
        f"DELETE FROM daily_changes"
        f" WHERE {_OF_GENERATION} AND (day <= CAST(:until AS date) OR {_COMPUTED})"
    ),
    text(f"""
INSERT INTO daily_changes (day, slot, segment, {", ".join(FIGURES)})
SELECT day, {_SLOT}, segment, {_sums(FIGURES)}
FROM computed_changes GROUP BY day, segment HAVING {_any(FIGURES)}
"""),
    # What the days up to now do not explain, such as holds, has changed on the day after.
    text(f"""
INSERT INTO daily_changes (day, slot, segment, {", ".join(FIGURES)})
SELECT CAST(:until AS date) + 1, {_SLOT}, segment, {_sums(FIGURES)}
FROM (
  SELECT segment, {", ".join(FIGURES)} FROM segment_counters
  UNION ALL
  SELECT segment, {each_figure("-{figure}")} FROM daily_changes WHERE {_OF_GENERATION}
) unexplained GROUP BY segment HAVING {_any(FIGURES)}
"""),
]
# Writers have written this generation since it began. What they wrote is in the snapshot, too.
_WRITE_TOTALS = text(f"""
INSERT INTO daily_totals (day, slot, {", ".join(TOTALS)})
SELECT day, {_SLOT}, {_sums(TOTALS)}
FROM (
  TABLE computed_totals
  UNION ALL
  SELECT day, {", ".join(f"-{field}" for field in TOTALS)} FROM daily_totals WHERE {_OF_GENERATION}
) missing GROUP BY day HAVING {_any(TOTALS)}
""")
# If the generation was dropped or corrected meanwhile, this fails, and all begins again.
_COMPLETE = text("""
UPDATE daily_generations
SET counted_at = clock_timestamp(), reconstructed_until = CAST(:until AS date)
WHERE generation = :generation
""")
_ANSWERED = text("DELETE FROM reconstructions WHERE id = ANY(:requests)")


async def compute_past_days(connection: AsyncConnection) -> bool:
    """Compute the past days of a new time zone, or those that somebody has asked for.

    Return False if there is nothing to do, or if another process does it. The transaction must not
    have begun. The caller commits, and runs it again after a serialization failure.
    """
    await connection.execute(_ONE_SNAPSHOT)
    if not await try_lock(connection, AdvisoryLock.PAST_DAYS):
        return False
    target = (
        await connection.execute(_TARGET, {"upgrade": ReconstructionCause.UPGRADE.value})
    ).one()
    if not (target.is_new or target.requests):
        return False
    await limit_transaction(connection, SCAN_SECONDS)
    await connection.execute(_ONE_PROCESS)
    until: date = target.today - timedelta(days=1)
    if target.only_unknown_days and not target.is_new:
        parameters = {"generation": target.generation}
        first_known = (await connection.execute(_FIRST_KNOWN, parameters)).scalar()
        until = min(until, (first_known or target.today) - timedelta(days=1))
    of_target = {"generation": target.generation, "until": until}
    await _compute(connection, target.time_zone, until, totals=target.is_new)
    for statement in _WRITE_CHANGES:
        await connection.execute(statement, of_target)
    if target.is_new:
        await connection.execute(_WRITE_TOTALS, of_target)
    await connection.execute(_COMPLETE, of_target)
    await connection.execute(_ANSWERED, {"requests": target.requests})
    return True


async def _compute(connection: AsyncConnection, zone: str, until: date, *, totals: bool) -> None:
    """Sum up all customers, chunk by chunk, in temporary tables."""
    for statement in _CREATE_SUMS:
        await connection.execute(statement)
    every = {"zone": zone, "until": until}
    if totals:
        await connection.execute(_COMPUTE_TOTALS_OF_NOBODY, every)
    after = 0
    while last := await _last_of_chunk(connection, after):
        began = time.monotonic()
        chunk = {**every, "after": after, "last": last}
        await connection.execute(_COMPUTE_CHANGES, chunk)
        if totals:
            await connection.execute(_COMPUTE_TOTALS_OF_CUSTOMERS, chunk)
        after = last
        await asyncio.sleep(min(_RESTS * (time.monotonic() - began), _MOST_REST_SECONDS))


async def _last_of_chunk(connection: AsyncConnection, after: int) -> int | None:
    return (await connection.execute(_CHUNK, {"after": after, "most": CHUNK})).scalar()
