"""``crm export`` and ``crm import``: customers and orders as files."""

import asyncio
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from service.cli.database import actor, connected, problem
from service.cli.import_report import import_document, import_lines
from service.cli.output import AsJson, fail, note, print_json, say, stages
from service.config import Config
from service.core.numbers import number_of
from service.core.printable import printable
from service.db.installation import check_currency
from service.db.operations import imports
from service.local.state import with_local_stack
from service.transfer.export import export
from service.transfer.import_options import ImportOptions, OptionError
from service.transfer.import_outcome import ImportOutcome
from service.transfer.import_report import report, summary
from service.transfer.importer import ImportRequest, Progress, import_file
from service.transfer.lines import FileKind
from service.transfer.reading.record import UnreadableError

_STANDARD_OUTPUT = Path("-")
_JSON_SUFFIXES = {".ndjson", ".jsonl", ".json"}
_OPTIONS = {
    "mapping": "--map",
    "constants": "--set",
    "as_of": "--as-of",
    "time_zone": "--time-zone",
    "format": "--format",
    "kind": "--kind",
}
"""What each option is called here that may be wrong."""
_SELDOM = 50_000
"""New objects after which Python looks for cycles of garbage."""
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

    To move to another installation, export both and import both there, customers first. Consent,
    addresses, identifiers and pinned segments travel; the history does not.
    """
    what = kind or (
        FileKind.ORDERS if file.suffix.lower() in _JSON_SUFFIXES else FileKind.CUSTOMERS
    )
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
        async with engine.connect() as connection:
            await check_currency(connection, config.store_currency)
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


async def _import(
    config: Config, request: ImportRequest, show: Progress
) -> Sequence[ImportOutcome]:
    """Import a file. One that was written is listed among the imports of the dashboard."""
    # An import makes no cycles to speak of. Looking for them took a seventh of its time.
    gc.freeze()
    gc.set_threshold(_SELDOM)
    begun_at, size = datetime.now(UTC), request.path.stat().st_size
    outcomes = await import_file(config, request, show)
    if request.apply:
        async with connected(config, "crm import") as engine, engine.begin() as connection:
            await imports.record(
                connection,
                request.actor,
                request.path.name,
                size=size,
                begun_at=begun_at,
                summary=[summary(report(outcome)) for outcome in outcomes],
            )
    return outcomes


def import_command(  # noqa: PLR0913 - an option each
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="CSV, JSON or XLSX, also as zip or gzip: see docs/importing.md."
        ),
    ],
    *,
    kind: Annotated[
        FileKind | None,
        typer.Option(help="What the file holds. Without it, its columns decide."),
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            "--format", metavar="NAME", help="The file's format. Without it, its columns decide."
        ),
    ] = "",
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="THEIRS=OURS", help='Take a column as one of ours: "Mail=Email".'
        ),
    ] = None,
    constants: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="OURS=VALUE", help="Give all lines a value: status=completed."
        ),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Import. Without it, nothing is written.")
    ] = False,
    name: Annotated[
        str, typer.Option("--as", metavar="NAME", help="The name that the audit records.")
    ] = "",
    encoding: Annotated[
        str, typer.Option(help="The file's encoding, such as cp1252. Without it, it is found out.")
    ] = "",
    time_zone: Annotated[
        str,
        typer.Option(
            metavar="ZONE", help="Where times without an offset are from. Without it: the store's."
        ),
    ] = "",
    date_format: Annotated[
        str,
        typer.Option(metavar="FORMAT", help="How dates are written, such as %m/%d/%y."),
    ] = "",
    source: Annotated[
        str,
        typer.Option(
            metavar="SHOP", help="What the shop is called, for the ids that it gives to customers."
        ),
    ] = "",
    as_of: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="When the file was true. Without it: when it was last changed."
        ),
    ] = "",
    clear_empty: Annotated[
        bool,
        typer.Option("--clear-empty", help="An empty cell clears the value of the customer."),
    ] = False,
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
    """Import customers or orders from a file of a shop, a spreadsheet, or our own export.

    Without --apply this is a dry run: it says which format the file has, shows the first records,
    and says what an import would do. Lines that cannot be imported are listed in FILE.refused.csv
    with the reason and what to do; then the exit status is 1. It is safe to run again, also after
    an interruption: what was imported before changes nothing.
    """
    options = ImportOptions(
        kind=kind or "",
        format=layout,
        mapping=mapping or (),
        constants=constants or (),
        encoding=encoding,
        time_zone=time_zone,
        date_format=date_format,
        source=source,
        as_of=as_of,
        clear_empty=clear_empty,
        hold_segments=hold_segments,
    )
    try:
        request = options.request(file, apply=apply, actor=name or actor())
    except OptionError as error:
        fail(f"{_OPTIONS[error.option]}: {error}", 2)
    config = with_local_stack(Config.load())
    again = (
        "What was imported so far stays; run the command again to go on."
        if apply
        else "Nothing was written."
    )
    try:
        with stages() as show:
            outcomes = asyncio.run(_import(config, request, show))
    except UnreadableError as error:
        fail(printable(f"{file} {error}"))
    except _AWAY as error:
        fail(f"{problem(error)} {again}")
    except OSError as error:
        fail(f"{error.filename or file}: {error.strerror or error}")
    except KeyboardInterrupt:
        fail(f"interrupted. {again}")
    if as_json:
        print_json(import_document(outcomes, request))
    else:
        for line in import_lines(outcomes, request, config.store_currency):
            say(line)
    raise typer.Exit(0 if all(outcome.complete for outcome in outcomes) else 1)
