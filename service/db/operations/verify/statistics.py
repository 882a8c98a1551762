"""Statistics equal a recount (7)."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_rules import Segment
from service.db.operations.verify.findings import MOST_SHOWN, REBUILD, Check
from service.db.schema import COUNTER_SLOTS
from service.db.statistics import daily
from service.db.statistics.counters import read_figures, recount_figures
from service.db.statistics.generations import IN_USE

_SEGMENTS = ", ".join(f"('{segment}')" for segment in Segment)
MISSING_COUNTERS = f"""
SELECT 'segment_counters' AS counters, CAST(slot AS smallint) AS slot, segment
FROM generate_series(0, {COUNTER_SLOTS - 1}) AS slot CROSS JOIN (VALUES {_SEGMENTS}) s(segment)
WHERE NOT EXISTS (
  SELECT FROM segment_counters k WHERE k.slot = slot.slot AND k.segment = s.segment)
UNION ALL
SELECT 'ingest_counters', CAST(slot AS smallint), NULL
FROM generate_series(0, {COUNTER_SLOTS - 1}) AS slot
WHERE NOT EXISTS (SELECT FROM ingest_counters k WHERE k.slot = slot.slot)"""
"""The rows of counters that ought to exist. Without its row, a writer counts nothing."""
FUTURE_ANSWERS = text("""
SELECT name, as_of FROM kept_answers
WHERE as_of > CAST(:now AS timestamptz) + interval '1 day' OR NOT (seconds BETWEEN 0 AND 3600)
LIMIT :most
""")

# It takes a worker a minute or two, and in the largest shops some more.
OVERDUE_DAYS = text(f"""
SELECT time_zone AS "storeZone", (
         SELECT time_zone FROM daily_generations WHERE generation = {IN_USE}) AS "countedZone"
FROM settings
WHERE version = (SELECT max(version) FROM settings)
  AND changed_at < CAST(:now AS timestamptz) - interval '1 hour'
  AND time_zone IS DISTINCT FROM (
    SELECT time_zone FROM daily_generations WHERE generation = {IN_USE})
""")

STATISTICS = (
    Check("a row of the counters is missing", REBUILD, text(MISSING_COUNTERS)),
    Check(
        "days are not yet counted in the store's time zone",
        "Start a worker: it counts them. If one runs, its log says what keeps it from that.",
        OVERDUE_DAYS,
    ),
    Check("a cached answer can never become old", REBUILD, FUTURE_ANSWERS),
)


async def recount(connection: AsyncConnection) -> list[dict[str, Any]]:
    """Return the stored statistics that differ from a recount. Call it in one snapshot."""
    kept, counted = await read_figures(connection), await recount_figures(connection)
    return [
        {"segment": segment.value, "kept": kept[segment], "recounted": counted[segment]}
        for segment in kept
        if kept[segment] != counted[segment]
    ] + await daily.mismatches(connection, MOST_SHOWN)
