"""Record what somebody else wrote to a stream of ours, for people."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.foreign_kinds import ForeignKind
from service.core.stream_ids import StreamId, write
from service.db.accounts.audit import note

MOST_APART = 100
"""Open records of one kind that are kept apart, if the caller wants them to be. Then they grow."""

# Somebody who writes again and again is recorded once, as a record that grows.
_EXTEND = text("""
UPDATE foreign_entries SET last_id = :last_id, entries = entries + :entries,
  last_noticed_at = clock_timestamp()
WHERE id = (
  SELECT max(id) FROM foreign_entries
  WHERE stream = :stream AND kind = :kind AND acknowledged_at IS NULL
    AND last_noticed_at > clock_timestamp() - interval '10 minutes'
    AND (SELECT count(*) FROM foreign_entries
         WHERE stream = :stream AND kind = :kind AND acknowledged_at IS NULL) >= :least)
""")
_ADD = text("""
INSERT INTO foreign_entries (stream, kind, first_id, last_id, entries, reason, sample, noticed_at,
  last_noticed_at)
VALUES (:stream, :kind, :first_id, :last_id, :entries, :reason, :sample, clock_timestamp(),
  clock_timestamp())
""")
_RECORDS = text("""
SELECT id, stream, kind, first_id, last_id, entries, reason, sample, noticed_at, last_noticed_at,
       acknowledged_at, acknowledged_by
FROM foreign_entries WHERE acknowledged_at IS NULL OR NOT :open_only ORDER BY id DESC LIMIT :most
""")
_SUMMARY = text("""
SELECT coalesce(sum(entries), 0)::bigint AS entries,
       count(*) FILTER (WHERE acknowledged_at IS NULL) AS open,
       (SELECT count(*) FROM unknown_changes) AS unknown
FROM foreign_entries
""")
_ACKNOWLEDGE = text("""
UPDATE foreign_entries SET acknowledged_at = clock_timestamp(), acknowledged_by = :by
WHERE id = :id AND acknowledged_at IS NULL
""")
_DECIDED = text("""
UPDATE foreign_entries SET acknowledged_at = clock_timestamp(), acknowledged_by = :by
WHERE stream = :stream AND kind = 'unknown' AND acknowledged_at IS NULL
""")


class Noticed(NamedTuple):
    """An entry that somebody else wrote."""

    id: StreamId
    reason: str
    sample: bytes
    """Its beginning."""


class ForeignRecord(NamedTuple):
    """What somebody else did to a stream, as people see it."""

    id: int
    stream: str
    kind: ForeignKind
    first_id: str
    last_id: str
    entries: int
    reason: str
    """What is wrong with the first of them."""
    sample: bytes
    noticed_at: datetime
    last_noticed_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str | None


class ForeignSummary(NamedTuple):
    """How much somebody else wrote."""

    entries: int
    """Entries recorded so far."""
    open: int
    """Records that nobody has acknowledged."""
    unknown: int
    """Changes on which `crm recover` must decide."""


async def record(
    connection: AsyncConnection,
    stream: str,
    kind: ForeignKind,
    noticed: Sequence[Noticed],
    *,
    entries: int | None = None,
    apart: bool = False,
) -> bool:
    """Record entries; return False if they continue an open record. The caller commits.

    ``entries`` is how many to count, if not all. With ``apart`` they become a record of their own,
    unless there are `MOST_APART` already.
    """
    if not noticed:
        return False
    first, last = noticed[0], noticed[-1]
    row: dict[str, Any] = {
        "stream": stream,
        "kind": kind.value,
        "first_id": write(first.id),
        "last_id": write(last.id),
        "entries": len(noticed) if entries is None else entries,
        "reason": first.reason,
        "sample": first.sample,
        "least": MOST_APART if apart else 0,
    }
    if (await connection.execute(_EXTEND, row)).rowcount:
        return False
    await connection.execute(_ADD, row)
    return True


async def records(
    connection: AsyncConnection, *, most: int = 50, open_only: bool = False
) -> Sequence[ForeignRecord]:
    """Return what was recorded, the latest first."""
    rows = await connection.execute(_RECORDS, {"most": most, "open_only": open_only})
    return [ForeignRecord(*row)._replace(kind=ForeignKind(row.kind)) for row in rows]


async def summary(connection: AsyncConnection) -> ForeignSummary:
    """Count what was recorded."""
    return ForeignSummary(*(await connection.execute(_SUMMARY)).one())


async def acknowledge(connection: AsyncConnection, record_id: int, by: str) -> bool:
    """Acknowledge a record in somebody's name; return False if no open one has this id."""
    acknowledged = await connection.execute(_ACKNOWLEDGE, {"id": record_id, "by": by})
    if acknowledged.rowcount:
        await note(connection, by, "foreign.acknowledged", details={"record": record_id})
    return bool(acknowledged.rowcount)


async def acknowledge_unknown(connection: AsyncConnection, stream: str, by: str) -> None:
    """Acknowledge what was recorded of unknown changes, because somebody has decided on them."""
    await connection.execute(_DECIDED, {"stream": stream, "by": by})
