"""Apply new settings: count the orders again if need be, then judge all customers.

Customers are judged chunk by chunk, in the order of their ids. A chunk and the id that it ends at
are committed together. If a worker is killed, the next one goes on after the last commit. Replicas
take turns by locking the row of the job.
"""

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_event import Cause
from service.db.locks import read_clock
from service.db.segments.assign import AS_THEY_ARE, JUDGED, reclassify
from service.db.segments.recount import RECOUNTING, recount_page

CHUNK = 2000
"""Customers examined per transaction."""

# Customers are judged when the orders have been counted again: so each moves once.
_LOCK_JOB = text(f"""
SELECT s.version, s.last_id, s.last_order, r.version IS NOT NULL AS recounts
FROM settings_changes s LEFT JOIN {RECOUNTING} r ON true
WHERE CASE WHEN r.version IS NULL THEN s.finished_at IS NULL ELSE s.version = r.version END
FOR UPDATE OF s SKIP LOCKED
""")
# Customers are read without a lock, because every other statement that judges them now uses the
# same settings.
_EXAMINE = text(f"""
WITH after AS ({AS_THEY_ARE} WHERE c.id > :after ORDER BY c.id LIMIT :most), {JUDGED}
SELECT count(*) AS examined, max(id) AS last_id,
       array_agg(id ORDER BY id) FILTER (WHERE judged_segment <> segment) AS ids
FROM judged
""")
_ADVANCE = text("""
UPDATE settings_changes SET
  examined = examined + :examined, moved = moved + :moved,
  last_id = coalesce(CAST(:last_id AS bigint), last_id),
  total = CASE WHEN :last_chunk THEN examined + :examined
               ELSE GREATEST(total, examined + :examined) END,
  finished_at = CASE WHEN :last_chunk THEN clock_timestamp() END
WHERE version = :version
""")


async def advance(connection: AsyncConnection, now: datetime | None = None) -> bool:
    """Do one more step of the job of the newest settings. The caller commits and repeats.

    Return False if there is no unfinished job, or if another replica works on it. None for ``now``
    means the database's clock.
    """
    job = (await connection.execute(_LOCK_JOB)).one_or_none()
    if job is None:
        return False
    if job.recounts:
        await recount_page(connection, job.version, job.last_order, now)
        return True
    moment = now or await read_clock(connection)
    chunk = (
        await connection.execute(_EXAMINE, {"after": job.last_id, "most": CHUNK, "now": moment})
    ).one()
    moved = await reclassify(connection, chunk.ids, Cause.RULES, now) if chunk.ids else 0
    await connection.execute(
        _ADVANCE,
        {
            "version": job.version,
            "examined": chunk.examined,
            "moved": moved,
            "last_id": chunk.last_id,
            "last_chunk": chunk.examined < CHUNK,
        },
    )
    return True
