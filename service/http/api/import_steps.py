"""The steps of an import that pages and API share: send, look, import, stop, delete."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from fastapi import Request
from starlette.responses import StreamingResponse

from service.core.import_states import ImportState
from service.core.scopes import Actor
from service.db.engine import in_transaction
from service.db.operations import imports
from service.db.operations.imports import PIECE_BYTES, Import, Part
from service.http.body_limits import file_too_large
from service.http.problems import ProblemError, invalid
from service.http.state import snapshot, state_of
from service.http.uploads import Upload
from service.transfer.import_options import ImportOptions

_CHANGES = (ImportState.READY, ImportState.FAILED, ImportState.STOPPED)
"""The states in which another run may begin."""
_YES = {"yes", "true", "on", "1"}
FIELDS = (
    "kind", "format", "map", "set", "encoding", "timeZone", "dateFormat", "source", "asOf",
    "clearEmpty", "holdSegments",
)  # fmt: skip
"""The fields of a form that are options of the import."""
_OTHER_FIELDS = {"changedAt", "csrf", "options"}


def not_found() -> ProblemError:
    """Return the problem for an import that does not exist."""
    return ProblemError(404, "Not found", "There is no such import. Perhaps it was deleted.")


async def existing(request: Request, number: int) -> Import:
    """Return an import, or raise a problem."""
    async with snapshot(request) as connection:
        found = await imports.find(connection, number)
    if found is None or found.state is ImportState.UPLOADING:
        raise not_found()
    return found


def options_of(fields: Mapping[str, Sequence[str]]) -> ImportOptions:
    """Return the options that a form says. ``map`` and ``set`` may have several lines.

    Raises a problem if a field is no option: a misspelt one would be ignored in silence.
    """
    if unknown := sorted(fields.keys() - _OTHER_FIELDS - set(FIELDS)):
        raise invalid(unknown[0][:100], f"is no option; choose from {', '.join(FIELDS)}")

    def text(name: str) -> str:
        return (list(fields.get(name, ())) or [""])[-1].strip()

    def lines(name: str) -> list[str]:
        texts = "\n".join(fields.get(name, ())).splitlines()
        return [line.strip() for line in texts if line.strip()]

    return ImportOptions(
        kind=text("kind"),
        format=text("format"),
        mapping=lines("map"),
        constants=lines("set"),
        encoding=text("encoding"),
        time_zone=text("timeZone"),
        date_format=text("dateFormat"),
        source=text("source"),
        as_of=text("asOf"),
        clear_empty=text("clearEmpty") in _YES,
        hold_segments=text("holdSegments") in _YES,
    )


async def received(request: Request, actor: Actor, upload: Upload) -> int:
    """Store the file of a form, and have a dry run begin. Return the number of the import."""
    if not upload.file_name:
        raise invalid("file", "is missing; choose a file")
    state = state_of(request)
    number = await in_transaction(state.engine, imports.begin, actor.name, upload.file_name)
    try:
        size = await _store(request, number, upload)
        await _take(request, actor, number, applies=False, upload=upload, size=size)
    except BaseException:
        await in_transaction(state.engine, imports.delete, number)
        raise
    return number


async def _store(request: Request, number: int, upload: Upload) -> int:
    """Store a file in pieces, each in a transaction. Return its size in bytes.

    Raises a problem for a file that is empty or too large.
    """
    most = state_of(request).config.max_import_bytes
    piece, place, size = bytearray(), 0, 0
    async for content in upload.content():
        size += len(content)
        if size > most:
            raise file_too_large(most)
        piece += content
        while len(piece) >= PIECE_BYTES:
            await _store_piece(request, number, place, bytes(piece[:PIECE_BYTES]))
            del piece[:PIECE_BYTES]
            place += 1
    if piece:
        await _store_piece(request, number, place, bytes(piece))
    if not size:
        raise invalid("file", "is empty; choose another file")
    return size


async def _store_piece(request: Request, number: int, place: int, content: bytes) -> None:
    await in_transaction(
        state_of(request).engine, imports.add_piece, number, Part.FILE, place, content
    )


async def run_again(
    request: Request,
    actor: Actor,
    number: int,
    *,
    applies: bool,
    options: ImportOptions | None = None,
) -> None:
    """Have a dry run or the import itself begin. Raises a problem if that is not possible now."""
    await _take(request, actor, number, applies=applies, options=options)


async def _take(
    request: Request,
    actor: Actor,
    number: int,
    *,
    applies: bool,
    options: ImportOptions | None = None,
    upload: Upload | None = None,
    size: int | None = None,
) -> None:
    runner = state_of(request).imports
    if upload:
        options = options_of(upload.fields)

    taken = await in_transaction(
        state_of(request).engine,
        lambda connection: imports.take(
            connection,
            number,
            runner.name,
            applies=applies,
            states=[ImportState.UPLOADING] if upload else _CHANGES,
            options=asdict(options) if options else None,
            size=size,
            changed_at=_changed_at(upload) if upload else None,
        ),
    )
    if not taken:
        found = await existing(request, number)
        detail = (
            "It is running already, or it is done. Load the page again."
            if found.has_file
            else "Its file is no longer here. Send it again."
        )
        raise ProblemError(409, "Cannot be imported now", detail)
    runner.add(number, actor.name)


def _changed_at(upload: Upload) -> datetime | None:
    """Return when the browser says that the file was changed last, in milliseconds."""
    text = upload.text("changedAt")
    if not (text.isascii() and text.isdecimal() and len(text) < 15):  # noqa: PLR2004  year 5138
        return None
    return min(datetime.fromtimestamp(int(text) / 1000, UTC), datetime.now(UTC))


async def stop(request: Request, number: int) -> None:
    """Stop a running import. What it has written stays."""
    await in_transaction(state_of(request).engine, imports.stop, number)


async def delete(request: Request, number: int) -> None:
    """Delete an import that has written nothing. Raises a problem if it is another one."""
    if not await in_transaction(state_of(request).engine, imports.delete, number):
        await existing(request, number)
        detail = "It is running, or it has written something. Then its record stays."
        raise ProblemError(409, "Cannot be deleted", detail)


def refused_csv(request: Request, found: Import) -> StreamingResponse:
    """Return the list of refused lines as a file."""
    if not found.has_refused:
        raise ProblemError(404, "Not found", "No line was refused, or the list is too old.")
    return StreamingResponse(
        imports.pieces(state_of(request).engine, found.id, Part.REFUSED),
        media_type="text/csv; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="import-{found.id}-refused.csv"',
            "Cache-Control": "no-store",
        },
    )
