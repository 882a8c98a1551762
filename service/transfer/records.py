"""Records of files that people made: CSV of any dialect, or lines of JSON; in flat memory."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from service.transfer.lines import LineFault

LONGEST_LINE = 1_048_576
"""Characters, or bytes of JSON; longer lines are refused without being held in memory."""

_SEPARATORS = ",;\t"
_ENDS = ("\n", "\r")
_NO_TEXT = {
    b"PK\x03\x04": "is a workbook or an archive; save the sheet as “CSV UTF-8”",
    b"\x1f\x8b": "is compressed; unpack it first",
    b"\xff\xfe": "is UTF-16; add --encoding utf-16, or save it as “CSV UTF-8”",
    b"\xfe\xff": "is UTF-16; add --encoding utf-16, or save it as “CSV UTF-8”",
}


class UnreadableError(Exception):
    """The file as a whole cannot be read; the message says why and what to do."""


class _LineError(Exception):
    def __init__(self, fault: LineFault) -> None:
        super().__init__(fault.what)
        self.fault = fault


Record = tuple[int, dict[str, str] | LineFault]
"""The number of the line where it begins, and its cells by column."""


class _Lines:
    """Lines of a text; raises for those that are too long or wrongly encoded, then goes on."""

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
            what = f"the line is longer than {LONGEST_LINE:,} characters"
            raise _LineError(LineFault("", what, "is a line end missing?"))
        if not line.isascii():
            self._check(line)
        return line

    def _check(self, line: str) -> None:
        try:
            line.encode()
        except UnicodeEncodeError as error:
            what = f"character {error.start + 1} of the line is not {self._file.encoding}"
            mend = "save the file as “CSV UTF-8”, or name its encoding, as in --encoding cp1252"
            raise _LineError(LineFault("", what, mend)) from None


K = TypeVar("K", bound=str)


@dataclass(frozen=True)
class Table(Generic[K]):
    """A CSV file whose header has been read."""

    kind: K
    file: io.TextIOWrapper
    """For the caller to close."""
    position: Callable[[], int]
    """How far reading has come, in bytes."""
    records: Iterator[Record]
    ignored: Sequence[str]
    """Columns that nobody knows."""


def read_csv(
    path: Path,
    encoding: str,
    kinds: Mapping[K, Sequence[str]],
    required: Mapping[K, Sequence[str]],
) -> Table[K]:
    """Open a file and read its header, which tells the separator and, by its columns, the kind.

    Raises UnreadableError.
    """
    file = path.open("rb")
    try:
        _refuse_binary(file, encoding)
        text = io.TextIOWrapper(file, encoding, errors="surrogateescape", newline="")
    except LookupError:
        file.close()
        msg = f"is not read: {encoding!r} is no encoding; try utf-8, cp1252 or utf-16"
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
    except (_LineError, UnicodeError) as error:
        msg = f"is not read: line 1: {error}; save it as “CSV UTF-8”, or give --encoding cp1252"
        raise UnreadableError(msg) from None
    kind, separator, names = max(
        (
            (kind, separator, _columns(header, separator, known))
            for kind, known in kinds.items()
            for separator in _SEPARATORS
        ),
        key=lambda found: sum(name in kinds[found[0]] for name in found[2]),
    )
    missing = [name for name in required[kind] if name not in names]
    if missing:
        msg = (
            f"is not read: line 1 must name the columns, {', '.join(kinds[kind])}; "
            f"{', '.join(missing)} is missing. It says: {header[:200].strip()!r}"
        )
        raise UnreadableError(msg)
    known_names = [name for name in names if name in kinds[kind]]
    if len(set(known_names)) != len(known_names):
        msg = "is not read: line 1 names a column twice"
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
        except _LineError as error:
            yield lines.number, error.fault
            continue
        except csv.Error as error:
            mend = "a cell that contains quotes is in quotes, and its own are doubled"
            yield number, LineFault("", f"is not CSV: {error}", mend)
            continue
        except UnicodeError as error:
            msg = f"is not read beyond line {number}: {error}"
            raise UnreadableError(msg) from None
        cut = len(cells) < len(names) and not lines.last.endswith(_ENDS)
        if len(cells) > len(names) or cut:
            what = f"has {len(cells)} cells, where the header has {len(names)}"
            mend = (
                "the file is cut off" if cut else "put cells that contain the separator in quotes"
            )
            yield number, LineFault("", what, mend)
        elif any(cells):
            # Spreadsheets leave out empty cells at the end.
            yield number, dict(zip(names, cells, strict=False))


def read_lines(file: BinaryIO) -> Iterator[tuple[int, bytes | LineFault]]:
    """Read lines of JSON, empty ones left out. Raises UnreadableError."""
    _refuse_binary(file, "utf-8-sig")
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if len(line) >= LONGEST_LINE and not line.endswith(b"\n"):
            while (rest := file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass
            what = f"the line is longer than {LONGEST_LINE:,} bytes"
            yield number, LineFault("", what, "one JSON object a line; leave out items")
        elif line.strip(b" \t\r\n\xef\xbb\xbf"):
            yield number, line.removeprefix(b"\xef\xbb\xbf")


def _refuse_binary(file: BinaryIO, encoding: str) -> None:
    head = file.read(4)
    file.seek(0)
    for start, reason in _NO_TEXT.items():
        if head.startswith(start) and not encoding.lower().startswith("utf-16"):
            raise UnreadableError(reason)
    if not head:
        msg = "is empty"
        raise UnreadableError(msg)
