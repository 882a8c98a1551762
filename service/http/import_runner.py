"""Run the imports of the dashboard and the API in this process, one at a time.

An import reads a file from the disk and takes much CPU time, so it has a thread with an event loop
and a database connection of its own. The process goes on answering requests. If it dies, its
imports count as stopped after `SILENT_SECONDS`, and somebody can have them go on elsewhere:
importing again changes nothing twice.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.config import Config
from service.core.import_states import ImportState
from service.core.printable import printable
from service.db.engine import DATABASE_AWAY, in_transaction
from service.db.installation import OtherCurrencyError
from service.db.operations import imports
from service.db.operations.imports import KEPT_HOURS, PIECE_BYTES, Import, Part
from service.http.problems import log_database_error
from service.server_trouble import why_away
from service.transfer.import_options import ImportOptions, OptionError
from service.transfer.import_report import report, summary
from service.transfer.importer import ImportRequest, import_file
from service.transfer.reading.record import Suggestion, UnreadableError

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
"""How often progress is written, and how often the process looks whether it shall stop."""
_FOLDER = "crm-import-"
"""How the names of temporary folders begin."""
_PATIENCE_SECONDS = 5.0
_FAILED = "The service failed. The log of the web process says why."


def _in_the_form(suggestion: Suggestion) -> str:
    """Write a suggestion for the options of a form."""
    chosen = f"format {suggestion.format} and " if suggestion.format else ""
    columns = ", ".join(f"{theirs}={ours}" for theirs, ours in suggestion.mapping)
    return f"{chosen}columns {columns}"


class _GivenUpError(Exception):
    """The import is no longer to be run by this process."""


class ImportRunner:
    """Runs the imports that this process has taken, in the order in which it took them."""

    def __init__(self, config: Config, engine: AsyncEngine) -> None:
        """Create it. Nothing runs until `run` is called."""
        self.name = uuid.uuid4().hex
        """The name of this process, in the table of imports."""
        self._config = config
        self._engine = engine
        self._waiting: asyncio.Queue[tuple[int, str]] = asyncio.Queue()

    def add(self, number: int, actor: str) -> None:
        """Run an import, which this process has taken, when those before it are done."""
        self._waiting.put_nowait((number, actor))

    async def run(self) -> None:
        """Run imports until it is cancelled. Those that are left then are noted as stopped."""
        alive = asyncio.create_task(self._stay_alive())
        try:
            while True:
                number, actor = await self._waiting.get()
                try:
                    await self._run_one(number, actor)
                except Exception:  # then the import counts as stopped
                    log.exception("the end of an import was not noted")
        finally:
            alive.cancel()
            with contextlib.suppress(*DATABASE_AWAY):
                await in_transaction(self._engine, imports.stop_all, self.name)

    async def _stay_alive(self) -> None:
        """Say every second that this process is alive, while it has an import that waits."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if not self._waiting.empty():
                await self._unless_away(imports.note_alive, self.name)

    async def _run_one(self, number: int, actor: str) -> None:
        """Run an import, and note how it ended."""
        end: dict[str, Any] = {"state": ImportState.FAILED}
        try:
            async with self._engine.connect() as connection:
                found = await imports.find(connection, number)
            if found is None or not found.running:
                return  # somebody has stopped it while it waited
            end = await self._imported(found, actor)
        except _GivenUpError:
            return
        except UnreadableError as error:
            end["error"] = printable(f"The file {error.told(_in_the_form)}.")
        except (OptionError, OtherCurrencyError) as error:
            end["error"] = printable(f"An option cannot be used: {error}.")
        except DATABASE_AWAY as error:
            log_database_error(error)
            end["error"] = f"The database was away ({why_away(error)})."
        except Exception:
            log.exception("an import failed")
            end["error"] = _FAILED
        await self._unless_away(self._end, number, actor, end)

    async def _end(
        self, connection: AsyncConnection, number: int, actor: str, end: dict[str, Any]
    ) -> None:
        await imports.end(connection, number, self.name, actor, **end)

    @staticmethod
    def _clear() -> None:
        """Delete the copies that processes left which were killed more than a day ago."""
        for left in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
            if time.time() - left.stat().st_mtime > KEPT_HOURS * 3600:
                shutil.rmtree(left, ignore_errors=True)

    async def _imported(self, found: Import, actor: str) -> dict[str, Any]:
        """Run an import on a copy of its file that only this user can read.

        Return the arguments of `imports.end`.
        """
        await asyncio.to_thread(self._clear)
        with tempfile.TemporaryDirectory(prefix=_FOLDER) as folder:
            path = Path(folder) / Path(found.file_name).name
            await self._copy(found.id, path)
            changed_at = (found.changed_at or found.begun_at).timestamp()
            os.utime(path, (changed_at, changed_at))
            options = ImportOptions(**found.options)
            request = options.request(path, apply=found.applies, actor=actor)
            outcomes = await self._watched(found.id, request)
            await self._store_refused(found.id, request.refused_path)
        reports = [report(outcome) for outcome in outcomes]
        return {
            "state": ImportState.DONE if found.applies else ImportState.READY,
            "summary": [summary(each) for each in reports],
            "report": reports,
        }

    async def _copy(self, number: int, path: Path) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            async for piece in imports.pieces(self._engine, number, Part.FILE):
                file.write(piece)

    async def _watched(self, number: int, request: ImportRequest) -> Sequence[Any]:
        """Import in a thread, and write its progress meanwhile."""
        progress: list[Any] = [None, 0, 0]
        given_up = False

        def note(step: str, done: int, total: int) -> None:
            if given_up:
                raise _GivenUpError
            progress[:] = step, done, total

        def work() -> Sequence[Any]:
            return asyncio.run(import_file(self._config, request, note))

        thread = asyncio.create_task(asyncio.to_thread(work))
        try:
            while not (await asyncio.wait({thread}, timeout=_LOOK_SECONDS))[0]:
                still_ours = await self._unless_away(
                    imports.note_progress, number, self.name, *progress
                )
                given_up = given_up or still_ours is False
            return await thread
        except asyncio.CancelledError:
            given_up = True
            await asyncio.wait({thread}, timeout=_PATIENCE_SECONDS)  # it ends with its batch
            raise

    async def _store_refused(self, number: int, path: Path) -> None:
        """Store the list of refused lines in place of that of the run before."""
        await in_transaction(self._engine, imports.drop_part, number, Part.REFUSED)
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            for place, piece in enumerate(iter(lambda: file.read(PIECE_BYTES), b"")):
                await in_transaction(
                    self._engine, imports.add_piece, number, Part.REFUSED, place, piece
                )

    async def _unless_away(self, work: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Do something in a transaction. Return None if the database is away."""
        try:
            return await in_transaction(self._engine, work, *arguments)
        except DATABASE_AWAY as error:
            log.warning("the state of an import was not noted: %s", type(error).__name__)
            return None
