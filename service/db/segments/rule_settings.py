"""The segment settings: read them, preview a change, save a new version.

The preview runs the same SQL that applies the settings. Saving writes a new version and a job for
`service.db.segments.reclassify`. Every customer who is judged after that is judged by the new
settings. So the job only has to find the customers whom the old settings left in another segment.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_rules import Segment, SegmentSettings
from service.db.accounts.audit import note
from service.db.locks import AdvisoryLock, read_clock, wait_for_lock
from service.db.segments.assign import AS_THEY_ARE, JUDGED
from service.db.segments.rules_sql import PROPOSED_SETTINGS, SETTINGS

VERSION_DIGITS = 9
"""A version with this many digits always fits into PostgreSQL's integer."""
NO_VERSION = -1
"""The expected version if the client sent a text that cannot be a version. It matches no version,
so saving fails."""
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
_START_JOB = text("""
INSERT INTO settings_changes (version, total, finished_at)
SELECT CAST(:version AS integer), CASE WHEN :runs THEN sum(customers) ELSE 0 END,
       CASE WHEN NOT :runs THEN clock_timestamp() END
FROM segment_counters
""")
_PROGRESS = text("SELECT * FROM settings_changes WHERE version = :version")

_PREVIEW = text(f"""
WITH {PROPOSED_SETTINGS},
after AS ({AS_THEY_ARE}), {JUDGED},
cells AS (
  SELECT segment, judged_segment, count(*) AS customers, array_agg(id) AS ids
  FROM judged GROUP BY segment, judged_segment
)
SELECT cells.segment AS previous, cells.judged_segment AS segment, cells.customers,
       c.id, c.name, c.total_orders, c.total_spent, c.last_order_date
FROM cells
CROSS JOIN LATERAL (SELECT i.id FROM unnest(cells.ids) AS i(id) ORDER BY i.id LIMIT :sample) f
CROSS JOIN LATERAL (SELECT * FROM customers WHERE id = f.id OFFSET 0) c
ORDER BY c.id
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


class Cell(NamedTuple):
    """The customers who are in segment ``previous`` and would be in ``segment``."""

    previous: Segment
    segment: Segment
    customers: int
    sample: list[PreviewedCustomer]
    """The customers with the smallest ids, `SAMPLE` at most."""


class Progress(NamedTuple):
    """The progress of the job that judges all customers by a version of the settings."""

    version: int
    total: int
    examined: int
    moved: int
    started_at: datetime
    finished_at: datetime | None

    @property
    def superseded(self) -> bool:
        """Return whether a newer version was saved before this job was done."""
        return self.finished_at is not None and self.examined < self.total


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
) -> list[Cell]:
    """Return which customers would be in which segment if these settings were applied.

    There is one cell for each pair of segments that has customers, in the order of the lifecycle.
    Holds are respected. Without automatic segmentation, no customer moves. None for ``now`` means
    the database's clock.
    """
    now = now or await read_clock(connection)
    parameters = {**_columns(proposed), "now": now, "sample": SAMPLE}
    cells: dict[tuple[Segment, Segment], Cell] = {}
    for row in await connection.execute(_PREVIEW, parameters):
        pair = Segment(row.previous), Segment(row.segment)
        cell = cells.setdefault(pair, Cell(*pair, row.customers, []))
        cell.sample.append(
            PreviewedCustomer(
                row.id, row.name, row.total_orders, row.total_spent, row.last_order_date
            )
        )
    pairs = ((previous, segment) for previous in Segment for segment in Segment)
    return [cells[pair] for pair in pairs if pair in cells]


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
    await connection.execute(_START_JOB, {"version": version, "runs": settings.auto_segmentation})
    old, new = before.settings.model_dump(), settings.model_dump()
    details = {name: [old[name], new[name]] for name in SETTINGS if old[name] != new[name]}
    await note(connection, actor, "settings.updated", details=details)
    return await current(connection)


async def progress(connection: AsyncConnection, version: int) -> Progress | None:
    """Return the progress of a version's job; None if it never had one."""
    row = (await connection.execute(_PROGRESS, {"version": version})).one_or_none()
    return None if row is None else Progress(*(getattr(row, name) for name in Progress._fields))


def _columns(settings: SegmentSettings) -> dict[str, Any]:
    return settings.model_dump() | {"precedence": settings.precedence.value}


def _record(row: Row[Any]) -> SettingsRecord:
    settings = SegmentSettings.model_validate({name: getattr(row, name) for name in SETTINGS})
    return SettingsRecord(row.version, row.changed_at, row.changed_by, settings)
