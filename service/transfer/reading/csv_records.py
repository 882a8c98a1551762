"""Read CSV of any dialect, one record at a time.

A quote that is opened by mistake must not swallow the lines behind it. A record over several lines
is therefore taken apart again if it does not end as a record should, or if a line inside it looks
like a record of its own. Then the line that opened the quote is refused, and the next ones are read
one by one. No line is read more than twice: the next line that has an odd number of quotes ends
every record.
"""

import csv
import io
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from service.transfer.lines import LineFault
from service.transfer.reading.record import LONGEST_LINE, Record, UnreadableError

SEPARATORS = ",;\t|"
_ENDS = ("\n", "\r")
_FEW_COLUMNS = 4
"""In a narrower table, a line of a note may have as many cells by chance."""
_NAMES_THE_SEPARATOR = re.compile(r"\ufeff?sep=(.)[\r\n]*", re.IGNORECASE)
"""A first line that spreadsheets write for each other."""


class _BrokenRecordError(Exception):
    """The lines taken so far are no record."""


class Lines:
    """The lines of a text. Those of a record that failed can be put back.

    A line that is too long or badly encoded is a fault in its place.
    """

    def __init__(self, file: io.TextIOWrapper) -> None:
        """Read from a file that was opened with ``surrogateescape``."""
        self._file = file
        self._waiting = deque[str | LineFault]()
        self._size = 0
        self.number = 0
        """Of the last line that was taken."""
        self.record: list[str] = []
        """The lines of the present record."""
        self.is_a_record: Callable[[str], bool] = lambda _: False
        """Whether a line inside quotes looks like a record of its own."""

    def begin(self) -> LineFault | None:
        """Begin a record. Return the fault of its first line, which is taken then."""
        self.record, self._size = [], 0
        if not self._waiting:
            try:
                self._waiting.append(self._read())
            except StopIteration:
                return None
        if isinstance(self._waiting[0], str):
            return None
        self.number += 1
        return self._waiting.popleft()  # type: ignore[return-value]

    def put_back(self) -> None:
        """Put back all lines of the present record but the first."""
        self._waiting.extendleft(reversed(self.record[1:]))
        self.number -= len(self.record) - 1
        del self.record[1:]

    def __iter__(self) -> Iterator[str]:
        """Return the lines themselves."""
        return self

    def __next__(self) -> str:
        """Take the next line of the present record."""
        line = self._waiting.popleft() if self._waiting else self._read()
        if self.record and (
            isinstance(line, LineFault)
            or self._size + len(line) > LONGEST_LINE
            or self.is_a_record(line)
        ):
            self._waiting.appendleft(line)
            raise _BrokenRecordError
        assert isinstance(line, str)  # noqa: S101 - `begin` takes a fault at the start of a record
        self.number += 1
        self._size += len(line)
        self.record.append(line)
        return line

    def _read(self) -> str | LineFault:
        line = self._file.readline(LONGEST_LINE)
        if not line:
            raise StopIteration
        if len(line) >= LONGEST_LINE and not line.endswith(_ENDS):
            while (rest := self._file.readline(LONGEST_LINE)) and not rest.endswith(_ENDS):
                pass
            problem = f"the line is longer than {LONGEST_LINE:,} characters"
            return LineFault("", problem, "check whether a line end is missing")
        if not line.isascii():
            try:
                line.encode()
            except UnicodeEncodeError as error:
                problem = f"character {error.start + 1} of the line is not {self._file.encoding}"
                remedy = (
                    "save the file as “CSV UTF-8”, or name its encoding, as in --encoding cp1252"
                )
                return LineFault("", problem, remedy)
        return line


class Header(NamedTuple):
    """The first line of a table."""

    text: str
    lines: Lines
    """The other lines."""
    separator: str | None
    """None: the file does not name it."""

    def cells(self, separator: str) -> list[str]:
        """Return the names of the columns, if this is the separator."""
        return [cell.strip() for cell in next(csv.reader([self.text], delimiter=separator), [])]


def read_header(file: io.TextIOWrapper) -> Header:
    """Return the header of a CSV file. Raises UnreadableError."""
    lines = Lines(file)
    try:
        fault = lines.begin()
        text = "" if fault else next(lines, "")
        named = _NAMES_THE_SEPARATOR.fullmatch(text)
        if named:
            fault = lines.begin()
            text = "" if fault else next(lines, "")
    except UnicodeError as error:
        msg = f"cannot be read: line 1: {error}; name its encoding, as in --encoding cp1252"
        raise UnreadableError(msg) from None
    if fault:
        msg = f"cannot be read: line {lines.number}: {fault.problem}; {fault.remedy}"
        raise UnreadableError(msg)
    return Header(text, lines, named[1] if named else None)


def read_records(header: Header, separator: str, names: Sequence[str]) -> Iterator[Record]:
    """Yield the records below a header. ``names`` are the columns, as the caller calls them.

    Raises UnreadableError.
    """
    lines = header.lines
    lines.is_a_record = lambda line: (
        _cells_of(line, separator) == len(names)
        and not line.count('"') % 2
        and (len(names) >= _FEW_COLUMNS or "@" in line)
    )
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        try:
            fault = lines.begin()
            number = lines.number + (0 if fault else 1)
            cells = [] if fault else next(reader)
            fault = fault or _fault_of(cells, lines.record, separator, names)
        except StopIteration:
            return
        except (csv.Error, _BrokenRecordError) as error:
            fault = _not_csv(error, lines.record, separator, names)
        except UnicodeError as error:
            msg = f"cannot be read after line {lines.number}: {error}"
            raise UnreadableError(msg) from None
        if fault:
            if len(lines.record) > 1:
                lines.put_back()
            yield Record(number, 1, fault)
        else:
            # A shorter line is complete: spreadsheets leave out empty cells at its end.
            content = dict(zip(names, cells, strict=False)) if any(cells) else None
            yield Record(number, len(lines.record), content)


def _cells_of(line: str, separator: str) -> int:
    if '"' not in line:
        return line.count(separator) + 1
    return len(next(csv.reader([line], delimiter=separator), []))


def _fault_of(
    cells: Sequence[str], record: Sequence[str], separator: str, names: Sequence[str]
) -> LineFault | None:
    """Return why the cells that were read are no record of this table; None if they are one."""
    if len(record) > 1:
        ends = (record[0], record[-1])
        if len(cells) != len(names) or all(
            line.count(separator) + 1 == len(names) > 1 for line in ends
        ):
            return _open_quote(record, separator, names)
        return None
    cut = len(cells) < len(names) and not record[-1].endswith(_ENDS)
    if len(cells) <= len(names) and not cut:
        return None
    problem = f"has {len(cells)} cells, but the header has {len(names)}"
    remedy = (
        "the file is cut off: get it again"
        if cut
        else "put cells that contain the separator in quotes"
    )
    return LineFault("", problem, remedy) if any(cells) or not cut else None


def _not_csv(
    error: Exception, record: Sequence[str], separator: str, names: Sequence[str]
) -> LineFault:
    if len(record) > 1 or isinstance(error, _BrokenRecordError) or "end of data" in str(error):
        return _open_quote(record, separator, names)
    remedy = "put a cell that contains quotes in quotes, and double those inside it"
    return LineFault("", f"is not CSV: {error}", remedy)


def _open_quote(record: Sequence[str], separator: str, names: Sequence[str]) -> LineFault:
    """Return the fault of a line that opens a quote by mistake."""
    place = _cells_of(record[0], separator) - 1
    column = names[place] if 0 <= place < len(names) else ""
    return LineFault(
        column,
        "a quote opens here and does not close at the end of a cell",
        "remove the quote, or close it; quotes inside a cell are doubled",
    )
