"""Print for every command: JSON for programs, plain text for files, wrapped text in a terminal.

Results go to standard output; notes, errors and progress to standard error. Nothing is ever cut,
because people copy URLs, ids and reasons from here: a line breaks between words only.
"""

import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NoReturn, TextIO

import typer
from pydantic.alias_generators import to_camel
from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from service.core.json_values import timestamp
from service.core.printable import printable

AsJson = typer.Option("--json", help="Print one JSON document instead of text.")
ShowSecrets = typer.Option(
    "--show-secrets", help="Print URLs with their passwords. Without it, *** takes their place."
)

_NARROWEST_COLUMN = 24
"""If less than this is left for the last column, each row is printed as a block of lines."""


def print_json(document: object) -> None:
    """Print one JSON document, in ASCII: no terminal acts on what a stranger wrote into a value."""
    sys.stdout.write(json.dumps(document, indent=2, default=_json_value) + "\n")


def camel(row: Mapping[str, object]) -> dict[str, object]:
    """Return the row with its names as the API writes them."""
    return {to_camel(name): value for name, value in row.items()}


def _json_value(value: object) -> object:
    if isinstance(value, Decimal):
        return float(value)  # exact for cents up to 10 trillion
    if isinstance(value, datetime):
        return timestamp(value)
    return str(value)


def say(message: str) -> None:
    """Print a message to standard output."""
    _write(sys.stdout, message)


def note(message: str) -> None:
    """Print a message to standard error, beside a result that a script may read."""
    _write(sys.stderr, message)


def fail(sentence: str, status: int = 1) -> NoReturn:
    """Print a sentence to standard error and end the command."""
    note(f"crm: {sentence}")
    raise typer.Exit(status)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows: tab-separated into a pipe or file, aligned in a terminal.

    Where the terminal is too narrow, the last column is wrapped, or each row becomes a block.
    """
    texts = [[printable(str(value)) for value in row] for row in rows]
    width = _width(sys.stdout)
    if width is None:
        lines = ["\t".join(row) for row in (columns, *texts)]
    else:
        lines = list(_aligned([list(columns), *texts], width) or _blocks(columns, texts, width))
    sys.stdout.write("".join(f"{line.rstrip(' ')}\n" for line in lines))


def print_facts(facts: Sequence[tuple[str, object]]) -> None:
    """Print names beside their values: like a table, without a header."""
    texts = [(name, printable(str(value))) for name, value in facts]
    width = _width(sys.stdout)
    lines = ["\t".join(fact) for fact in texts] if width is None else _block(texts, width)
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def moment(at: datetime | None, otherwise: str = "never") -> str:
    """Return a time in UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if at else otherwise


@contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error while the context lasts, if that is a terminal.

    Yields a function that takes how much is done so far.
    """
    with stages() as show:
        yield lambda done: show(description, done, total)


@contextmanager
def stages() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show a bar for each stage of a long task on standard error, if that is a terminal.

    Yields a function that takes the stage, how much of it is done, and how much there is if
    that is known.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns,
        console=console,
        transient=True,
        redirect_stdout=False,  # what is printed to a file must not end up beside the bar
        disable=not console.is_terminal,
    ) as bar:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done)

        yield show


def _width(stream: TextIO) -> int | None:
    """Return the columns of the terminal behind the stream; None if there is no terminal."""
    try:
        return (stream.isatty() and os.get_terminal_size(stream.fileno()).columns) or None
    except (OSError, ValueError):  # no file descriptor, as in a test that captures the output
        return None


def _write(stream: TextIO, message: str) -> None:
    width = _width(stream)
    lines = message.splitlines() or [""]
    if width is not None:
        lines = [part for line in lines for part in _wrapped(line, width)]
    stream.write("".join(f"{line}\n" for line in lines))
    stream.flush()  # people watch what a long-running command reports


def _wrapped(line: str, width: int) -> list[str]:
    """Break a line between words; the new lines get the indentation of the first one."""
    indent = line[: len(line) - len(line.lstrip(" "))]
    return textwrap.wrap(
        line,
        max(width, 1),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [line]


def _aligned(rows: Sequence[Sequence[str]], width: int) -> list[str] | None:
    """Return aligned lines, the last column wrapped if need be; None if there is no room."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    left = sum(widths[:-1]) + 2 * (len(widths) - 1)
    room = width - left
    longest_word = max((cell_len(word) for row in rows for word in row[-1].split()), default=0)
    if room < widths[-1] and room < max(_NARROWEST_COLUMN, longest_word):
        return None
    lines = []
    for row in rows:
        cells = [
            cell + " " * (wide - cell_len(cell))
            for cell, wide in zip(row[:-1], widths, strict=False)
        ]
        first, *more = _wrapped(row[-1], room)
        lines += ["  ".join([*cells, first]), *(" " * left + line for line in more)]
    return lines


def _blocks(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Yield a block of lines per row, and an empty line after each."""
    for row in rows:
        yield from _block(list(zip(columns, row, strict=True)), width)
        yield ""


def _block(facts: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    left = max((len(name) for name, _ in facts), default=0) + 2
    for name, value in facts:
        room = max(width - left, _NARROWEST_COLUMN)
        first, *more = _wrapped(value, room)
        yield name.ljust(left) + first
        yield from (" " * left + line for line in more)


def facts_line(row: Mapping[str, Any]) -> str:
    """Return the names and values of a database row on one line."""
    return ", ".join(f"{name}={value}" for name, value in row.items())
