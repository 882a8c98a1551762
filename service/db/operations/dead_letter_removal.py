"""Remove dead letters: a person discards them, or they are dropped because there are too many.

Nothing is dropped in silence: the audit and the counters have how many, of which reasons, and why.
"""

from collections import Counter

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.core.dead_letters import DROPPED, Bounds, Fate, Kept
from service.core.json_values import timestamp
from service.db.accounts.audit import note
from service.db.customers.letter_index import count_fates
from service.db.engine import in_transaction
from service.db.locks import AdvisoryLock, try_lock
from service.db.operations.dead_letters import SELECTED, NoSuchLetterError, Selection

PAGE = 1000
"""Dead letters that one transaction removes."""
_PAGE_BYTES = 67_108_864
"""The content of these, all together. One more letter may be among them."""
_WORKER = "worker"
"""The actor of the letters that are dropped."""

_DISCARD = text("""
DELETE FROM dead_letters WHERE id = :id RETURNING reason, CAST(size IS NOT NULL AS int) AS counted
""")
_DISCARD_PAGE = text(f"""
WITH page AS (
  SELECT id, sum(coalesce(stored, 0)) OVER (ORDER BY id) - coalesce(stored, 0) AS bytes_before
  FROM (
    SELECT id, stored FROM dead_letters WHERE id > :after AND {SELECTED} ORDER BY id LIMIT :most
  ) selected
),
gone AS (
  DELETE FROM dead_letters
  WHERE id IN (SELECT id FROM page WHERE bytes_before < {_PAGE_BYTES})
  RETURNING id, size IS NOT NULL AS counted
)
SELECT count(*) AS letters, count(*) FILTER (WHERE counted) AS counted, max(id) AS last FROM gone
""")
_KEPT = text("""
SELECT count(*) AS letters, coalesce(sum(stored), 0)::bigint AS bytes,
  coalesce(extract(epoch FROM clock_timestamp() - min(first_seen)) / 86400, 0)::float8
    AS oldest_days
FROM dead_letters
""")
_DROP_PAGE = text(f"""
WITH page AS (
  SELECT id, first_seen, row_number() OVER (ORDER BY id) AS place,
    sum(coalesce(stored, 0)) OVER (ORDER BY id) - coalesce(stored, 0) AS bytes_before
  FROM (SELECT id, first_seen, stored FROM dead_letters ORDER BY id LIMIT :most) oldest
),
due AS (
  SELECT id, CASE
    WHEN first_seen < clock_timestamp() - CAST(:days AS float8) * interval '1 day'
      THEN '{Fate.TOO_OLD}'
    WHEN place <= :letters THEN '{Fate.TOO_MANY}'
    WHEN bytes_before < :bytes THEN '{Fate.TOO_MUCH}'
  END AS fate
  FROM page WHERE bytes_before < {_PAGE_BYTES}
),
gone AS (
  DELETE FROM dead_letters d USING due WHERE d.id = due.id AND due.fate IS NOT NULL
  RETURNING due.fate, d.reason, d.first_seen, d.size IS NOT NULL AS counted
)
SELECT fate, reason, count(*) AS letters, count(*) FILTER (WHERE counted) AS counted,
  min(first_seen) AS earliest, max(first_seen) AS latest
FROM gone GROUP BY fate, reason
""")
_FATES = text("""
SELECT fate, sum(letters)::bigint AS letters FROM dead_letter_counters GROUP BY fate
""")


async def discard(connection: AsyncConnection, actor: str, letter_id: int, why: str) -> None:
    """Delete a dead letter. Its id, its reason code and ``why`` stay in the audit.

    Raises NoSuchLetterError.
    """
    row = (await connection.execute(_DISCARD, {"id": letter_id})).one_or_none()
    if row is None:
        raise NoSuchLetterError
    await _count(connection, row.counted, Counter({Fate.DISCARDED: 1}))
    details = {"deadLetter": str(letter_id), "reasonCode": row.reason, "reason": why}
    await note(connection, actor, "dead-letter.discarded", details=details)


async def discard_all(
    engine: AsyncEngine, actor: str, selection: Selection, why: str, *, most: int | None = None
) -> int:
    """Delete the selected dead letters, the oldest first; return how many.

    It works page by page, and stops after the first page that brings it to ``most``. The audit has
    an entry for each page: the selection, how many, and ``why``.
    """
    discarded, after = 0, 0
    while most is None or discarded < most:
        letters, after = await in_transaction(engine, _discard_page, actor, selection, why, after)
        if not letters:
            break
        discarded += letters
    return discarded


async def _discard_page(
    connection: AsyncConnection, actor: str, selection: Selection, why: str, after: int
) -> tuple[int, int]:
    """Delete the next letters above an id; return how many, and the last id."""
    parameters = {**selection._asdict(), "after": after, "most": PAGE}
    row = (await connection.execute(_DISCARD_PAGE, parameters)).one()
    if row.letters:
        await _count(connection, row.counted, Counter({Fate.DISCARDED: row.letters}))
        details = {
            "letters": row.letters,
            "reasonCode": selection.reason,
            "seenBefore": timestamp(selection.seen_before),
            "reason": why,
        }
        await note(connection, actor, "dead-letters.discarded", details=details)
    return row.letters, row.last or after


async def kept(connection: AsyncConnection) -> Kept:
    """Return how many dead letters there are, and how large and old."""
    return Kept(*(await connection.execute(_KEPT)).one())


async def fates(connection: AsyncConnection) -> Counter[Fate]:
    """Return what became of all dead letters so far."""
    return Counter({Fate(row.fate): row.letters for row in await connection.execute(_FATES)})


async def dropped_ever(connection: AsyncConnection) -> int:
    """Return how many dead letters were dropped so far."""
    counted = await fates(connection)
    return sum(counted[fate] for fate in DROPPED)


async def drop_excess(connection: AsyncConnection, bounds: Bounds) -> Counter[Fate] | None:
    """Drop a page of the oldest dead letters beyond a bound; return how many of which fate.

    None if no bound is exceeded, or while another process drops letters. The caller commits.
    """
    if not await try_lock(connection, AdvisoryLock.DEAD_LETTERS):
        return None
    there = await kept(connection)
    beyond = {
        "days": bounds.days,
        "letters": there.letters - bounds.letters,
        "bytes": there.bytes - bounds.bytes,
    }
    if there.oldest_days <= bounds.days and beyond["letters"] <= 0 and beyond["bytes"] <= 0:
        return None
    rows = (await connection.execute(_DROP_PAGE, {**beyond, "most": PAGE})).all()
    if not rows:
        return None
    dropped, reasons = Counter[Fate](), Counter[str]()
    for row in rows:
        dropped[Fate(row.fate)] += row.letters
        reasons[row.reason] += row.letters
    await _count(connection, sum(row.counted for row in rows), dropped)
    details = {
        "letters": dropped.total(),
        "dropped": {fate.value: number for fate, number in dropped.items()},
        "reasonCodes": reasons,
        "oldest": timestamp(min(row.earliest for row in rows)),
        "newest": timestamp(max(row.latest for row in rows)),
    }
    await note(connection, _WORKER, "dead-letters.dropped", details=details)
    return dropped


async def _count(connection: AsyncConnection, counted: int, removed: Counter[Fate]) -> None:
    """Count letters that were removed. Those that no worker had measured are counted as stored."""
    await count_fates(connection, {Fate.STORED: removed.total() - counted, **removed})
