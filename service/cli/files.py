"""The commands ``crm export`` and ``crm import``."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from service.cli.database import fail, whoever
from service.cli.export import STDOUT, run_export
from service.cli.importing import JSON_SUFFIXES, ImportRequest, run_import, show
from service.config import Config
from service.db.engine import sqlstate
from service.local.state import with_local_stack
from service.transfer.export import ExportKind
from service.transfer.records import UnreadableError

_AWAY = (DBAPIError, PoolTimeoutError, ConnectionError, TimeoutError)

console = Console(highlight=False, soft_wrap=True)
messages = Console(highlight=False, soft_wrap=True, stderr=True)


def export_file(
    file: Annotated[Path, typer.Argument(help="customers.csv, orders.ndjson, or - for stdout.")],
    kind: Annotated[
        ExportKind | None, typer.Option(help="Without it: orders for .ndjson, else customers.")
    ] = None,
) -> None:
    """Write all customers as CSV, or all orders as lines of JSON.

    Import both elsewhere, customers first, to have the same customers there. Addresses come with
    the orders; consent, pins and history do not travel.
    """
    what = kind or (
        ExportKind.ORDERS if file.suffix.lower() in JSON_SUFFIXES else ExportKind.CUSTOMERS
    )
    try:
        rows = asyncio.run(run_export(with_local_stack(Config.load()), file, what))
    except _AWAY as error:
        fail(f"nothing was exported: {type(error).__name__} {sqlstate(error)}".rstrip())
    except OSError as error:
        fail(f"{file}: {error.strerror or error}")
    where = "standard output" if file == STDOUT else file
    messages.print(f"{rows:,} lines of {what} in {where}", markup=False)


def import_file(
    file: Annotated[Path, typer.Argument(help="customers.csv, orders.csv or orders.ndjson.")],
    *,
    kind: Annotated[ExportKind | None, typer.Option(help="Without it: as the file looks.")] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Do it; without: a dry run.")] = False,
    name: Annotated[str, typer.Option("--as", help="Who stands in the audit.")] = "",
    encoding: Annotated[str, typer.Option(help="Such as cp1252 or utf-16.")] = "utf-8-sig",
    hold_segments: Annotated[
        bool,
        typer.Option(
            "--hold-segments",
            help="Set segments that differ by hand, until the customer's next order.",
        ),
    ] = False,
) -> None:
    """Import customers or orders from a file: a dry run, until --apply is given.

    Refused lines are reported, and listed in FILE.refused.csv; exit status 1 when there are any.
    Safe to run again, also after an interruption: what is in already changes nothing.
    """
    config = with_local_stack(Config.load())
    wanted = ImportRequest(file, kind, apply, name or whoever(), encoding, hold_segments)
    again = "what is in is in; run it again to go on"
    try:
        outcome = asyncio.run(run_import(config, wanted, console))
    except UnreadableError as error:
        fail(f"{file} {error}")
    except _AWAY as error:
        fail(f"the database is away: {type(error).__name__} {sqlstate(error)}; {again}")
    except OSError as error:
        fail(f"{file}: {error.strerror or error}")
    except KeyboardInterrupt:
        fail(f"interrupted; {again}")
    show(outcome, wanted, console)
    sys.exit(0 if outcome.complete else 1)
