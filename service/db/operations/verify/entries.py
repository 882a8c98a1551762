"""Every entry that was read is accounted for (2)."""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from service.core.dead_letters import Fate
from service.core.loss_arithmetic import LossKind
from service.core.partitions import OrdersStream
from service.core.stream_ids import write
from service.db.ingest.ingest import SECONDS_BUCKETS, SIZE_BUCKETS
from service.db.operations import losses, status
from service.db.operations.verify.findings import (
    MOST_SHOWN,
    REPLAY,
    RESTORE,
    Check,
    Fault,
    fault_if,
)
from service.streams import groups


def _bounds(buckets: str, bounds: Sequence[float]) -> str:
    """Return SQL for the least and the greatest sum that a histogram allows."""
    lower = ", ".join(map(str, (0.0, *bounds[:-1])))
    upper = ", ".join(str(bound) if bound < float("inf") else "'infinity'" for bound in bounds)
    return f"""(
    SELECT sum(n) AS number, sum(n * low) AS least,
           sum(CASE WHEN n = 0 THEN 0 ELSE n * high END) AS most
    FROM ingest_counters, unnest({buckets}, CAST(ARRAY[{lower}] AS float8[]),
                                 CAST(ARRAY[{upper}] AS float8[])) AS b(n, low, high))"""


# A conflict is counted as stale or applied, too. The histograms count the same batches.
_CONTRADICTIONS = text(f"""
SELECT t.read, t.applied, t.stale, t.conflict, t.batches, t.seconds,
       sizes.number AS "batchesBySize", times.number AS "batchesBySeconds"
FROM (SELECT sum(read) AS read, sum(applied) AS applied, sum(stale) AS stale,
             sum(conflict) AS conflict, sum(batches) AS batches, sum(seconds) AS seconds
      FROM ingest_counters) t
CROSS JOIN {_bounds("size_buckets", SIZE_BUCKETS)} sizes
CROSS JOIN {_bounds("seconds_buckets", SECONDS_BUCKETS)} times
WHERE t.conflict NOT BETWEEN 0 AND t.applied + t.stale
   OR t.batches <> sizes.number OR t.batches <> times.number
   OR t.seconds < 0.999 * times.least OR t.seconds > 1.001 * times.most
""")
_PARTITIONS = text("""
SELECT p.read AS "ofPartitions", t.read FROM
  (SELECT coalesce(sum(read), 0) AS read FROM partition_counters) p,
  (SELECT coalesce(sum(read), 0) AS read FROM ingest_counters) t
WHERE p.read > t.read OR EXISTS (SELECT FROM partition_counters WHERE read < 0
  OR partition NOT BETWEEN 0 AND 1023)
""")
# Each letter is counted when it is measured, and again when it is replayed, discarded or dropped.
LETTERS = text(f"""
SELECT stored.letters AS stored, counted.letters AS counted FROM
  (SELECT count(*) AS letters FROM dead_letters WHERE size IS NOT NULL) stored,
  (SELECT coalesce(sum(CASE WHEN fate = '{Fate.STORED}' THEN letters ELSE -letters END), 0)
     AS letters FROM dead_letter_counters) counted
WHERE stored.letters <> counted.letters
""")

ENTRIES = (
    Check(
        "the counters of entries and batches contradict each other",
        "The metrics of ingestion are wrong, and nothing else. Keep the numbers, and report them.",
        _CONTRADICTIONS,
    ),
    Check(
        "partitions have read more than all streams together",
        "The metrics of ingestion are wrong, and nothing else. Keep the numbers, and report them.",
        _PARTITIONS,
    ),
    Check(
        "dead letters are gone that nobody replayed, discarded or dropped, or some were added",
        f"{RESTORE} `crm rebuild --apply` takes the letters that are there as all there are.",
        LETTERS,
    ),
)


async def entry_faults(
    engine: AsyncEngine, redis: Redis, orders: Sequence[OrdersStream], group: str
) -> list[Fault]:
    """Return the counters and streams that do not agree about what was read.

    Every entry that the group has read and that is no longer pending must have been counted, under
    exactly one outcome. No entry may be lost unread, unless a person has acknowledged the loss.
    """
    backlogs = await groups.backlogs(redis, orders, group)
    async with engine.connect() as connection:
        totals = await status.totals(connection)
        accounted = await losses.accounted_for(connection, orders)
        lost = [
            _lost(loss.stream, loss.kind, loss.entries, loss.after_id, loss.until_id)
            for loss in await losses.recorded_losses(connection, most=MOST_SHOWN, open_only=True)
        ]
        checked = await losses.check(connection, redis, orders, group)
    if not lost:
        lost = [
            _lost(name, loss.kind, loss.entries, write(loss.after), write(loss.until))
            for name, result in checked.items()
            if (loss := result.loss)
        ]
    outcomes = totals.applied + totals.stale + totals.duplicate + totals.dead_lettered
    miscounted = (
        [] if outcomes == totals.read else [{"counted": totals.read, "withOutcome": outcomes}]
    )
    uncounted = [
        {
            "stream": name,
            "entriesReadByGroup": backlog.entries_read,
            "pending": backlog.pending,
            "counted": accounted[name],
        }
        for name, backlog in backlogs.items()
        if backlog.entries_read - backlog.pending > accounted[name]
    ]
    return [
        *fault_if(
            miscounted,
            "entries were counted without an outcome, or the other way round",
            "Keep the numbers, and report them. `crm replay` has every entry read again that Redis "
            "still has.",
        ),
        *fault_if(uncounted, "entries were acknowledged, and nobody counted them", REPLAY),
        *fault_if(
            lost,
            "Redis lost entries that were never applied",
            "Have order management send them again; then `crm losses --acknowledge ID`.",
        ),
    ]


def _lost(
    stream: str, kind: LossKind, entries: int | None, after: str, until: str
) -> dict[str, Any]:
    return {"stream": stream, "lost": entries, "how": kind.value, "after": after, "until": until}
