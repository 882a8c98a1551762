"""Read single values as programs and spreadsheets write them."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import Any

from service.core.identifiers import phone_key
from service.transfer.formats.format import Reading
from service.transfer.lines import RefusedLineError

_SHORTENED = re.compile(r"\d(?:[.,]\d+)?[eE]\+?\d+")
_SPACE_BEFORE_OFFSET = re.compile(r" (?=[+-]\d\d:?\d\d$)")
_ZIP_DIGITS = {"US": 5, "DE": 5, "FR": 5, "IT": 5, "ES": 5, "MX": 5, "TR": 5}
"""Countries whose postal codes have this many digits, and may begin with a zero."""


def text(value: object) -> str:
    """Return a value as trimmed text; empty for none."""
    if isinstance(value, str):  # nearly always
        return value.strip()
    if value is None or isinstance(value, bool | dict | list):
        return ""
    return str(value)


def part(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an object inside a record; an empty one if there is none."""
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def parts(values: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the objects of a list inside a record."""
    found = values.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def joined(parts: Iterable[object]) -> str:
    """Return the words of several values with one blank between them."""
    return " ".join(" ".join(text(part) for part in parts).split())


def listed(texts: Iterable[str]) -> str:
    """Return texts with commas between them, without empty ones."""
    return ", ".join(filter(None, texts))


def shortened(value: str) -> bool:
    """Return whether a spreadsheet has shortened a number, such as 3.24711E+10."""
    return bool(_SHORTENED.fullmatch(value))


def key(column: str, value: object) -> str:
    """Return an id. Refuse one whose digits a spreadsheet has cut off."""
    written = _without_apostrophe(text(value))
    if shortened(written):
        raise RefusedLineError(
            column,
            f"{written} was an id before a spreadsheet cut off its digits",
            "format the column as text before you open the file, or export it again",
        )
    return written


def whole_id(value: object) -> str:
    """Return an id that only some records need; empty if a spreadsheet has cut off its digits."""
    written = _without_apostrophe(text(value))
    return "" if shortened(written) else written


def phone(column: str, value: object, reading: Reading, country: str | None = None) -> str:
    """Return a phone as it is written; empty if a spreadsheet has cut off its digits."""
    written = _without_apostrophe(text(value))
    if shortened(written):
        reading.notice(
            column, "numbers like 3.24711E+10: a spreadsheet cut off digits. They were left out"
        )
        return ""
    country = country or reading.country
    if (
        country
        and written.isdecimal()
        and not written.startswith("0")
        and phone_key(written, country) is None
        and phone_key(f"0{written}", country)
    ):
        reading.notice(
            column, "numbers that are complete with a 0 before them: a spreadsheet took it away"
        )
    return written


def postal_code(column: str, value: object, reading: Reading, country: str | None = None) -> str:
    """Return a postal code; empty if a spreadsheet has cut off its digits."""
    written = _without_apostrophe(text(value))
    if shortened(written):
        reading.notice(
            column, "codes like 1.2E+05: a spreadsheet cut off digits. They were left out"
        )
        return ""
    digits = _ZIP_DIGITS.get((country or "").upper())
    if digits and written.isdecimal() and len(written) < digits:
        reading.notice(
            column, "codes with too few digits: a spreadsheet may have taken leading zeros away"
        )
    return written


def _without_apostrophe(written: str) -> str:
    """Return a text without the apostrophe by which spreadsheets mark text."""
    if written[:1] == "'" and written[1:2] and (written[1] in "+=-@" or written[1].isdecimal()):
        return written[1:].strip()
    return written


def moment(value: object, reading: Reading) -> str:
    """Return a time in ISO 8601 with an offset.

    A time without one is in the zone of the reading. What is no time is returned as it is; whoever
    judges the record refuses it.
    """
    written = text(value)
    if not written:
        return ""
    at, has_offset = _moment(written, reading.date_format, reading.zone)
    if not has_offset:
        reading.notice("times", f"no offset. They were read as times of {reading.zone}")
    return at


@lru_cache(1024)
def _moment(written: str, date_format: str | None, zone: tzinfo) -> tuple[str, bool]:
    """Return the time, and whether it had an offset. What is no time is returned as it is."""
    try:
        if date_format is None:
            at = datetime.fromisoformat(_SPACE_BEFORE_OFFSET.sub("", written).upper())
        else:
            at = datetime.strptime(written, date_format)  # noqa: DTZ007 - the zone follows
        return (at if at.tzinfo else at.replace(tzinfo=zone)).isoformat(), at.tzinfo is not None
    except (ValueError, OverflowError):
        return written, True


def latest(moments: Iterable[str]) -> str:
    """Return the latest of some times in ISO 8601; the first if one is no time."""
    known = [at for at in moments if at]
    try:
        return max(known, key=datetime.fromisoformat, default="")
    except (ValueError, TypeError):
        return known[0]


def amount(value: object) -> Decimal | None:
    """Return an amount, of whatever sign; None if it is none."""
    try:
        found = Decimal(text(value))
    except ArithmeticError:
        return None
    return found if found.is_finite() else None


def filled(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that say something."""
    return {name: value for name, value in values.items() if value not in ("", None, {})}
