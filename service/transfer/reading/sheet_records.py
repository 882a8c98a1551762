"""Read the first sheet of a workbook that has a table."""

import zipfile
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from service.transfer.lines import LineFault
from service.transfer.reading.record import Record, UnreadableError

if TYPE_CHECKING:
    from python_calamine import CalamineSheet

_LARGEST = 512_000_000
"""Bytes of a workbook when unpacked. It is in memory as a whole."""
_SAVE_AS_CSV = "save the sheet as “CSV UTF-8” and import that"

Rows = Iterator[list[str]]


def open_sheet(path: Path) -> tuple[list[str], Rows, int]:
    """Return the header of a workbook's table, its rows, and the number of the header's row.

    Raises UnreadableError.
    """
    from python_calamine import CalamineError, load_workbook  # noqa: PLC0415 - few files are one

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > _LARGEST:
            msg = f"is a workbook of {size:,} bytes; {_SAVE_AS_CSV}"
            raise UnreadableError(msg)
    try:
        workbook = load_workbook(path)
        for name in workbook.sheet_names:
            sheet = workbook.get_sheet_by_name(name)
            if sheet.start is not None:
                return _table(sheet)
    except CalamineError as error:
        msg = f"is a workbook that cannot be read ({error}); {_SAVE_AS_CSV}"
        raise UnreadableError(msg) from None
    msg = "is a workbook without a table"
    raise UnreadableError(msg)


def _table(sheet: "CalamineSheet") -> tuple[list[str], Rows, int]:
    rows = ([_text(cell) for cell in row] for row in sheet.iter_rows())
    number = 1
    for row in rows:
        if any(row):
            return [cell.strip() for cell in row], rows, number
        number += 1
    return [], rows, number


def read_rows(rows: Rows, names: Sequence[str], header_row: int) -> Iterator[Record]:
    """Yield the records of the rows below a header."""
    if header_row > 1:
        yield Record(1, header_row - 1, None)
    for number, row in enumerate(rows, header_row + 1):
        if any(row[len(names) :]):
            problem = f"has {len(row)} cells, but the header has {len(names)}"
            yield Record(number, 1, LineFault("", problem, "give each column a name"))
        else:
            yield Record(number, 1, dict(zip(names, row, strict=False)) if any(row) else None)


def _text(cell: float | str | bool | date | datetime | time | timedelta) -> str:  # noqa: FBT001
    """Return a cell as CSV would have it. Whole numbers keep their digits."""
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 2**53 else repr(cell)
    if isinstance(cell, datetime | date):
        return cell.isoformat()
    return str(cell)
