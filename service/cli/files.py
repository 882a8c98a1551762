"""``crm export`` and ``crm import``: customers and orders as files."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from service.cli.database import actor, connected, problem
from service.cli.import_report import import_document, import_lines
from service.cli.output import AsJson, fail, note, number_of, print_json, say, stages
from service.config import Config
from service.core.printable import printable
from service.core.time_zones import known_time_zone
from service.db.installation import check_currency
from service.local.state import with_local_stack
from service.transfer.export import export
from service.transfer.importer import ImportRequest, import_file
from service.transfer.lines import FileKind
from service.transfer.reading.record import UnreadableError

_STANDARD_OUTPUT = Path("-")
_JSON_SUFFIXES = {".ndjson", ".jsonl", ".json"}
_EXAMPLES = {"--map": '"Mail=Email"', "--set": "status=completed"}
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


def _pairs(texts: list[str], option: str) -> dict[str, str]:
    """Return the two sides of each ``left=right``; the last equals sign separates them."""
    pairs = {}
    for text in texts:
        left, equals, right = text.rpartition("=") if option == "--map" else text.partition("=")
        if not (equals and left.strip() and right.strip()):
            fail(f"{option} {text!r}: write it like {_EXAMPLES[option]}", 2)
        pairs[left.strip()] = right.strip()
    return pairs


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text.upper())
    except ValueError:
        fail(f"--as-of {text!r}: write it like 2026-11-22 or 2026-11-22T10:00:00Z", 2)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _zone(name: str) -> str | None:
    if not name:
        return None
    try:
        return known_time_zone(name)
    except ValueError as error:
        fail(f"--time-zone: {error}", 2)


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
    request = ImportRequest(
        file,
        kind,
        apply,
        name or actor(),
        encoding or None,
        hold_segments,
        layout or None,
        _pairs(mapping or [], "--map"),
        _pairs(constants or [], "--set"),
        _zone(time_zone),
        date_format or None,
        source,
        _moment(as_of),
        clear_empty,
    )
    config = with_local_stack(Config.load())
    again = (
        "What was imported so far stays; run the command again to go on."
        if apply
        else "Nothing was written."
    )
    try:
        with stages() as show:
            outcome = asyncio.run(import_file(config, request, show))
    except UnreadableError as error:
        fail(printable(f"{file} {error}"))
    except _AWAY as error:
        fail(f"{problem(error)} {again}")
    except OSError as error:
        fail(f"{error.filename or file}: {error.strerror or error}")
    except KeyboardInterrupt:
        fail(f"interrupted. {again}")
    if as_json:
        print_json(import_document(outcome, request))
    else:
        for line in import_lines(outcome, request, config.store_currency):
            say(line)
    raise typer.Exit(0 if outcome.complete else 1)
