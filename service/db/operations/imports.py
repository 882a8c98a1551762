"""The imports of the dashboard and the API: the files that were uploaded, and what came of them.

A file is stored in pieces, so that any web process can read it. The process that takes an import
says every second that it is alive. If it falls silent, the import counts as stopped, and any other
process may take it over. The process before then notices that the import is no longer its own.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.core.import_states import ImportState
from service.core.json_values import dumps
from service.db.accounts.audit import note

PIECE_BYTES = 1 << 20
SILENT_SECONDS = 30
"""An import counts as stopped if its process has not been heard of for so long."""
KEPT_HOURS = 24
"""How long a file, its report and its refused lines are kept at most."""

_RUNNING = f"('{ImportState.PREVIEWING}', '{ImportState.IMPORTING}')"
_STATE = f"""CASE
    WHEN state IN {_RUNNING}
      AND seen_at < clock_timestamp() - interval '{SILENT_SECONDS} seconds'
    THEN '{ImportState.STOPPED}' ELSE state END"""
_HAS = "EXISTS (SELECT FROM import_pieces p WHERE p.import_id = i.id AND p.part = '{}')"
_COLUMNS = f"""id, begun_at, begun_by, file_name, size, changed_at, options, applies,
  {_STATE} AS state, step, done, total, finished_at, summary, report, error,
  {_HAS.format("file")} AS has_file, {_HAS.format("refused")} AS has_refused"""

_BEGIN = text(f"""
INSERT INTO imports (begun_by, file_name, state)
VALUES (:actor, :file_name, '{ImportState.UPLOADING}') RETURNING id
""")
_RECORD = text(f"""
INSERT INTO imports
  (begun_by, begun_at, file_name, size, state, applies, finished_at, summary)
VALUES (:actor, :begun_at, :file_name, :size, '{ImportState.DONE}', true, clock_timestamp(),
  CAST(:summary AS jsonb))
RETURNING id
""")
_ADD_PIECE = text("INSERT INTO import_pieces VALUES (:id, :part, :number, :content)")
_DROP_PART = text("DELETE FROM import_pieces WHERE import_id = :id AND part = :part")
_PIECE = text("""
SELECT content FROM import_pieces WHERE import_id = :id AND part = :part AND number = :number
""")
_FIND = text(f"SELECT {_COLUMNS} FROM imports i WHERE id = :id")
_LATEST = text(f"""
SELECT {_COLUMNS} FROM imports i
WHERE state <> '{ImportState.UPLOADING}' AND id < coalesce(CAST(:before AS bigint), 1 << 62)
ORDER BY id DESC LIMIT :most
""")
_COUNT = text(f"SELECT count(*) FROM imports WHERE state <> '{ImportState.UPLOADING}'")
# Whoever takes an import must find it as they saw it: at rest, and with its file.
_TAKE = text(f"""
UPDATE imports i SET
  state = CASE WHEN :applies THEN '{ImportState.IMPORTING}' ELSE '{ImportState.PREVIEWING}' END,
  applies = :applies, runner = :runner, seen_at = clock_timestamp(), finished_at = NULL,
  step = NULL, done = 0, total = 0, error = NULL,
  size = coalesce(CAST(:size AS bigint), size),
  changed_at = coalesce(CAST(:changed_at AS timestamptz), changed_at),
  options = coalesce(CAST(:options AS jsonb), options)
WHERE id = :id AND {_STATE} = ANY(:states) AND {_HAS.format("file")}
RETURNING id
""")
_SEEN = text(f"""
UPDATE imports SET seen_at = clock_timestamp()
WHERE runner = :runner AND state IN {_RUNNING}
""")
_PROGRESS = text(f"""
UPDATE imports SET seen_at = clock_timestamp(), step = :step, done = :done, total = :total
WHERE id = :id AND runner = :runner AND state IN {_RUNNING}
RETURNING id
""")
_END = text(f"""
UPDATE imports SET state = :state, finished_at = clock_timestamp(), runner = NULL,
  summary = coalesce(CAST(:summary AS jsonb), summary),
  report = coalesce(CAST(:report AS jsonb), report), error = :error
WHERE id = :id AND runner = :runner AND state IN {_RUNNING}
RETURNING id
""")
_STOP = text(f"""
UPDATE imports SET state = '{ImportState.STOPPED}', runner = NULL, finished_at = clock_timestamp()
WHERE id = :id AND state IN {_RUNNING}
RETURNING id
""")
_STOP_ALL = text(f"""
UPDATE imports SET state = '{ImportState.STOPPED}', runner = NULL, finished_at = clock_timestamp()
WHERE runner = :runner AND state IN {_RUNNING}
""")
_DELETE = text(f"""
DELETE FROM imports i WHERE id = :id AND NOT applies AND {_STATE} NOT IN {_RUNNING} RETURNING id
""")
_FORGET = text(f"""
WITH old AS (
  SELECT id, applies FROM imports i
  WHERE coalesce(finished_at, seen_at, begun_at)
      < clock_timestamp() - interval '{KEPT_HOURS} hours'
    AND (report IS NOT NULL OR error IS NOT NULL OR NOT applies
         OR {_HAS.format("file")} OR {_HAS.format("refused")})
  ORDER BY id LIMIT 10 FOR UPDATE SKIP LOCKED
),
pieces AS (
  DELETE FROM import_pieces WHERE import_id IN (SELECT id FROM old WHERE applies)
),
emptied AS (
  UPDATE imports SET report = NULL, error = NULL, options = '{{}}',
    state = {_STATE}
  WHERE applies AND id IN (SELECT id FROM old)
),
gone AS (
  DELETE FROM imports WHERE NOT applies AND id IN (SELECT id FROM old)
)
SELECT count(*) FROM old
""")


class Part(StrEnum):
    """What is stored in pieces."""

    FILE = "file"
    REFUSED = "refused"
    """The CSV file that lists the refused lines."""


class Import(NamedTuple):
    """An import, as it stands."""

    id: int
    begun_at: datetime
    begun_by: str
    file_name: str
    size: int
    changed_at: datetime | None
    """When the file was last changed, if that is known."""
    options: Mapping[str, Any]
    state: ImportState
    applies: bool
    """Whether the latest run writes. If not, it is a dry run."""
    step: str | None
    """What the run is doing."""
    done: int
    total: int
    finished_at: datetime | None
    summary: Sequence[Mapping[str, Any]] | None
    """For each kind of records in the file: what it is, and the counts of the latest run."""
    report: Sequence[Mapping[str, Any]] | None
    """The same with everything that the latest run says. None: it is too old."""
    error: str | None
    has_file: bool
    has_refused: bool

    @property
    def running(self) -> bool:
        """Whether a process works on it."""
        return self.state in {ImportState.PREVIEWING, ImportState.IMPORTING}


async def begin(connection: AsyncConnection, actor: str, file_name: str) -> int:
    """Create an import whose file is about to arrive, and return its number."""
    parameters = {"actor": actor, "file_name": file_name}
    return int((await connection.execute(_BEGIN, parameters)).scalar_one())


async def add_piece(
    connection: AsyncConnection, number: int, part: Part, place: int, content: bytes
) -> None:
    """Store the next piece of a file."""
    piece = {"id": number, "part": part, "number": place, "content": content}
    await connection.execute(_ADD_PIECE, piece)


async def drop_part(connection: AsyncConnection, number: int, part: Part) -> None:
    """Delete what is stored of a file."""
    await connection.execute(_DROP_PART, {"id": number, "part": part})


async def pieces(engine: AsyncEngine, number: int, part: Part) -> AsyncIterator[bytes]:
    """Yield what is stored of a file. Only one piece is in memory."""
    place = 0
    while True:
        async with engine.connect() as connection:
            wanted = {"id": number, "part": part, "number": place}
            piece = (await connection.execute(_PIECE, wanted)).scalar_one_or_none()
        if piece is None:
            return
        yield bytes(piece)
        place += 1


async def find(connection: AsyncConnection, number: int) -> Import | None:
    """Return an import; None if there is none."""
    row = (await connection.execute(_FIND, {"id": number})).one_or_none()
    return None if row is None else _import(row)


async def latest(
    connection: AsyncConnection, before: int | None, most: int
) -> tuple[list[Import], int]:
    """Return the imports that were begun last, before the one with this number, and the total."""
    rows = await connection.execute(_LATEST, {"before": before, "most": most})
    total = (await connection.execute(_COUNT)).scalar_one()
    return [_import(row) for row in rows], int(total)


def _import(row: Any) -> Import:
    found = Import(**{name: getattr(row, name) for name in Import._fields})
    return found._replace(state=ImportState(found.state))


async def take(  # noqa: PLR0913 - what there is to say at the start
    connection: AsyncConnection,
    number: int,
    runner: str,
    *,
    applies: bool,
    states: Sequence[ImportState],
    options: Mapping[str, Any] | None = None,
    size: int | None = None,
    changed_at: datetime | None = None,
) -> bool:
    """Give an import in one of these states to a process; the caller commits.

    Return False if it is in another state, or if its file is gone.
    """
    taken = await connection.execute(
        _TAKE,
        {
            "id": number,
            "runner": runner,
            "applies": applies,
            "states": [state.value for state in states],
            "options": None if options is None else dumps(options).decode(),
            "size": size,
            "changed_at": changed_at,
        },
    )
    return taken.one_or_none() is not None


async def note_alive(connection: AsyncConnection, runner: str) -> None:
    """Note that a process is alive, for all imports that it has taken."""
    await connection.execute(_SEEN, {"runner": runner})


async def note_progress(
    connection: AsyncConnection, number: int, runner: str, step: str | None, done: int, total: int
) -> bool:
    """Note how far an import is. Return False if it no longer belongs to this process."""
    progress = {"id": number, "runner": runner, "step": step, "done": done, "total": total}
    return (await connection.execute(_PROGRESS, progress)).one_or_none() is not None


async def end(  # noqa: PLR0913 - what there is to say at the end
    connection: AsyncConnection,
    number: int,
    runner: str,
    actor: str,
    state: ImportState,
    *,
    summary: Sequence[Mapping[str, Any]] | None = None,
    report: Sequence[Mapping[str, Any]] | None = None,
    error: str | None = None,
) -> None:
    """Note how a run ended, unless the import no longer belongs to this process.

    The file of an import that is done is deleted, and the audit has what was imported.
    """
    ended = await connection.execute(
        _END,
        {
            "id": number,
            "runner": runner,
            "state": state,
            "summary": None if summary is None else dumps(summary).decode(),
            "report": None if report is None else dumps(report).decode(),
            "error": error,
        },
    )
    if ended.one_or_none() is not None and state is ImportState.DONE:
        await drop_part(connection, number, Part.FILE)
        await _note(connection, actor, number, summary)


async def record(
    connection: AsyncConnection,
    actor: str,
    file_name: str,
    *,
    size: int,
    begun_at: datetime,
    summary: Sequence[Mapping[str, Any]],
) -> None:
    """Note an import that somebody has made on the command line; the caller commits."""
    recorded = await connection.execute(
        _RECORD,
        {
            "actor": actor,
            "file_name": file_name,
            "size": size,
            "begun_at": begun_at,
            "summary": dumps(summary).decode(),
        },
    )
    await _note(connection, actor, recorded.scalar_one(), summary)


async def _note(
    connection: AsyncConnection,
    actor: str,
    number: int,
    summary: Sequence[Mapping[str, Any]] | None,
) -> None:
    await note(connection, actor, "file.imported", details={"import": number, "parts": summary})


async def stop(connection: AsyncConnection, number: int) -> bool:
    """Take a running import away from its process. Return False if it is not running."""
    return (await connection.execute(_STOP, {"id": number})).one_or_none() is not None


async def stop_all(connection: AsyncConnection, runner: str) -> None:
    """Note that a process, which is about to end, gives up its imports."""
    await connection.execute(_STOP_ALL, {"runner": runner})


async def delete(connection: AsyncConnection, number: int) -> bool:
    """Delete an import that has written nothing, and its file. Return False if there is none."""
    return (await connection.execute(_DELETE, {"id": number})).one_or_none() is not None


async def forget_old(connection: AsyncConnection) -> int | None:
    """Delete what is personal of a few imports that are older than a day.

    Those that have written nothing are deleted as a whole. None: there are none left.
    """
    return int((await connection.execute(_FORGET)).scalar_one()) or None
