"""The settings: read them, preview a change, save a new version.

The preview runs the same SQL that applies the settings. Saving writes a new version and a job for
`service.db.segments.reclassify`. Every order and every customer judged after that is judged by the
new settings. So the job only has to find what the old settings left otherwise.
"""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_rules import Segment, SegmentSettings
from service.db.accounts.audit import note
from service.db.counting import COUNTING, counts_sql
from service.db.locks import AdvisoryLock, read_clock, wait_for_lock
from service.db.segments.assign import JUDGED
from service.db.segments.recount import RECOUNTING, WRONG
from service.db.segments.rules_sql import PROPOSED_SETTINGS, SETTINGS

VERSION_DIGITS = 9
"""A version with this many digits always fits into PostgreSQL's integer."""
NO_VERSION = -1
"""The expected version if the client sent a text that cannot be a version. It matches no version,
so saving fails."""
COUNTING_SETTINGS = ("count_from", "count_free_orders")
"""The settings that say which orders count."""
SAMPLE = 5
"""Customers shown for each cell of a preview."""

_CURRENT = text("SELECT * FROM settings ORDER BY version DESC LIMIT 1")
_HISTORY = text("""
SELECT * FROM settings WHERE version < coalesce(CAST(:before AS integer), 2147483647)
ORDER BY version DESC LIMIT :most
""")
_COUNT = text("SELECT count(*) FROM settings")
_END_OLDER_JOB = text(
    "UPDATE settings_changes SET finished_at = clock_timestamp() WHERE finished_at IS NULL"
)
# Every statement that judges by the settings writes the counters, too. Once we hold this lock, all
# transactions that judged by the old settings have ended. Later writers wait and see the new ones.
_LOCK_TIMEOUT = text("SET LOCAL lock_timeout = '5s'")
_LOCK_COUNTERS = text("LOCK TABLE segment_counters IN SHARE MODE")
_INSERT = text(f"""
INSERT INTO settings (version, changed_at, changed_by, {", ".join(SETTINGS)})
VALUES (:version, clock_timestamp(), :changed_by, {", ".join(f":{name}" for name in SETTINGS)})
""")
# A recount that has not come to its end begins anew: its orders may be counted as before it.
_START_JOB = text(f"""
INSERT INTO settings_changes (version, total, finished_at, counted_since)
SELECT CAST(:version AS integer), CASE WHEN :judges THEN sum(customers) ELSE 0 END,
       CASE WHEN NOT :judges THEN clock_timestamp() END,
       coalesce((SELECT counted_since FROM {RECOUNTING} r), CAST(:counted_since AS integer))
FROM segment_counters
""")
_PROGRESS = text("""
SELECT s.*, counted_since IS NOT NULL AND EXISTS (
    SELECT FROM settings_changes later
    WHERE later.version > s.version AND later.counted_since IS NOT NULL) AS counted_later
FROM settings_changes s WHERE version = :version
""")

# What changes is added up from the orders that would count otherwise. Only those who lose their
# latest order are asked for the one before it. Without OFFSET 0, Postgres reads all orders by the
# index, and works out each date several times.
_CHANGES = f"""
  SELECT customer_id, sum(CASE WHEN counts THEN -1 ELSE 1 END) AS orders,
    sum(CASE WHEN counts THEN -net ELSE net END) AS spent,
    max(date_created) FILTER (WHERE NOT counts) AS gained,
    max(date_created) FILTER (WHERE counts) AS lost
  FROM (
    SELECT customer_id, counts, net, date_created FROM orders CROSS JOIN counting
    WHERE customer_id IS NOT NULL AND {WRONG} OFFSET 0
  ) o
  GROUP BY customer_id"""
_NO_CHANGES = """
  SELECT id AS customer_id, 0 AS orders, 0.00 AS spent, date_created AS gained,
    date_created AS lost
  FROM customers WHERE false"""
_CHANGED = f"""
    c.total_orders + coalesce(a.orders, 0) AS total_orders,
    c.total_spent + coalesce(a.spent, 0) AS total_spent,
    GREATEST(a.gained, CASE WHEN a.lost >= c.last_order_date THEN (
        SELECT max(date_created) FROM orders CROSS JOIN counting
        WHERE customer_id = c.id AND counts AND {counts_sql()})
      ELSE c.last_order_date END) AS last_order_date"""


def preview_sql(changes: str) -> str:
    """Return the statement of a preview; ``changes`` is a query for what changes of figures."""
    return f"""
WITH {PROPOSED_SETTINGS},
counting AS MATERIALIZED (SELECT count_from, count_free_orders FROM settings),
changes AS MATERIALIZED ({changes}
),
after AS (
  SELECT c.id, c.segment, c.segment_manual, c.segment_pinned, c.segment_pinned_until,
    c.segment_held_since, CAST(NULL AS timestamptz) AS newest_order,
    a.customer_id IS NOT NULL AS recounted,
    c.total_orders AS stored_orders, c.total_spent AS stored_spent, {_CHANGED}
  FROM customers c LEFT JOIN changes a ON a.customer_id = c.id OFFSET 0
), {JUDGED},
cells AS (
  SELECT segment, judged_segment, count(*) AS customers, array_agg(id) AS ids,
    count(*) FILTER (WHERE recounted) AS recounted,
    sum(stored_orders) AS orders_before, sum(total_orders) AS orders_after,
    sum(stored_spent) AS revenue_before, sum(total_spent) AS revenue_after
  FROM judged GROUP BY segment, judged_segment
)
SELECT cells.segment AS previous, cells.judged_segment AS segment, cells.customers,
       cells.recounted, cells.orders_before, cells.orders_after, cells.revenue_before,
       cells.revenue_after, c.id, c.name, {_CHANGED}
FROM cells
CROSS JOIN LATERAL (SELECT i.id FROM unnest(cells.ids) AS i(id) ORDER BY i.id LIMIT :sample) f
CROSS JOIN LATERAL (SELECT * FROM customers WHERE id = f.id OFFSET 0) c
LEFT JOIN changes a ON a.customer_id = c.id
ORDER BY c.id
"""


_PREVIEW = text(preview_sql(_NO_CHANGES))
_PREVIEW_OF_COUNTING = text(preview_sql(_CHANGES))
_COUNTS_OTHERWISE = text(f"""
SELECT (count_from, count_free_orders) <>
         (CAST(:count_from AS text), CAST(:count_free_orders AS boolean))
  OR EXISTS (SELECT FROM {RECOUNTING} r)
FROM ({COUNTING}) counting
""")


class OutdatedError(Exception):
    """The settings were changed since the caller read them. `args[0]` is the current version."""


class SettingsRecord(NamedTuple):
    """A version of the settings, with its author and time."""

    version: int
    changed_at: datetime
    changed_by: str
    settings: SegmentSettings


class PreviewedCustomer(NamedTuple):
    """A customer in the sample of a preview."""

    id: int
    name: str | None
    total_orders: int
    total_spent: Decimal
    last_order_date: datetime | None


class Sums(NamedTuple):
    """What the counted orders of all customers add up to."""

    orders: int
    revenue: Decimal


class Cell(NamedTuple):
    """The customers who are in segment ``previous`` and would be in ``segment``."""

    previous: Segment
    segment: Segment
    customers: int
    recounted: int
    """Those of them whose figures would be others."""
    before: Sums
    after: Sums
    sample: list[PreviewedCustomer]
    """The customers with the smallest ids, `SAMPLE` at most, with the figures they would have."""


class Preview(NamedTuple):
    """What proposed settings would do."""

    cells: list[Cell]
    """One for each pair of segments that has customers, in the order of the lifecycle."""

    @property
    def moving(self) -> list[Cell]:
        """Return the cells of customers who would move to another segment."""
        return [cell for cell in self.cells if cell.previous != cell.segment]

    @property
    def moves(self) -> int:
        """Return how many customers would move. Each move is an event."""
        return sum(cell.customers for cell in self.moving)

    @property
    def recounted(self) -> int:
        """Return how many customers would have other figures."""
        return sum(cell.recounted for cell in self.cells)

    @property
    def before(self) -> Sums:
        """Return what all customers' orders add up to now."""
        return _added_up(cell.before for cell in self.cells)

    @property
    def after(self) -> Sums:
        """Return what they would add up to."""
        return _added_up(cell.after for cell in self.cells)


def _added_up(sums: Iterable[Sums]) -> Sums:
    orders, revenue = 0, Decimal("0.00")
    for each in sums:
        orders, revenue = orders + each.orders, revenue + each.revenue
    return Sums(orders, revenue)


class RecountProgress(NamedTuple):
    """How far the orders are counted again, because other orders count now."""

    total: int
    examined: int
    changed: int
    finished_at: datetime | None


class Progress(NamedTuple):
    """The progress of the job that applies a version of the settings."""

    version: int
    total: int
    """Customers to judge, after the orders are counted."""
    examined: int
    moved: int
    started_at: datetime
    finished_at: datetime | None
    superseded: bool
    """A newer version was saved before this job was done."""
    recount: RecountProgress | None
    """None: the version changed nothing about what counts."""


async def current(connection: AsyncConnection) -> SettingsRecord:
    """Return the settings in force."""
    return _record((await connection.execute(_CURRENT)).one())


async def history(
    connection: AsyncConnection, most: int, before: int | None = None
) -> tuple[list[SettingsRecord], int]:
    """Return versions older than ``before``, the newest first, and the number of all versions."""
    rows = (await connection.execute(_HISTORY, {"before": before, "most": most})).all()
    total = int((await connection.execute(_COUNT)).scalar_one())
    return [_record(row) for row in rows], total


def merged(settings: SegmentSettings, changes: dict[str, Any]) -> SegmentSettings:
    """Return the settings with these changes. Raises pydantic's ValidationError."""
    return SegmentSettings.model_validate(settings.model_dump() | changes)


async def preview(
    connection: AsyncConnection, proposed: SegmentSettings, now: datetime | None = None
) -> Preview:
    """Return which customers would be in which segment if these settings were applied.

    Holds are respected. Without automatic segmentation, no customer moves. None for ``now`` means
    the database's clock.
    """
    now = now or await read_clock(connection)
    parameters = {**_columns(proposed), "now": now, "sample": SAMPLE}
    counting = {name: parameters[name] for name in COUNTING_SETTINGS}
    otherwise = (await connection.execute(_COUNTS_OTHERWISE, counting)).scalar_one()
    statement = _PREVIEW_OF_COUNTING if otherwise else _PREVIEW
    cells: dict[tuple[Segment, Segment], Cell] = {}
    for row in await connection.execute(statement, parameters):
        pair = Segment(row.previous), Segment(row.segment)
        cell = cells.setdefault(
            pair,
            Cell(
                *pair,
                row.customers,
                row.recounted,
                Sums(row.orders_before, row.revenue_before),
                Sums(row.orders_after, row.revenue_after),
                [],
            ),
        )
        cell.sample.append(
            PreviewedCustomer(
                row.id, row.name, row.total_orders, row.total_spent, row.last_order_date
            )
        )
    pairs = ((previous, segment) for previous in Segment for segment in Segment)
    return Preview([cells[pair] for pair in pairs if pair in cells])


async def save(
    connection: AsyncConnection, actor: str, changes: dict[str, Any], expected: int | None
) -> SettingsRecord:
    """Save a new version with these changes, start its job, and return the settings in force.

    If nothing changes, no version is made. An unfinished job of an older version ends here, because
    the new job begins with the first customer. The caller commits. Raises OutdatedError if the
    current version is not ``expected`` (None: any version), and pydantic's ValidationError.
    """
    await wait_for_lock(connection, AdvisoryLock.SETTINGS)
    before = await current(connection)
    if expected is not None and expected != before.version:
        raise OutdatedError(before)
    settings = merged(before.settings, changes)
    if settings == before.settings:
        return before
    await connection.execute(_LOCK_TIMEOUT)
    await connection.execute(_END_OLDER_JOB)
    await connection.execute(_LOCK_COUNTERS)
    version = before.version + 1
    await connection.execute(
        _INSERT, {"version": version, "changed_by": actor, **_columns(settings)}
    )
    counts_otherwise = any(
        getattr(settings, name) != getattr(before.settings, name) for name in COUNTING_SETTINGS
    )
    await connection.execute(
        _START_JOB,
        {
            "version": version,
            "judges": settings.auto_segmentation,
            "counted_since": before.version if counts_otherwise else None,
        },
    )
    old, new = before.settings.model_dump(), settings.model_dump()
    details = {name: [old[name], new[name]] for name in SETTINGS if old[name] != new[name]}
    await note(connection, actor, "settings.updated", details=details)
    return await current(connection)


async def progress(connection: AsyncConnection, version: int) -> Progress | None:
    """Return the progress of a version's job; None if it never had one."""
    row = (await connection.execute(_PROGRESS, {"version": version})).one_or_none()
    if row is None:
        return None
    recount, ends = None, [row.finished_at]
    if row.counted_since is not None:
        recount = RecountProgress(
            row.orders_total, row.orders_examined, row.orders_changed, row.recounted_at
        )
        ends.append(row.finished_at if row.counted_later else row.recounted_at)
    return Progress(
        version=row.version,
        total=row.total,
        examined=row.examined,
        moved=row.moved + row.customers_moved,
        started_at=row.started_at,
        finished_at=None if None in ends else max(ends),
        superseded=row.finished_at is not None
        and (row.examined < row.total or (row.counted_later and row.recounted_at is None)),
        recount=recount,
    )


def _columns(settings: SegmentSettings) -> dict[str, Any]:
    return settings.model_dump() | {
        "precedence": settings.precedence.value,
        "count_from": settings.count_from.value,
    }


def _record(row: Row[Any]) -> SettingsRecord:
    settings = SegmentSettings.model_validate({name: getattr(row, name) for name in SETTINGS})
    return SettingsRecord(row.version, row.changed_at, row.changed_by, settings)
