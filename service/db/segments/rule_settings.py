"""The segment settings: read, previewed by the very code that applies them, saved as versions.

Saving only writes a version and the job that `service.db.segments.reclassify` works off: everybody
who is judged after that is judged by the new settings, so the job has but to find those whom the
old ones left elsewhere.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_rules import Segment, SegmentSettings
from service.db.accounts.audit import note
from service.db.locks import AdvisoryLock, read_clock
from service.db.segments.assign import AS_THEY_ARE, JUDGED
from service.db.segments.rules_sql import PROPOSED_SETTINGS, SETTINGS

VERSION_DIGITS = 9
"""Versions of so many digits always fit into PostgreSQL's integer."""
NO_VERSION = -1
"""What a caller expects who has read no version there ever was."""
SAMPLE = 5
"""Customers shown of each cell of a preview."""

_CURRENT = text("SELECT * FROM settings ORDER BY version DESC LIMIT 1")
_HISTORY = text("""
SELECT * FROM settings WHERE version < coalesce(CAST(:before AS integer), 2147483647)
ORDER BY version DESC LIMIT :most
""")
_COUNT = text("SELECT count(*) FROM settings")
_TAKE_TURNS = text("SELECT pg_advisory_xact_lock(:lock)")
_SUPERSEDE = text(
    "UPDATE settings_changes SET finished_at = clock_timestamp() WHERE finished_at IS NULL"
)
# Every statement that judges by the settings writes the counters, too. Once this lock is held,
# whoever judged by the old ones has committed, and whoever comes waits and will see the new.
_PATIENCE = text("SET LOCAL lock_timeout = '5s'")
_NOBODY_JUDGES = text("LOCK TABLE segment_counters IN SHARE MODE")
_INSERT = text(f"""
INSERT INTO settings (version, changed_at, changed_by, {", ".join(SETTINGS)})
VALUES (:version, clock_timestamp(), :changed_by, {", ".join(f":{name}" for name in SETTINGS)})
""")
_START = text("""
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
    """The settings were changed since the caller read them; `args[0]` is the version now."""


class SettingsRecord(NamedTuple):
    """Settings, and who made them so when."""

    version: int
    changed_at: datetime
    changed_by: str
    settings: SegmentSettings


class PreviewedCustomer(NamedTuple):
    """One whom a preview shows."""

    id: int
    name: str | None
    total_orders: int
    total_spent: Decimal
    last_order_date: datetime | None


class Cell(NamedTuple):
    """The customers who are in one segment and would be in another, or the same."""

    previous: Segment
    segment: Segment
    customers: int
    sample: list[PreviewedCustomer]
    """The first by id, at most `SAMPLE`."""


class Progress(NamedTuple):
    """How far the customers have been judged by a version of the settings."""

    version: int
    total: int
    examined: int
    moved: int
    started_at: datetime
    finished_at: datetime | None

    @property
    def superseded(self) -> bool:
        """A newer version began before this one was through."""
        return self.finished_at is not None and self.examined < self.total


async def current(connection: AsyncConnection) -> SettingsRecord:
    """Read the settings in force."""
    return _version((await connection.execute(_CURRENT)).one())


async def history(
    connection: AsyncConnection, most: int, before: int | None = None
) -> tuple[list[SettingsRecord], int]:
    """List versions older than ``before``, the newest first, and count all there are."""
    rows = (await connection.execute(_HISTORY, {"before": before, "most": most})).all()
    total = int((await connection.execute(_COUNT)).scalar_one())
    return [_version(row) for row in rows], total


def merged(settings: SegmentSettings, given: dict[str, Any]) -> SegmentSettings:
    """Change the fields given. Raises pydantic's ValidationError for what cannot be."""
    return SegmentSettings.model_validate(settings.model_dump() | given)


async def preview(
    connection: AsyncConnection, proposed: SegmentSettings, now: datetime | None = None
) -> list[Cell]:
    """Say who would be where, had these settings been applied at ``now`` (None: the clock).

    One cell per pair of segments that anybody is in, in the order of the lifecycle. Holds are
    respected; without automatic segmentation nobody moves.
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
    return [cells[a, b] for a in Segment for b in Segment if (a, b) in cells]


async def save(
    connection: AsyncConnection, actor: str, given: dict[str, Any], expected: int | None
) -> SettingsRecord:
    """Make a version of the current settings with the fields given changed, and start its job.

    What changes nothing makes no version. An unfinished job of an older version ends here, since
    the new one begins with the first customer. The caller commits. Raises OutdatedError when the
    version is not the one ``expected``, and pydantic's ValidationError.
    """
    await connection.execute(_TAKE_TURNS, {"lock": AdvisoryLock.SETTINGS})
    before = await current(connection)
    if expected is not None and expected != before.version:
        raise OutdatedError(before)
    settings = merged(before.settings, given)
    if settings == before.settings:
        return before
    await connection.execute(_PATIENCE)
    await connection.execute(_SUPERSEDE)
    await connection.execute(_NOBODY_JUDGES)
    version = before.version + 1
    await connection.execute(
        _INSERT, {"version": version, "changed_by": actor, **_columns(settings)}
    )
    await connection.execute(_START, {"version": version, "runs": settings.auto_segmentation})
    old, new = before.settings.model_dump(), settings.model_dump()
    changed = {name: [old[name], new[name]] for name in SETTINGS if old[name] != new[name]}
    await note(connection, actor, "settings.updated", details=changed)
    return await current(connection)


async def progress(connection: AsyncConnection, version: int) -> Progress | None:
    """Tell how far the job of a version is; None: it never had one."""
    row = (await connection.execute(_PROGRESS, {"version": version})).one_or_none()
    return None if row is None else Progress(*(getattr(row, name) for name in Progress._fields))


def _columns(settings: SegmentSettings) -> dict[str, Any]:
    return settings.model_dump() | {"precedence": settings.precedence.value}


def _version(row: Row[Any]) -> SettingsRecord:
    settings = SegmentSettings.model_validate({name: getattr(row, name) for name in SETTINGS})
    return SettingsRecord(row.version, row.changed_at, row.changed_by, settings)
