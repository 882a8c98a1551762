"""Judge everybody by new settings, chunk by chunk, in the order of their ids.

A chunk and the place it ends at are one transaction: whatever kills the worker, the next one goes
on where the last commit left off. The job's row is what replicas take turns on.
"""

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_event import Cause
from service.db.locks import read_clock
from service.db.segments.assign import AS_THEY_ARE, JUDGED, reclassify

CHUNK = 2000
"""Customers looked at per transaction."""

_TAKE = text("""
SELECT version, last_id FROM settings_changes WHERE finished_at IS NULL
FOR UPDATE SKIP LOCKED
""")
# Read without a lock: who judges a customer from now on does it by the same settings.
_ELSEWHERE = text(f"""
WITH after AS ({AS_THEY_ARE} WHERE c.id > :after ORDER BY c.id LIMIT :most), {JUDGED}
SELECT count(*) AS examined, max(id) AS last_id,
       array_agg(id ORDER BY id) FILTER (WHERE judged_segment <> segment) AS ids
FROM judged
""")
_ADVANCE = text("""
UPDATE settings_changes SET
  examined = examined + :examined, moved = moved + :moved,
  last_id = coalesce(CAST(:last_id AS bigint), last_id),
  total = CASE WHEN :through THEN examined + :examined
               ELSE GREATEST(total, examined + :examined) END,
  finished_at = CASE WHEN :through THEN clock_timestamp() END
WHERE version = :version
""")


async def advance(connection: AsyncConnection, now: datetime | None = None) -> bool:
    """Bring the job of the newest settings one chunk further; the caller commits and repeats.

    ``now``: None is the database's clock. False: there is none, or another replica has it.
    """
    job = (await connection.execute(_TAKE)).one_or_none()
    if job is None:
        return False
    moment = now or await read_clock(connection)
    chunk = (
        await connection.execute(_ELSEWHERE, {"after": job.last_id, "most": CHUNK, "now": moment})
    ).one()
    moved = await reclassify(connection, chunk.ids, Cause.RULES, now) if chunk.ids else 0
    await connection.execute(
        _ADVANCE,
        {
            "version": job.version,
            "examined": chunk.examined,
            "moved": moved,
            "last_id": chunk.last_id,
            "through": chunk.examined < CHUNK,
        },
    )
    return True
