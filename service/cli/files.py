"""``crm export`` and ``crm import``: customers and orders as files."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from service.cli.database import actor, connected, problem
from service.cli.output import (
    AsJson,
    camel,
    fail,
    note,
    number_of,
    print_json,
    progress,
    say,
)
from service.config import Config
from service.core.printable import printable
from service.db.installation import check_currency
from service.local.state import with_local_stack
from service.transfer.export import export
from service.transfer.importer import JSON_SUFFIXES, ImportOutcome, ImportRequest, import_file
from service.transfer.lines import FileKind, Verdict
from service.transfer.records import UnreadableError

_STANDARD_OUTPUT = Path("-")
_AWAY = (DBAPIError, PoolTimeoutError, ConnectionError, TimeoutError)


def export_command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="customers.csv, orders.ndjson, or - for standard output."
        ),
    ],
    *,
    kind: Annotated[
        FileKind | None,
        typer.Option(help="What to export. Without it: orders for .ndjson, else customers."),
    ] = None,
) -> None:
    """Write all customers as CSV, or all orders as lines of JSON.

    To move to another installation, export both and import both there, customers first. Addresses
    travel with the orders. Consent, pinned segments and the history do not travel.
    """
    what = kind or (FileKind.ORDERS if file.suffix.lower() in JSON_SUFFIXES else FileKind.CUSTOMERS)
    try:
        lines = asyncio.run(_export(with_local_stack(Config.load()), file, what))
    except _AWAY as error:
        fail(f"nothing was exported: {problem(error)}")
    except OSError as error:
        fail(f"{file}: {error.strerror or error}")
    where = "standard output" if file == _STANDARD_OUTPUT else file
    note(f"{number_of(lines, 'line', 'lines')} of {what} in {where}")


async def _export(config: Config, path: Path, kind: FileKind) -> int:
    async with connected(config, "crm export") as engine:
        await check_currency(engine, config.store_currency)
        with _output(path) as file:
            return await export(engine, kind, config.store_currency, file)


@contextmanager
def _output(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears when it is complete, and that only its owner can read.

    Standard output, and a device such as /dev/null, are written to directly.
    """
    if path == _STANDARD_OUTPUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    unfinished = path.with_name(f".{path.name}.unfinished")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def import_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="customers.csv, orders.csv or orders.ndjson.")
    ],
    *,
    kind: Annotated[
        FileKind | None,
        typer.Option(help="What the file holds. Without it, its columns and name decide."),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Import. Without it, nothing is written.")
    ] = False,
    name: Annotated[
        str, typer.Option("--as", metavar="NAME", help="The name that the audit records.")
    ] = "",
    encoding: Annotated[
        str, typer.Option(help="The file's encoding, such as cp1252 or utf-16.")
    ] = "utf-8-sig",
    hold_segments: Annotated[
        bool,
        typer.Option(
            "--hold-segments",
            help="Set each customer's segment to that of the file, until their next order. Without "
            "it, the rules decide from the orders.",
        ),
    ] = False,
    as_json: Annotated[bool, AsJson] = False,
) -> None:
    """Import customers or orders from a file.

    Without --apply this is a dry run: it says what an import would do, and writes nothing. Lines
    that cannot be imported are listed in FILE.refused.csv with the reason and what to do; then the
    exit status is 1. It is safe to run again, also after an interruption: what was imported before
    changes nothing.
    """
    config = with_local_stack(Config.load())
    request = ImportRequest(file, kind, apply, name or actor(), encoding, hold_segments)
    again = (
        "What was imported so far stays; run the command again to go on."
        if apply
        else "Nothing was written."
    )
    try:
        total = file.stat().st_size
        with progress(f"{'Importing' if apply else 'Checking'} {file.name}, bytes", total) as show:
            outcome = asyncio.run(import_file(config, request, show))
    except UnreadableError as error:
        fail(f"{file} {error}")
    except _AWAY as error:
        fail(f"{problem(error)} {again}")
    except OSError as error:
        fail(f"{error.filename or file}: {error.strerror or error}")
    except KeyboardInterrupt:
        fail(f"interrupted. {again}")
    if as_json:
        print_json(_document(outcome, request))
    else:
        for line in _lines(outcome, request):
            say(line)
    raise typer.Exit(0 if outcome.complete else 1)


def _document(outcome: ImportOutcome, request: ImportRequest) -> dict[str, Any]:
    return {
        "applied": request.apply,
        "kind": outcome.kind,
        **{verdict.value: outcome.counts[verdict] for verdict in Verdict},
        "refused": outcome.refused,
        "refusedFile": str(request.refused_path) if outcome.refused else None,
        "firstRefused": [
            {"line": number, **camel(fault._asdict())} for number, fault in outcome.first_refused
        ],
        "otherSegments": outcome.other_segments,
        "ignoredColumns": outcome.ignored,
    }


def _lines(outcome: ImportOutcome, request: ImportRequest) -> Iterator[str]:
    for number, fault in outcome.first_refused:
        where = f"line {number}" + (f", {fault.column}" if fault.column else "")
        yield printable(f"{where}: {fault.problem}; {fault.remedy}")
    if outcome.refused > len(outcome.first_refused):
        yield f"… and {outcome.refused - len(outcome.first_refused):,} more"
    counts = ", ".join(f"{outcome.counts[verdict]:,} {verdict}" for verdict in Verdict)
    done = "Imported" if request.apply else "Dry run, nothing written"
    yield f"{done}: {counts}, {outcome.refused:,} refused."
    if outcome.ignored:
        yield printable(f"Ignored columns: {', '.join(outcome.ignored)}")
    if outcome.refused:
        yield f"All refused lines, with what to do: {request.refused_path}"
    if outcome.other_segments and not request.hold_segments:
        yield (
            f"{number_of(outcome.other_segments, 'line names', 'lines name')} another segment than "
            "the customer has. The rules decide the segment, from the orders. Add --hold-segments "
            "to set those by hand."
        )
    if not request.apply:
        yield "Add --apply to import."
