"""Read JSON, one record at a time: lines of JSON, an array, or an object that holds arrays."""

import io
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple, NoReturn

from service.transfer.lines import LineFault
from service.transfer.reading.record import LONGEST_LINE, Record, UnreadableError

_PIECE = 1 << 16
_BLANKS = re.compile(r"[ \t\r\n\ufeff]*")
_BLANKS_AND_COMMAS = re.compile(r"[ \t\r\n\ufeff,]*")
_HOLDER = re.compile(
    r'\{\s*"(?P<key>orders|customers|recoveryEssentials_orders|recoveryEssentials_customers)"\s*:'
)
"""The start of an object that holds arrays of records."""
_ON_SEVERAL_LINES = re.compile(r"\{[ \t]*\r?\n\s*[\"}]")
_REMEDY = "write each record as one JSON object; is this one cut off?"


def _no_constant(name: str) -> NoReturn:
    msg = f"{name} is not a JSON number"
    raise ValueError(msg)


# A Decimal keeps every digit that is written; a float would not.
_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=_no_constant)


class _Found(NamedTuple):
    """A record, and the lines where it begins and ends."""

    start: int
    end: int
    content: dict[str, Any] | LineFault


class _Text:
    """The part of a text that is in memory, and the line where it begins."""

    def __init__(self, file: io.TextIOWrapper) -> None:
        self._file = file
        self.text = ""
        self.at = 0
        self.line = 1
        self._last = ""

    def more(self) -> bool:
        """Read another piece. Return False at the end of the file."""
        piece = self._file.read(_PIECE)
        self.text = self.text[self.at :] + piece
        self.at = 0
        self._last = piece[-1:] or self._last
        return bool(piece)

    def skip(self, to: int) -> None:
        """Go on behind this place."""
        self.line += self.text.count("\n", self.at, to)
        self.at = to

    def skip_blanks(self, blanks: re.Pattern[str] = _BLANKS) -> str:
        """Return the next character that is not blank; empty at the end of the file."""
        while True:
            match = blanks.match(self.text, self.at)
            self.skip(match.end() if match else self.at)
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def skip_line(self) -> None:
        """Go to the end of the line, without its content in memory."""
        while (end := self.text.find("\n", self.at)) < 0:
            self.skip(len(self.text))
            if not self.more():
                return
        self.skip(end)

    def lines(self) -> int:
        """Skip the rest; return how many lines the file has."""
        while True:
            self.skip(len(self.text))
            if not self.more():
                return self.line - (self._last == "\n")


def holds_arrays(file: io.TextIOWrapper) -> bool:
    """Return whether a file is an object that holds arrays of records, and go back to its start."""
    start = file.read(_PIECE).lstrip("\ufeff \t\r\n")
    file.seek(0)
    return bool(_HOLDER.match(start))


def read_json(file: io.TextIOWrapper) -> Iterator[Record]:
    """Yield the records of a JSON file. Numbers with a fraction are Decimals.

    Raises UnreadableError.
    """
    text = _Text(file)
    first = text.skip_blanks()
    if not first:
        msg = "is empty"
        raise UnreadableError(msg)
    while len(text.text) - text.at < _PIECE and text.more():
        pass
    if first == "[":
        text.skip(text.at + 1)
        found = _array(text)
    elif _HOLDER.match(text.text, text.at):
        found = _holder(text)
    elif _ON_SEVERAL_LINES.match(text.text, text.at):
        found = _objects(text)
    else:
        found = _lines(text)
    counted = 0
    for start, end, content in found:
        if start > counted + 1:
            yield Record(counted + 1, start - counted - 1, None)
            counted = start - 1
        # An element of an array may begin on the line where the one before ended.
        yield Record(start, max(0, end - counted), content)
        counted = max(counted, end)
    last = text.lines()
    if last > counted:
        yield Record(counted + 1, last - counted, None)


def _lines(text: _Text) -> Iterator[_Found]:
    """Yield the lines, each of which is an object by itself."""
    while text.skip_blanks():
        while (end := text.text.find("\n", text.at)) < 0:
            if len(text.text) - text.at > LONGEST_LINE or not text.more():
                end = len(text.text)
                break
        line = text.line
        if end - text.at > LONGEST_LINE:
            content: dict[str, Any] | LineFault = _too_long()
            text.skip_line()
        else:
            content = _decoded(text.text[text.at : end])
            text.skip(end)
        yield _Found(line, line, content)


def _decoded(line: str) -> dict[str, Any] | LineFault:
    try:
        value = _DECODER.decode(line)
    except RecursionError:
        return LineFault("", "is nested too deeply to be read", _REMEDY)
    except (ValueError, ArithmeticError) as error:
        return LineFault("", f"is not JSON: {getattr(error, 'msg', error)}", _REMEDY)
    return _object(value)


def _object(value: object) -> dict[str, Any] | LineFault:
    if isinstance(value, dict):
        return value
    return LineFault("", "is JSON, but not an object", _REMEDY)


def _too_long() -> LineFault:
    return LineFault("", f"is longer than {LONGEST_LINE:,} characters", "leave out items")


def _objects(text: _Text) -> Iterator[_Found]:
    """Yield objects that follow each other, each on several lines."""
    while text.skip_blanks():
        yield _next(text)


def _array(text: _Text) -> Iterator[_Found]:
    """Yield the elements of an array, up to and including its bracket.

    Where an element is no JSON, nobody knows where the next one begins: the rest is one fault.
    """
    while True:
        following = text.skip_blanks(_BLANKS_AND_COMMAS)
        if following == "]":
            text.skip(text.at + 1)
            return
        if not following:
            line = text.lines()
            yield _Found(line, line, LineFault("", "the array does not end", "get the file again"))
            return
        yield (found := _next(text))
        if isinstance(found.content, LineFault) and text.at == len(text.text):
            return


def _holder(text: _Text) -> Iterator[_Found]:
    """Yield the elements of the arrays of an object. An array may be JSON within a text."""
    text.skip(text.at + 1)
    while text.skip_blanks(_BLANKS_AND_COMMAS) not in ("}", ""):
        key = _value(text)
        text.skip_blanks()
        text.skip(text.at + 1)  # the colon
        if text.skip_blanks() == "[":
            text.skip(text.at + 1)
            yield from _array(text)
            continue
        line = text.line
        value = _value(text)
        if isinstance(key, LineFault) or isinstance(value, LineFault):
            fault = value if isinstance(value, LineFault) else key
            yield _Found(line, text.lines(), fault)
            return
        if isinstance(value, str):
            inner = io.TextIOWrapper(io.BytesIO(value.encode(errors="surrogatepass")), "utf-8")
            for record in read_json(inner) if value.strip() else ():
                if record.content is not None:
                    yield _Found(line, text.line, record.content)


def _next(text: _Text) -> _Found:
    """Return the object that begins here, or the fault of what stands there instead."""
    start = text.line
    value = _value(text)
    if isinstance(value, LineFault):
        return _Found(start, text.lines(), value)
    return _Found(start, text.line, _object(value))


def _value(text: _Text) -> Any:
    """Return the value that begins here. After a fault, the rest of the file is skipped."""
    while True:
        try:
            value, end = _DECODER.raw_decode(text.text, text.at)
        except RecursionError:
            fault = LineFault("", "is nested too deeply to be read", _REMEDY)
            break
        except (ValueError, ArithmeticError) as error:
            if len(text.text) - text.at > LONGEST_LINE:
                fault = _too_long()
                break
            if not text.more():
                problem = f"is not JSON: {getattr(error, 'msg', error)}"
                fault = LineFault("", problem, _REMEDY)
                break
            continue
        text.skip(end)
        return value
    text.lines()
    return fault
