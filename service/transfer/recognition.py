"""Open a file, and find out which format it has."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any

from service.transfer.formats import FORMATS, named, recognised
from service.transfer.formats.format import OWN_COLUMN, Format, folded
from service.transfer.formats.ours import CUSTOMERS, ORDERS, ORDERS_JSON
from service.transfer.lines import FileKind
from service.transfer.reading.csv_records import SEPARATORS, read_header, read_records
from service.transfer.reading.json_records import holds_arrays, read_json
from service.transfer.reading.opening import Opened, is_workbook, opened
from service.transfer.reading.record import Record, Suggestion, UnreadableError
from service.transfer.reading.sheet_records import open_sheet, read_rows

_JSON_START = re.compile(r"[\s\ufeff]*[\[{]")
_GENERIC = {FileKind.ORDERS: ORDERS, FileKind.CUSTOMERS: CUSTOMERS}
_MOST_COLUMNS_SHOWN = 40
_MOST_LOOKED_AT = 1000
"""Records of a JSON file that are looked at for its format."""


@dataclass(frozen=True)
class Wanted:
    """What the person who imports says about the file."""

    kind: FileKind | None = None
    format: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    """Our name for a column of theirs."""
    constants: Mapping[str, str] = field(default_factory=dict)
    """The value of each of our columns that is the same in every record."""
    encoding: str | None = None
    own_columns: Sequence[str] = ()
    """The columns of own fields, which every format of customers may have."""

    def renamed(self, column: str) -> str:
        """Return our name for a column of theirs, or their own."""
        return self._by_key.get(folded(column), column)

    @property
    def _by_key(self) -> dict[str, str]:
        return {folded(theirs): ours for theirs, ours in self.mapping.items()}

    @property
    def own(self) -> dict[str, str]:
        """Return their name for each column of ours that was mapped."""
        return {ours: theirs for theirs, ours in self.mapping.items()}


@dataclass(frozen=True)
class RecognisedFile:
    """A file that is open, and whose format is known."""

    format: Format
    records: Iterator[Record]
    """With the columns as the format calls them."""
    position: Callable[[], int]
    """Returns how many bytes of the file were read so far."""
    left_aside: Mapping[str, str]
    """Columns that are not read, and why; empty if the format does not know them."""
    header_lines: int = 0
    guess: str | None = None
    """A sentence about the encoding, if it was guessed."""


@contextmanager
def recognised_file(path: Path, wanted: Wanted) -> Iterator[RecognisedFile]:
    """Open a file and read its header. Raises UnreadableError."""
    if wanted.format and not named(wanted.format):
        known = ", ".join(each.name for each in FORMATS)
        msg = f"cannot be read: there is no format {wanted.format!r}. The formats are: {known}"
        raise UnreadableError(msg)
    if is_workbook(path):
        cells, rows, header_row = open_sheet(path)
        layout, names, aside = _layout(wanted, [cells])
        records = _with_constants(read_rows(rows, names, header_row), wanted)
        size = path.stat().st_size
        yield RecognisedFile(layout, records, lambda: size, aside, 1)
        return
    with opened(path, wanted.encoding) as file:
        yield _json(file, wanted) if _is_json(path, file) else _csv(file, wanted)


def kinds_in(path: Path, wanted: Wanted) -> Sequence[FileKind | None]:
    """Return which records to import, one kind after the other. None: the format decides.

    An object of JSON may hold both. Then customers come first, because orders name them. Raises
    UnreadableError.
    """
    if wanted.kind or wanted.format or is_workbook(path):
        return [wanted.kind]
    found = set()
    with opened(path, wanted.encoding) as file:
        if holds_arrays(file.text):
            for record in read_json(file.text):
                if isinstance(record.content, dict):
                    layout = recognised(list(record.content), json=True)
                    found.add(layout and layout.kind)
                if {FileKind.CUSTOMERS, FileKind.ORDERS} <= found:
                    return [FileKind.CUSTOMERS, FileKind.ORDERS]
    return [None]


def _is_json(path: Path, file: Opened) -> bool:
    start = file.text.read(64)
    file.text.seek(0)
    suffixes = {suffix.lower() for suffix in path.suffixes}
    return bool(_JSON_START.match(start)) or bool(suffixes & {".json", ".ndjson", ".jsonl"})


def _csv(file: Opened, wanted: Wanted) -> RecognisedFile:
    header = read_header(file.text)
    before = header.lines.number
    separators = [header.separator] if header.separator else list(SEPARATORS)
    candidates = [header.cells(separator) for separator in separators]
    most = max(len(cells) for cells in candidates)
    layout, names, aside = _layout(wanted, [cells for cells in candidates if len(cells) == most])
    separator = next(
        separator
        for separator, cells in zip(separators, candidates, strict=True)
        if len(cells) == most
    )
    records = _with_constants(read_records(header, separator, names), wanted)
    return RecognisedFile(layout, records, file.position, aside, before, file.guess)


def _layout(
    wanted: Wanted, headers: Sequence[Sequence[str]]
) -> tuple[Format, list[str], dict[str, str]]:
    """Return the format of a table, its columns as the format calls them, and those left aside."""
    theirs = headers[0]
    columns = [wanted.renamed(column) for column in theirs]
    layout = _chosen(wanted, [*columns, *wanted.constants], json=False).with_own(wanted.own_columns)
    names = [layout.canonical(column) for column in columns]
    _check_mapping(wanted, theirs, layout)
    found = {folded(name) for name in (*names, *wanted.constants)}
    lacking = [sign for sign in layout.signs if folded(sign) not in found]
    if lacking:
        raise _lacks(layout, lacking, theirs)
    known = [name for name in names if name in layout.columns]
    if len(set(known)) != len(known):
        twice = next(name for name in known if known.count(name) > 1)
        msg = f"cannot be read: two columns of its header mean {twice}"
        raise UnreadableError(msg)
    aside = {
        column: layout.aside.get(name, "") or _no_field(name, layout)
        for column, name in zip(theirs, names, strict=True)
        if name not in layout.columns and column
    }
    return layout, names, aside


def _chosen(wanted: Wanted, columns: Sequence[str], *, json: bool) -> Format:
    """Return the format that was asked for, or the one that these columns have."""
    if wanted.format and (layout := named(wanted.format)):
        return layout
    found = recognised(columns, json=json)
    if found and (wanted.kind is None or found.kind is wanted.kind):
        return found
    if wanted.kind and not json:
        return _GENERIC[wanted.kind]
    if found:
        msg = f"cannot be read: it has {found.kind} ({found.title}), and not {wanted.kind}"
        raise UnreadableError(msg)
    targets = set(wanted.mapping.values()) | set(wanted.constants)
    for generic in _GENERIC.values():
        if targets and targets <= set(generic.with_own(wanted.own_columns).columns):
            return generic
    raise _unknown(columns)


def _listed(columns: Sequence[str]) -> str:
    shown = [repr(column) for column in columns[:_MOST_COLUMNS_SHOWN] if column]
    return ", ".join(shown) + (" …" if len(columns) > _MOST_COLUMNS_SHOWN else "")


def _unknown(columns: Sequence[str]) -> UnreadableError:
    return UnreadableError(
        "cannot be read: it has none of the formats that we know. Its columns are "
        f"{_listed(columns)}. Say which of them to take, as in ",
        [
            Suggestion("customers", [("THEIR COLUMN", "Email")]),
            Suggestion("orders", [("THEIR COLUMN", "id")]),
        ],
        ". docs/importing.md has recipes, and the names of our columns",
    )


def _lacks(layout: Format, lacking: Sequence[str], theirs: Sequence[str]) -> UnreadableError:
    noun = "columns" if lacking[1:] else "column"
    mapping = []
    for sign in lacking:
        like = get_close_matches(sign.lower(), [column.lower() for column in theirs], 1, 0.4)
        guess = next((column for column in theirs if like and column.lower() == like[0]), None)
        mapping.append((guess or "THEIR COLUMN", sign))
    return UnreadableError(
        f"cannot be read as {layout.title}: it lacks the {noun} {', '.join(lacking)}. Its columns "
        f"are {_listed(theirs)}. If one of them has these values, say which: ",
        [Suggestion("", mapping)],
    )


def _check_mapping(wanted: Wanted, theirs: Sequence[str], layout: Format) -> None:
    """Refuse a mapping from a column that the file lacks, or to one that the format lacks."""
    columns = {folded(column) for column in theirs}
    for column, ours in wanted.mapping.items():
        if folded(column) not in columns:
            msg = (
                f"cannot be read: there is no column {column!r} to map. Its columns are "
                f"{_listed(theirs)}"
            )
            raise UnreadableError(msg)
        _check_target(ours, layout)
    for ours in wanted.constants:
        _check_target(ours, layout)


def _no_field(column: str, layout: Format) -> str:
    """Return why a column is left aside, if it is that of an own field which there is not."""
    if layout.kind is FileKind.CUSTOMERS and column.startswith(OWN_COLUMN):
        return "there is no own field of this key. Define it first, then import the file again"
    return ""


def _check_target(ours: str, layout: Format) -> None:
    if ours not in layout.columns:
        msg = (
            f"cannot be read: {layout.name} have no column {ours!r}. They have: "
            f"{', '.join(layout.columns)}"
        )
        raise UnreadableError(msg)


def _json(file: Opened, wanted: Wanted) -> RecognisedFile:
    records = read_json(file.text)
    before, first = [], None
    for record in records:
        before.append(record)
        if len(before) == _MOST_LOOKED_AT:
            break
        if isinstance(record.content, dict):
            first = record.content
            if _other_kind(wanted, first):
                first = None
                continue
            break
    keys = [wanted.renamed(key) for key in first or ORDERS_JSON.any_sign]
    layout = _chosen(wanted, [*keys, *wanted.constants], json=True).with_own(wanted.own_columns)
    for ours in (*wanted.mapping.values(), *wanted.constants):
        if ours.startswith(OWN_COLUMN):
            _check_target(ours, layout)
    aside: dict[str, str] = {
        key: "" for key, ours in zip(first or keys, keys, strict=True) if ours not in layout.columns
    }
    if layout.ours or wanted.mapping or wanted.constants:
        aside = {}
    everything = _with_constants(
        (_renamed(record, wanted) for record in chain(before, records)), wanted
    )
    return RecognisedFile(layout, everything, file.position, aside, guess=file.guess)


def _other_kind(wanted: Wanted, content: Mapping[str, Any]) -> bool:
    """Return whether a record is of another kind than the one that was asked for."""
    found = recognised(list(content), json=True)
    return bool(wanted.kind and not wanted.format and found and found.kind != wanted.kind)


def _renamed(record: Record, wanted: Wanted) -> Record:
    if not isinstance(record.content, dict):
        return record
    if wanted.kind and _other_kind(wanted, record.content):
        return record._replace(content=None, is_of_other_kind=True)
    if not wanted.mapping:
        return record
    values = {wanted.renamed(key): value for key, value in record.content.items()}
    return record._replace(content=values)


def _with_constants(records: Iterator[Record], wanted: Wanted) -> Iterator[Record]:
    if not wanted.constants:
        return records
    return (
        record._replace(content={**record.content, **wanted.constants})
        if isinstance(record.content, dict)
        else record
        for record in records
    )
