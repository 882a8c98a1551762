"""What ops wants to know of the database's side: counted work, what waits, what is overdue."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

SWEEP_PROMISE = timedelta(minutes=1)
"""Within this of the moment, time has moved a customer."""


class Totals(NamedTuple):
    """What became of every entry ever read, as counted with the work itself."""

    read: int
    applied: int
    stale: int
    duplicate: int
    conflict: int
    dead_lettered: int
    batches: int
    seconds: float
    size_buckets: Sequence[int]
    seconds_buckets: Sequence[int]


class Verification(NamedTuple):
    """What the last `crm verify` found."""

    verified_at: datetime
    broken: Sequence[int]
    """Numbers of the invariants that did not hold."""


class Waiting(NamedTuple):
    """What has not been done yet."""

    dead_letters: int
    unpublished: int
    oldest_unpublished_seconds: float
    sweep_overdue_seconds: float
    now: datetime


_TOTALS = text("""
SELECT sum(read)::bigint AS read, sum(applied)::bigint AS applied, sum(stale)::bigint AS stale,
       sum(duplicate)::bigint AS duplicate, sum(conflict)::bigint AS conflict,
       sum(dead_lettered)::bigint AS dead_lettered, sum(batches)::bigint AS batches,
       sum(seconds)::float8 AS seconds,
       (SELECT array_agg(total ORDER BY place) FROM (
          SELECT place, sum(n)::bigint AS total
          FROM ingest_counters, unnest(size_buckets) WITH ORDINALITY AS u(n, place)
          GROUP BY place) s) AS size_buckets,
       (SELECT array_agg(total ORDER BY place) FROM (
          SELECT place, sum(n)::bigint AS total
          FROM ingest_counters, unnest(seconds_buckets) WITH ORDINALITY AS u(n, place)
          GROUP BY place) s) AS seconds_buckets
FROM ingest_counters
""")
# Not yet numbered, by the outbox's partial index; numbered and not yet in the stream, by number.
_WAITING = text("""
SELECT
  (SELECT count(*) FROM dead_letters) AS dead_letters,
  (SELECT count(*) FROM segment_changes WHERE publish_number IS NULL)
    + (SELECT numbered - published FROM relay) AS unpublished,
  LEAST(
    (SELECT changed_at FROM segment_changes WHERE publish_number IS NULL ORDER BY id LIMIT 1),
    (SELECT changed_at FROM segment_changes
     WHERE publish_number > (SELECT published FROM relay) ORDER BY publish_number LIMIT 1)
  ) AS oldest_unpublished,
  (SELECT swept_until FROM sweep) AS swept_until,
  clock_timestamp() AS now
""")


_VERIFIED = text("SELECT verified_at, broken FROM verification")
_VERIFY = text("""
INSERT INTO verification (verified_at, broken) VALUES (now(), CAST(:broken AS smallint[]))
ON CONFLICT (one) DO UPDATE SET verified_at = excluded.verified_at, broken = excluded.broken
""")


async def totals(connection: AsyncConnection) -> Totals:
    """Read the counters that `service.db.ingest.ingest` writes."""
    row = (await connection.execute(_TOTALS)).one()
    return Totals(*row)


async def waiting(connection: AsyncConnection) -> Waiting:
    """Count what waits; ages are by the database's clock."""
    row = (await connection.execute(_WAITING)).one()
    oldest = row.oldest_unpublished
    return Waiting(
        dead_letters=row.dead_letters,
        unpublished=row.unpublished,
        oldest_unpublished_seconds=max(0.0, (row.now - oldest).total_seconds()) if oldest else 0.0,
        sweep_overdue_seconds=max(0.0, (row.now - row.swept_until - SWEEP_PROMISE).total_seconds()),
        now=row.now,
    )


async def verification(connection: AsyncConnection) -> Verification | None:
    """Tell what the last `crm verify` found; None: it never ran."""
    row = (await connection.execute(_VERIFIED)).one_or_none()
    return None if row is None else Verification(*row)


async def note_verification(connection: AsyncConnection, broken: Sequence[int]) -> None:
    """Keep, for alerting, that the invariants were checked just now; the caller commits."""
    await connection.execute(_VERIFY, {"broken": broken})
