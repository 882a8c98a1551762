"""Segments equal the rules, and the sweep is on time (4)."""

from sqlalchemy import text

from service.db.operations.verify.findings import REBUILD, RESTORE, Check
from service.db.segments.rules_sql import LIMITS, PROMISED, misplaced_sql, segment_sql

# The latest order is only looked up for a hold that an order may have ended.
_NEWEST_ORDER = """(SELECT max(o.date_created) FROM orders o
      WHERE o.customer_id = c.id AND o.date_created > c.segment_held_since)"""
_MISPLACED = text(f"""
WITH {LIMITS}, {PROMISED}
SELECT c.id AS customer, c.segment, {segment_sql("c", "l")} AS by_rules, c.segment_manual
FROM customers c CROSS JOIN limits l CROSS JOIN promised p
WHERE {misplaced_sql("c", _NEWEST_ORDER)}
LIMIT :most
""")
_OVERDUE = text("""
SELECT CAST(extract(epoch FROM late) AS float8) AS "sweepOverdueSeconds"
FROM (
  SELECT CAST(:now AS timestamptz) - CAST(:promise AS interval) - swept_until AS late FROM sweep
) s
WHERE late > interval '0'
""")
FUTURE = text("""
SELECT swept_until AS "sweptUntil"
FROM sweep WHERE swept_until > CAST(:now AS timestamptz) + CAST(:overlap AS interval)
""")
NO_SWEEP = text("SELECT 0 AS rows WHERE NOT EXISTS (SELECT FROM sweep)")

_JOBS = text("""
SELECT j.version FROM settings_changes j LEFT JOIN settings s USING (version)
WHERE s.version IS NULL LIMIT :most
""")

SEGMENTS = (
    Check("a segment is not the one that rules and hold give", REBUILD, _MISPLACED),
    Check(
        "the sweep is late",
        "Start a worker: it sweeps. If one runs, its log says what keeps it from sweeping.",
        _OVERDUE,
    ),
    Check(
        "the sweep's watermark lies in the future",
        "A worker judges everybody again and sets it; `crm rebuild --apply` does the same.",
        FUTURE,
    ),
    Check("the sweep has no watermark", REBUILD, NO_SWEEP),
    Check("a job applies settings that do not exist", RESTORE, _JOBS),
)
