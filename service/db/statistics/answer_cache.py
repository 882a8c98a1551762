"""Answers that take long to compute, kept: workers make them anew, readers get the last one.

An answer says of when it is. What is quick to compute is not taken from here: in a small shop
every answer is of this moment, in a large one as old as it must be.
"""

import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.locks import AdvisoryLock

SLOW = 0.1
"""What takes fewer seconds is computed for each reader."""
_REUSE = 100
"""An answer is made anew when it is so many times older than it took to compute: that is one
percent of one core for each of them, however large the shop is."""

Compute = Callable[[AsyncConnection, datetime], Awaitable[Any]]
"""Computes an answer as of a moment: anything that JSON has."""


class CachedAnswer(NamedTuple):
    """An answer, and the moment it is of."""

    as_of: datetime
    answer: Any


_RECALL = text("SELECT as_of, answer FROM kept_answers WHERE name = :name AND seconds >= :slow")
_BEGIN = text("""
SELECT pg_try_advisory_xact_lock(:lock) AS mine, clock_timestamp() AS now, ARRAY(
  SELECT name FROM kept_answers
  WHERE clock_timestamp() - as_of < seconds * :reuse * interval '1 second'
) AS fresh
""")
# A worker's connections are set up for batches, which scan nothing.
_SCAN = (
    text("SET LOCAL enable_seqscan = on"),
    text("SET LOCAL plan_cache_mode = auto"),
    text("SET LOCAL work_mem = '64MB'"),
)
_KEEP = text("""
INSERT INTO kept_answers (name, as_of, seconds, answer)
VALUES (:name, :as_of, :seconds, CAST(:answer AS jsonb))
ON CONFLICT (name) DO UPDATE SET
  as_of = excluded.as_of, seconds = excluded.seconds, answer = excluded.answer
""")


async def recall(connection: AsyncConnection, name: str) -> CachedAnswer | None:
    """Give a kept answer; None: compute it, there is none or it does not take long."""
    row = (await connection.execute(_RECALL, {"name": name, "slow": SLOW})).one_or_none()
    return CachedAnswer(row.as_of, row.answer) if row else None


async def renew(connection: AsyncConnection, answers: Mapping[str, Compute]) -> bool:
    """Make one answer anew that is due, in the caller's transaction; False: none is.

    While another replica is at it, none is.
    """
    begin = (
        await connection.execute(_BEGIN, {"lock": AdvisoryLock.CACHED_ANSWERS, "reuse": _REUSE})
    ).one()
    due = answers.keys() - begin.fresh
    if not begin.mine or not due:
        return False
    name = random.choice(list(due))  # so that one which fails keeps no other waiting
    for setting in _SCAN:
        await connection.execute(setting)
    started = time.perf_counter()
    answer = json.dumps(await answers[name](connection, begin.now), default=_plain)
    seconds = time.perf_counter() - started
    await connection.execute(
        _KEEP, {"name": name, "as_of": begin.now, "seconds": seconds, "answer": answer}
    )
    return True


def _plain(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(value)
