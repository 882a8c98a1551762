"""The state of the database, for operators: work counted, work left to do, verification."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.customers.removals import REMOVALS
from service.db.segments.change_outbox import CHANGES
from service.db.segments.sweep import oldest_due

SWEEP_PROMISE = timedelta(minutes=1)
"""The sweep moves a customer within this time after the customer is due."""


class Totals(NamedTuple):
    """Counters of all entries ever read, by outcome. They are written with the work itself."""

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
    """The result of the last `crm verify`."""

    verified_at: datetime
    broken: Sequence[int]
    """Numbers of the invariants that did not hold."""


class DatabaseBacklog(NamedTuple):
    """The work that the database holds and that is not done yet."""

    dead_letters: int
    unpublished: int
    """Segment changes that are not in the out-stream."""
    unpublished_removals: int
    """The same for customers who are gone."""
    oldest_unpublished_seconds: float
    """The age of the oldest of both; 0 if there is none."""
    sweep_overdue_seconds: float
    """How long ago the sweep should have moved somebody; 0 if it keeps its promise."""
    now: datetime
    """The database's clock at the time of reading."""


class WriteAheadLog(NamedTuple):
    """How PostgreSQL's write-ahead log grows, and what may keep it from being removed."""

    written_bytes: int
    held_bytes: int
    """Log that a replication slot keeps, because its reader is behind or gone."""
    archive_fails: bool | None
    """Whether the last attempt to archive a segment failed. None: nothing is archived."""


_LOG = text("""
SELECT (place - '0/0')::bigint AS written_bytes,
  coalesce((SELECT max(place - restart_lsn) FROM pg_replication_slots), 0)::bigint AS held_bytes,
  CASE WHEN current_setting('archive_mode') <> 'off' THEN (
    SELECT coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false)
    FROM pg_stat_archiver) END AS archive_fails
FROM (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
             ELSE pg_current_wal_lsn() END AS place) its
""")
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
# An unpublished row either has no publish number yet, or has one beyond the last published. The
# first are read by the outbox's partial index, the second by their number.
_UNPUBLISHED = """(SELECT count(*) FROM {outbox} WHERE publish_number IS NULL)
    + (SELECT numbered - published FROM {relay})"""
_OLDEST = """(SELECT {at} FROM {outbox} WHERE publish_number IS NULL ORDER BY id LIMIT 1),
    (SELECT {at} FROM {outbox}
     WHERE publish_number > (SELECT published FROM {relay}) ORDER BY publish_number LIMIT 1)"""
_CHANGES = {"outbox": CHANGES.table, "relay": CHANGES.relay, "at": "changed_at"}
_REMOVALS = {"outbox": REMOVALS.table, "relay": REMOVALS.relay, "at": "removed_at"}
_BACKLOG = text(f"""
SELECT
  (SELECT count(*) FROM dead_letters) AS dead_letters,
  {_UNPUBLISHED.format(**_CHANGES)} AS unpublished,
  {_UNPUBLISHED.format(**_REMOVALS)} AS unpublished_removals,
  LEAST(
    {_OLDEST.format(**_CHANGES)},
    {_OLDEST.format(**_REMOVALS)}
  ) AS oldest_unpublished,
  clock_timestamp() AS now
""")
_VERIFICATION = text("SELECT verified_at, broken FROM verification")
_NOTE_VERIFICATION = text("""
INSERT INTO verification (verified_at, broken, remembered)
VALUES (now(), CAST(:broken AS smallint[]), CAST(:remembered AS jsonb))
ON CONFLICT (one) DO UPDATE SET verified_at = excluded.verified_at, broken = excluded.broken,
  remembered = excluded.remembered
""")


async def totals(connection: AsyncConnection) -> Totals:
    """Return the sums of the counters that `service.db.ingest.ingest` writes."""
    row = (await connection.execute(_TOTALS)).one()
    return Totals(*row)


async def database_backlog(connection: AsyncConnection) -> DatabaseBacklog:
    """Return the work that is not done yet. Ages are by the database's clock."""
    row = (await connection.execute(_BACKLOG)).one()
    oldest, due = row.oldest_unpublished, await oldest_due(connection)
    overdue = row.now - due - SWEEP_PROMISE if due else timedelta()
    return DatabaseBacklog(
        dead_letters=row.dead_letters,
        unpublished=row.unpublished,
        unpublished_removals=row.unpublished_removals,
        oldest_unpublished_seconds=max(0.0, (row.now - oldest).total_seconds()) if oldest else 0.0,
        sweep_overdue_seconds=max(0.0, overdue.total_seconds()),
        now=row.now,
    )


async def write_ahead_log(connection: AsyncConnection) -> WriteAheadLog:
    """Return how far the log has grown, and whether it can be removed."""
    return WriteAheadLog(*(await connection.execute(_LOG)).one())


async def verification(connection: AsyncConnection) -> Verification | None:
    """Return the result of the last `crm verify`; None if it never ran."""
    row = (await connection.execute(_VERIFICATION)).one_or_none()
    return None if row is None else Verification(*row)


async def note_verification(
    connection: AsyncConnection, broken: Sequence[int], remembered: Mapping[str, Any]
) -> None:
    """Store the result of a `crm verify` that ended now: for alerts, and for the next one.

    The caller commits.
    """
    await connection.execute(
        _NOTE_VERIFICATION, {"broken": broken, "remembered": json.dumps(remembered)}
    )
