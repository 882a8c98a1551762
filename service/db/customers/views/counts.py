"""How many customers each view chooses: counted by a worker, one row for each day of the store."""

import time
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.customers import customer_list
from service.db.customers.views.ready_made import of_settings
from service.db.customers.views.saved import View, everybodys
from service.db.locks import AdvisoryLock, try_lock
from service.db.segments import rule_settings
from service.db.statistics.answer_cache import SCAN_SETTINGS
from service.db.store_clock import StoreClock, read_store_clock

DAYS = 7
"""Over how many days a change is told."""
_PAUSE = timedelta(minutes=10)
"""A view is counted as often as this, or seldomer if counting takes long."""
_REUSE = 100
"""A count is kept for this many times the time that it took: one percent of one core at most."""
_UNCHANGED = timedelta(hours=1)
"""A count that has not changed is stored as seldom as this: an idle shop writes little."""
_KEPT_DAYS = 40


class Change(NamedTuple):
    """By how much a count changed."""

    customers: int
    since: date
    """The day of the count that it is compared with. `DAYS` ago, or later if there is none."""
    whole: bool
    """Whether counts go back as far as `DAYS` days."""


class ViewCount(NamedTuple):
    """How many customers a view chose when it was last counted."""

    customers: int
    counted_at: datetime
    change: Change | None
    """None: it was counted on one day only."""


_NEWEST = text("""
SELECT DISTINCT ON (view) view, day, customers, counted_at, seconds FROM view_counts
ORDER BY view, day DESC
""")
_READ = text("""
SELECT n.view, n.day, n.customers, n.counted_at, b.day AS before, b.customers AS customers_before
FROM (SELECT DISTINCT ON (view) * FROM view_counts WHERE view = ANY(:views)
      ORDER BY view, day DESC) n
LEFT JOIN LATERAL (
  -- the last count that is old enough, or else the first one
  SELECT day, customers FROM view_counts o WHERE o.view = n.view AND o.day < n.day
  ORDER BY o.day <= n.day - CAST(:days AS integer) DESC,
    CASE WHEN o.day <= n.day - CAST(:days AS integer) THEN n.day - o.day END, o.day
  LIMIT 1
) b ON true
""")
_STORE = text("""
INSERT INTO view_counts (view, day, customers, counted_at, seconds)
VALUES (:view, :day, :customers, :now, :seconds)
ON CONFLICT (view, day) DO UPDATE SET customers = excluded.customers,
  counted_at = excluded.counted_at, seconds = excluded.seconds
""")
_PRUNE = text("DELETE FROM view_counts WHERE view = :view AND day < :first")
_CHANGED = text("SELECT changed_at FROM settings ORDER BY version DESC LIMIT 1")


async def read_counts(
    connection: AsyncConnection, views: Sequence[View]
) -> Mapping[str, ViewCount]:
    """Return the counts of views, by key. A new view has none yet."""
    parameters = {"views": [view.key for view in views], "days": DAYS}
    rows = await connection.execute(_READ, parameters)
    return {row.view: ViewCount(row.customers, row.counted_at, _change(row)) for row in rows}


def _change(row: Any) -> Change | None:
    if row.before is None:
        return None
    whole = row.before <= row.day - timedelta(days=DAYS)
    return Change(row.customers - row.customers_before, row.before, whole)


def count_next_step() -> Any:
    """Return the step of a chore that counts the views that are due, one each time.

    The step remembers when it last counted a view whose number had not changed.
    """
    looked: dict[str, datetime] = {}

    async def count_next(connection: AsyncConnection) -> int | None:
        if not await try_lock(connection, AdvisoryLock.VIEWS):
            return None
        clock = await read_store_clock(connection)
        settings = (await rule_settings.current(connection)).settings
        views = [*of_settings(settings), *await everybodys(connection)]
        newest = {row.view: row for row in await connection.execute(_NEWEST)}
        changed_at = (await connection.execute(_CHANGED)).scalar_one()
        view = _most_due(views, newest, looked, clock, changed_at)
        if view is None:
            return None
        looked[view.key] = clock.now
        before = newest.get(view.key)
        # A count by other settings says nothing about this one.
        comparable = before is not None and before.counted_at > changed_at
        await _count(connection, view, before if comparable else None, clock)
        return 1

    return count_next


def _most_due(
    views: Sequence[View],
    newest: Mapping[str, Any],
    looked: Mapping[str, datetime],
    clock: StoreClock,
    changed_at: datetime,
) -> View | None:
    """Return the view whose count is the oldest of those that are due."""

    def counted(view: View) -> datetime:
        row = newest.get(view.key)
        if row is None or row.day != clock.today or row.counted_at < changed_at:
            return datetime.min.replace(tzinfo=clock.now.tzinfo)
        counted_at: datetime = row.counted_at
        return max(counted_at, looked.get(view.key, counted_at))

    def is_due(view: View) -> bool:
        row = newest.get(view.key)
        pause = max(_PAUSE, timedelta(seconds=_REUSE * row.seconds)) if row else _PAUSE
        return clock.now - counted(view) > pause

    due = [view for view in views if is_due(view)]
    return min(due, key=counted, default=None)


async def _count(
    connection: AsyncConnection, view: View, before: Any | None, clock: StoreClock
) -> None:
    for setting in SCAN_SETTINGS:
        await connection.execute(setting)
    started = time.perf_counter()
    chosen = view.filter.chosen(clock)
    hits = await customer_list.count_hits(connection, chosen)
    customers = await customer_list.count(connection, chosen, hits)
    seconds = time.perf_counter() - started
    if (
        before is not None
        and (before.customers, before.day) == (customers, clock.today)
        and clock.now - before.counted_at < _UNCHANGED
    ):
        return
    await connection.execute(
        _STORE,
        {
            "view": view.key,
            "day": clock.today,
            "customers": customers,
            "now": clock.now,
            "seconds": seconds,
        },
    )
    first = clock.today - timedelta(days=_KEPT_DAYS)
    await connection.execute(_PRUNE, {"view": view.key, "first": first})
