"""Read files that a test writes, as an import does, without a database."""

import io
from pathlib import Path

from service.transfer.lines import LineFault
from service.transfer.reading.csv_records import read_header, read_records
from service.transfer.reading.json_records import read_json
from service.transfer.reading.record import Record


def csv_records(text: str, separator: str = ",") -> list[Record]:
    """Return the records below the header of a CSV text."""
    file = io.TextIOWrapper(
        io.BytesIO(text.encode(errors="surrogateescape")), errors="surrogateescape", newline=""
    )
    header = read_header(file)
    return list(read_records(header, separator, header.cells(separator)))


def json_records(text: str) -> list[Record]:
    """Return the records of a JSON text."""
    return list(read_json(io.TextIOWrapper(io.BytesIO(text.encode()), newline="")))


def refused(records: list[Record]) -> list[tuple[int, str, str]]:
    """Return line, column and problem of each refused record."""
    return [
        (record.line, record.content.column, record.content.problem)
        for record in records
        if isinstance(record.content, LineFault)
    ]


def lines_of(path: Path) -> int:
    """Return how many lines a text file has, whatever ends them."""
    content = path.read_bytes()
    return len(content.splitlines())
