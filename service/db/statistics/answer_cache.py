"""A cache for answers that take long to compute. Workers renew them, readers get the last one.

Each answer carries the time it was computed at. Answers that are quick to compute are not read from
the cache. So a small shop always gets the current state. In a large shop, an answer may be the
older, the longer it takes to compute. A change of the settings makes each answer due.
"""

import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.locks import AdvisoryLock

SLOW = 0.1
"""Seconds. An answer that takes less is computed for each reader."""
_REUSE = 100
"""An answer is renewed once its age is this many times the time it took to compute. So each answer
costs one percent of one core, however large the shop is."""

QUICK_SECONDS = 60.0
"""How often a quick answer is computed to see whether it has become slow. It is not stored: nobody
reads it, and a service that has nothing to do should write nothing."""

Compute = Callable[[AsyncConnection, datetime], Awaitable[Any]]
"""Computes the answer as of a moment. The result is any value that JSON can hold."""


class CachedAnswer(NamedTuple):
    """An answer, and the time it was computed at."""

    as_of: datetime
    answer: Any


_READ = text("SELECT as_of, answer FROM kept_answers WHERE name = :name AND seconds >= :slow")
_LOCK = text("""
SELECT pg_try_advisory_xact_lock(:lock) AS acquired, clock_timestamp() AS now, ARRAY(
  SELECT name FROM kept_answers WHERE seconds >= :slow
    AND clock_timestamp() - as_of < seconds * :reuse * interval '1 second'
    -- what counts and whose days they are may have changed since
    AND as_of > (SELECT changed_at FROM settings ORDER BY version DESC LIMIT 1)
) AS fresh, ARRAY(SELECT name FROM kept_answers WHERE seconds >= :slow) AS slow
""")
SCAN_SETTINGS = (
    text("SET LOCAL enable_seqscan = on"),
    text("SET LOCAL plan_cache_mode = auto"),
    text("SET LOCAL work_mem = '64MB'"),
)
"""Undo the settings of a worker's connections, which are for batches: these read by index, and an
answer scans tables."""
_STORE = text("""
INSERT INTO kept_answers (name, as_of, seconds, answer)
VALUES (:name, :as_of, :seconds, CAST(:answer AS jsonb))
ON CONFLICT (name) DO UPDATE SET
  as_of = excluded.as_of, seconds = excluded.seconds, answer = excluded.answer
""")


async def recall(connection: AsyncConnection, name: str) -> CachedAnswer | None:
    """Return a cached answer. None if there is none, or if it is quick to compute."""
    row = (await connection.execute(_READ, {"name": name, "slow": SLOW})).one_or_none()
    return CachedAnswer(row.as_of, row.answer) if row else None


async def renew(
    connection: AsyncConnection,
    answers: Mapping[str, Compute],
    quick: MutableMapping[str, datetime],
) -> bool:
    """Compute one answer that is due, in the caller's transaction; store it if it is slow.

    Return False if no answer is due, or if another replica is renewing one now. ``quick`` is the
    caller's memory of when an answer was last computed quickly.
    """
    parameters = {"lock": AdvisoryLock.CACHED_ANSWERS, "reuse": _REUSE, "slow": SLOW}
    lock = (await connection.execute(_LOCK, parameters)).one()
    pause = timedelta(seconds=QUICK_SECONDS)
    due = answers.keys() - lock.fresh - {name for name in quick if lock.now - quick[name] < pause}
    if not lock.acquired or not due:
        return False
    name = random.choice(list(due))  # so that an answer that always fails does not block the others
    for setting in SCAN_SETTINGS:
        await connection.execute(setting)
    started = time.perf_counter()
    answer = json.dumps(await answers[name](connection, lock.now), default=_plain)
    seconds = time.perf_counter() - started
    if seconds < SLOW:
        quick[name] = lock.now
        if name not in lock.slow:
            return True
    await connection.execute(
        _STORE, {"name": name, "as_of": lock.now, "seconds": seconds, "answer": answer}
    )
    return True


def _plain(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(value)
