"""Read the records of a file that people made, CSV of any dialect or lines of JSON.

Memory stays constant, however large the file and however long its lines are.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from service.transfer.lines import LineFault, RefusedLineError

LONGEST_LINE = 1_048_576
"""In characters, or bytes of JSON. A longer line is refused, and never in memory as a whole."""

_SEPARATORS = ",;\t"
_ENDS = ("\n", "\r")
_BINARY_STARTS = {
    b"PK\x03\x04": "is a workbook or an archive; save the sheet as “CSV UTF-8”",
    b"\x1f\x8b": "is compressed; unpack it first",
    b"\xff\xfe": "is UTF-16; add --encoding utf-16, or save it as “CSV UTF-8”",
    b"\xfe\xff": "is UTF-16; add --encoding utf-16, or save it as “CSV UTF-8”",
}


class UnreadableError(Exception):
    """The file as a whole cannot be read; the message says why and what to do."""


Record = tuple[int, dict[str, str] | LineFault]
"""The number of the line where the record begins, and its cells by column."""


class _Lines:
    """Iterates over the lines of a text file.

    Raises RefusedLineError for a line that is too long or badly encoded; the next call continues
    after it.
    """

    def __init__(self, file: io.TextIOWrapper) -> None:
        self._file = file
        self.number = 0
        self.last = ""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline(LONGEST_LINE)
        if not line:
            raise StopIteration
        self.number += 1
        self.last = line
        if len(line) >= LONGEST_LINE and not line.endswith(_ENDS):
            while (rest := self._file.readline(LONGEST_LINE)) and not rest.endswith(_ENDS):
                pass
            problem = f"the line is longer than {LONGEST_LINE:,} characters"
            raise RefusedLineError("", problem, "check whether a line end is missing")
        if not line.isascii():
            self._check(line)
        return line

    def _check(self, line: str) -> None:
        try:
            line.encode()
        except UnicodeEncodeError as error:
            problem = f"character {error.start + 1} of the line is not {self._file.encoding}"
            remedy = "save the file as “CSV UTF-8”, or name its encoding, as in --encoding cp1252"
            raise RefusedLineError("", problem, remedy) from None


K = TypeVar("K", bound=str)


@dataclass(frozen=True)
class Table(Generic[K]):
    """A CSV file whose header has been read."""

    kind: K
    file: io.TextIOWrapper
    """The caller closes it."""
    position: Callable[[], int]
    """Returns how many bytes were read so far."""
    records: Iterator[Record]
    ignored: Sequence[str]
    """Columns that this kind of file does not have."""


def read_csv(
    path: Path,
    encoding: str,
    kinds: Mapping[K, Sequence[str]],
    required: Mapping[K, Sequence[str]],
) -> Table[K]:
    """Open a file and read its header; the separator and the kind are those that fit it best.

    ``kinds`` has the columns that each kind knows, ``required`` those that it must have. Raises
    UnreadableError.
    """
    file = path.open("rb")
    try:
        _refuse_binary(file, encoding)
        text = io.TextIOWrapper(file, encoding, errors="surrogateescape", newline="")
    except LookupError:
        file.close()
        msg = f"cannot be read: {encoding!r} is not an encoding; try utf-8, cp1252 or utf-16"
        raise UnreadableError(msg) from None
    except UnreadableError:
        file.close()
        raise
    try:
        return _table(text, file.tell, kinds, required)
    except BaseException:
        text.close()
        raise


def _table(
    text: io.TextIOWrapper,
    position: Callable[[], int],
    kinds: Mapping[K, Sequence[str]],
    required: Mapping[K, Sequence[str]],
) -> Table[K]:
    lines = _Lines(text)
    try:
        header = next(lines, "")
    except (RefusedLineError, UnicodeError) as error:
        msg = f"cannot be read: line 1: {error}; save it as “CSV UTF-8”, or add --encoding cp1252"
        raise UnreadableError(msg) from None
    kind, separator, names = max(
        (
            (kind, separator, _columns(header, separator, known))
            for kind, known in kinds.items()
            for separator in _SEPARATORS
        ),
        key=lambda candidate: sum(name in kinds[candidate[0]] for name in candidate[2]),
    )
    missing = [name for name in required[kind] if name not in names]
    if missing:
        noun = "columns" if missing[1:] else "column"
        msg = (
            f"cannot be read: line 1 lacks the {noun} {', '.join(missing)}. "
            f"It says: {header[:200].strip()!r}. Known columns of {kind}: {', '.join(kinds[kind])}."
        )
        raise UnreadableError(msg)
    known_names = [name for name in names if name in kinds[kind]]
    if len(set(known_names)) != len(known_names):
        msg = "cannot be read: line 1 names a column twice"
        raise UnreadableError(msg)
    ignored = [name for name in names if name not in kinds[kind]]
    return Table(kind, text, position, _records(lines, separator, names), ignored)


def _columns(header: str, separator: str, known: Sequence[str]) -> list[str]:
    cells = next(csv.reader([header], delimiter=separator), [])
    canonical = {name.lower(): name for name in known}
    return [canonical.get(cell.strip().lower(), cell.strip()) for cell in cells]


def _records(lines: _Lines, separator: str, names: Sequence[str]) -> Iterator[Record]:
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        number = lines.number + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except RefusedLineError as error:
            yield lines.number, error.fault
            continue
        except csv.Error as error:
            remedy = "put a cell that contains quotes in quotes, and double those inside it"
            yield number, LineFault("", f"is not CSV: {error}", remedy)
            continue
        except UnicodeError as error:
            msg = f"cannot be read after line {number}: {error}"
            raise UnreadableError(msg) from None
        cut = len(cells) < len(names) and not lines.last.endswith(_ENDS)
        if len(cells) > len(names) or cut:
            problem = f"has {len(cells)} cells, but the header has {len(names)}"
            remedy = (
                "the file is cut off: get it again"
                if cut
                else "put cells that contain the separator in quotes"
            )
            yield number, LineFault("", problem, remedy)
        elif any(cells):
            # A shorter line is complete: spreadsheets leave out empty cells at its end.
            yield number, dict(zip(names, cells, strict=False))


def read_lines(file: BinaryIO) -> Iterator[tuple[int, bytes | LineFault]]:
    """Yield the lines of a JSON file, except empty ones. Raises UnreadableError."""
    _refuse_binary(file, "utf-8-sig")
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if len(line) >= LONGEST_LINE and not line.endswith(b"\n"):
            while (rest := file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass
            problem = f"the line is longer than {LONGEST_LINE:,} bytes"
            yield number, LineFault("", problem, "write one JSON object per line; leave out items")
        elif line.strip(b" \t\r\n\xef\xbb\xbf"):
            yield number, line.removeprefix(b"\xef\xbb\xbf")


def _refuse_binary(file: BinaryIO, encoding: str) -> None:
    head = file.read(4)
    file.seek(0)
    for start, reason in _BINARY_STARTS.items():
        if head.startswith(start) and not encoding.lower().startswith("utf-16"):
            raise UnreadableError(reason)
    if not head:
        msg = "is empty"
        raise UnreadableError(msg)
