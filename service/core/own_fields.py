"""Own fields: what a shop wants to know of its customers beside what every customer has.

An admin defines them. Each has a key, which never changes, a label, and a kind that decides which
values it takes. Values are stored as JSON: texts, choices and dates as texts, numbers as numbers.
"""

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from service.core.tags import tag_key

MOST_FIELDS = 20
MOST_CHOICES = 50
LONGEST_KEY = 40
LONGEST_LABEL = 60
LONGEST_CHOICE = 100
LONGEST_TEXT = 1000
"""Characters of a value."""
KEY_PATTERN = r"^[a-z][a-z0-9_]{0,39}$"
"""Also good in the name of a parameter, of a column of a file, and of a control."""
_MOST_DIGITS = 15
"""Every program reads a JSON number with so many digits as it was written."""
_MOST_DECIMALS = 6

Value = str | int | float
"""A value as JSON has it."""


class FieldKind(StrEnum):
    """Which values a field takes."""

    TEXT = "text"
    NUMBER = "number"
    DATE = "date"
    CHOICE = "choice"


class OwnField(NamedTuple):
    """The definition of a field."""

    key: str
    label: str
    kind: FieldKind
    choices: tuple[str, ...] = ()
    """In their order. Empty unless the kind is `CHOICE`."""


def field_label(written: str) -> str:
    """Return a label as it is stored. Raises ValueError, which says what is wrong."""
    return _line(written, LONGEST_LABEL)


def field_key(written: str) -> str:
    """Return a key. Raises ValueError for a text that is none."""
    if not re.fullmatch(KEY_PATTERN, written):
        msg = (
            "must begin with a letter and have only the letters a to z, digits and _, "
            f"at most {LONGEST_KEY} characters"
        )
        raise ValueError(msg)
    return written


def suggested_key(label: str) -> str:
    """Return the key of a field that was given none: "Größe (EU)" has ``groe_eu``."""
    plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
    key = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    if not key[:1].isalpha():
        key = f"field_{key}"
    return key[:LONGEST_KEY].strip("_")


def choice_names(written: Sequence[str]) -> tuple[str, ...]:
    """Return choices as they are stored. Raises ValueError, which says what is wrong.

    Filters list choices with commas between them, so none has one.
    """
    names = [_choice(each) for each in written]
    if not names:
        msg = "must have at least one choice"
        raise ValueError(msg)
    if len(names) > MOST_CHOICES:
        msg = f"must have at most {MOST_CHOICES} choices"
        raise ValueError(msg)
    known: set[str] = set()
    for name in names:
        if tag_key(name) in known:
            msg = f"has the choice {name!r} twice; capitals make no difference"
            raise ValueError(msg)
        known.add(tag_key(name))
    return tuple(names)


def value_of(field: OwnField, given: object) -> Value:
    """Return a JSON value as it is stored. Raises ValueError, which says how to mend it."""
    if field.kind is FieldKind.NUMBER:
        if isinstance(given, bool) or not isinstance(given, int | float):
            msg = f"{_NOT_A_NUMBER}, without quotes"
            raise ValueError(msg)
        if isinstance(given, float) and not math.isfinite(given):
            raise ValueError(_NOT_A_NUMBER)
        if isinstance(given, int) and abs(given) >= 10**_MOST_DIGITS:
            raise ValueError(_TOO_MANY_DIGITS)
        return _number(Decimal(repr(given)))
    if not isinstance(given, str):
        msg = f"must be in quotes, because this field is a {field.kind}"
        raise ValueError(msg)  # noqa: TRY004 - people read it
    return read_value(field, given)


_NOT_A_NUMBER = "must be a number, such as 42 or 99.5"
_TOO_MANY_DIGITS = f"must have at most {_MOST_DIGITS} digits"


def read_value(field: OwnField, written: str) -> Value:
    """Return the value that a person or a file has written as text.

    Raises ValueError, which says what is wrong. A blank text is no value; the caller sees to it.
    """
    text = written.strip()
    if field.kind is FieldKind.TEXT:
        return _line(text, LONGEST_TEXT)
    if field.kind is FieldKind.NUMBER:
        if not re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", text):
            raise ValueError(_NOT_A_NUMBER)
        return _number(Decimal(text))
    if field.kind is FieldKind.DATE:
        return _day(text)
    wanted = tag_key(text)
    for choice in field.choices:
        if tag_key(choice) == wanted:
            return choice
    msg = f"must be one of {', '.join(field.choices)}"
    raise ValueError(msg)


def write_value(value: Value) -> str:
    """Return a value as text that `read_value` reads."""
    return format(Decimal(repr(value)), "f") if isinstance(value, float) else str(value)


def still_valid(fields: Sequence[OwnField], values: Mapping[str, object]) -> dict[str, Value]:
    """Return those of some former values that the fields of today take."""
    by_key = {field.key: field for field in fields}
    valid = dict[str, Value]()
    for key, value in values.items():
        try:
            valid[key] = value_of(by_key[key], value)
        except (KeyError, ValueError):
            continue
    return valid


def unknown_field(fields: Sequence[OwnField]) -> str:
    """Return what is wrong with a key that no field has, after the key."""
    if not fields:
        return "is not a field; there are none yet, and admins define them"
    return f"is not a field; the fields are {', '.join(field.key for field in fields)}"


def _number(number: Decimal) -> int | float:
    number = number.normalize()
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)  # noqa: S101 - it is finite
    if -exponent > _MOST_DECIMALS:
        msg = f"must have at most {_MOST_DECIMALS} decimals"
        raise ValueError(msg)
    if len(digits) + max(exponent, 0) > _MOST_DIGITS:
        raise ValueError(_TOO_MANY_DIGITS)
    return int(number) if exponent >= 0 else float(number)


def _day(text: str) -> str:
    msg = "must be a date, such as 2026-11-28"
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError(msg)
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError(msg) from None


def _choice(written: str) -> str:
    name = _line(written, LONGEST_CHOICE)
    if "," in name:
        msg = "must not have a comma in a choice; commas separate choices"
        raise ValueError(msg)
    return name


def _line(written: str, longest: int) -> str:
    """Return a text on one line, with single blanks."""
    line = " ".join(unicodedata.normalize("NFC", written).split())
    if not line:
        msg = "must not be blank"
        raise ValueError(msg)
    if len(line) > longest:
        msg = f"must have at most {longest:,} characters"
        raise ValueError(msg)
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in line):
        msg = "must not contain control characters"
        raise ValueError(msg)
    return line
