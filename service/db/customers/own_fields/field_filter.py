"""Filters by own fields: their names, what may be written there, their SQL, and their words.

A name is ``field.`` and the key of a field, and may end with ``From``, ``To``, ``Contains`` or
``Empty``: a key has no capitals. Which fields there are is not known here. So a filter is read
without a database, and a view that names a field which is gone chooses nobody.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, NamedTuple, Self

from pydantic import Field, TypeAdapter

from service.core.day_or_moment import DayOrMoment
from service.core.own_fields import FieldKind, OwnField, read_value, unknown_field, write_value
from service.db.customers.criteria import Choices, Condition, Control, Notation, Words

PREFIX = "field."
"""Begins the name of each filter by an own field."""
_NAME = re.compile(r"field\.([a-z][a-z0-9_]{0,39})(|From|To|Contains|Empty)\Z")
NAME_PATTERN = r"^field\.[a-z][a-z0-9_]{0,39}(From|To|Contains|Empty)?$"
MOST_TESTS = 40
"""Filters by own fields in one filter."""


class FieldTest(StrEnum):
    """What is asked of a value: the end of a filter's name."""

    IS = ""
    """One of several texts."""
    FROM = "From"
    TO = "To"
    CONTAINS = "Contains"
    EMPTY = "Empty"


TESTS_OF: Mapping[FieldKind, Sequence[FieldTest]] = {
    FieldKind.TEXT: (FieldTest.CONTAINS, FieldTest.IS, FieldTest.EMPTY),
    FieldKind.NUMBER: (FieldTest.FROM, FieldTest.TO, FieldTest.IS, FieldTest.EMPTY),
    FieldKind.DATE: (FieldTest.FROM, FieldTest.TO, FieldTest.IS, FieldTest.EMPTY),
    FieldKind.CHOICE: (FieldTest.IS, FieldTest.EMPTY),
}
"""What can be asked of the values of each kind."""


def _bound(written: object) -> Decimal | date:
    """Return a number or a day. Raises ValueError."""
    if isinstance(written, Decimal | date):
        return written
    if isinstance(written, int | float) and not isinstance(written, bool):
        written = repr(written)
    if isinstance(written, str):
        for kind in (FieldKind.NUMBER, FieldKind.DATE):
            try:
                value = read_value(OwnField("", "", kind), written)
            except ValueError:
                continue
            is_day = kind is FieldKind.DATE
            return date.fromisoformat(str(value)) if is_day else Decimal(repr(value))
    msg = "must be a number such as 42, or a day such as 2026-11-28"
    raise ValueError(msg)


_TEXTS: TypeAdapter[list[str]] = TypeAdapter(Choices)
_WORDS: TypeAdapter[str] = TypeAdapter(Annotated[Words, Field(min_length=1)])
_YES_OR_NO: TypeAdapter[bool] = TypeAdapter(bool)
_PARAMETER = "own_{}_{}"


class FieldFilter(NamedTuple):
    """One filter by an own field. Its values are read by `read`."""

    key: str
    test: FieldTest

    @classmethod
    def named(cls, name: str) -> Self | None:
        """Return what a name means; None if it is no name of such a filter."""
        found = _NAME.match(name)
        return cls(found[1], FieldTest(found[2])) if found else None

    @property
    def name(self) -> str:
        """The name as requests write it."""
        return f"{PREFIX}{self.key}{self.test}"

    def read(self, written: object) -> Any:
        """Return the value in one form, which can be read again. Raises ValueError."""
        if self.test is FieldTest.IS:
            return _TEXTS.validate_python(_as_stored(written))
        if isinstance(written, list):  # an address may repeat a name
            written = written[-1] if written else ""
        if self.test is FieldTest.CONTAINS:
            return _WORDS.validate_python(_as_stored(written))
        if self.test is FieldTest.EMPTY:
            return _YES_OR_NO.validate_python(written)
        return _bound(written)

    def misfit(self, fields: Sequence[OwnField], value: Any) -> str | None:
        """Return what is wrong with the filter, if there are these fields; None if nothing is."""
        field = next((each for each in fields if each.key == self.key), None)
        if field is None:
            return f"names {self.key}, which {unknown_field(fields)}"
        if self.test not in TESTS_OF[field.kind]:
            names = ", ".join(FieldFilter(self.key, test).name for test in TESTS_OF[field.kind])
            return f"does not fit, because {field.label} is a {field.kind}; use {names}"
        if self.test in {FieldTest.FROM, FieldTest.TO}:
            day = field.kind is FieldKind.DATE
            if isinstance(value, date) is not day:
                return f"must be a {'day such as 2026-11-28' if day else 'number such as 42'}"
        if self.test is FieldTest.IS and field.kind is not FieldKind.TEXT:
            return _misfit_among(field, value)
        return None

    def condition(self, value: Any) -> Condition:
        """Return the condition on ``customers c`` that a value sets."""
        key, wanted = (_PARAMETER.format(self.name[len(PREFIX) :], each) for each in "kv")
        parameters = {key: self.key}
        if self.test is FieldTest.EMPTY and value:
            return Condition(self.name, _IS_EMPTY.format(key=key), parameters)
        if self.test is not FieldTest.EMPTY:
            parameters[wanted] = value
        test = _SQL[self.test, type(value)].format(key=key, value=wanted)
        return Condition(self.name, f"c.id IN ({_HAVING} WHERE {test})", parameters)

    def label(self, field: OwnField) -> str:
        """Return what a form calls the control of this filter."""
        ends = {
            FieldTest.IS: "",
            FieldTest.FROM: ", from" if field.kind is FieldKind.DATE else ", at least",
            FieldTest.TO: ", until" if field.kind is FieldKind.DATE else ", at most",
            FieldTest.CONTAINS: " contains",
            FieldTest.EMPTY: " is empty",
        }
        return f"{field.label}{ends[self.test]}"

    def control(self, field: OwnField) -> Control:
        """Return how a form asks for the value."""
        if self.test is FieldTest.EMPTY:
            return Control.YES_NO
        if field.kind is FieldKind.CHOICE:
            return Control.CHOICE
        if self.test in {FieldTest.FROM, FieldTest.TO}:
            return Control.DAY if field.kind is FieldKind.DATE else Control.AMOUNT
        return Control.TEXT if self.test is FieldTest.IS else Control.WORDS

    def in_words(self, fields: Sequence[OwnField], value: Any, notation: Notation) -> str:
        """Return the filter as a person reads it."""
        label = next((each.label for each in fields if each.key == self.key), self.key)
        if self.test is FieldTest.EMPTY:
            return f"{label}: {'empty' if value else 'not empty'}"
        if self.test is FieldTest.IS:
            return f"{label}: {' or '.join(value)}"
        if self.test is FieldTest.CONTAINS:
            return f"{label} contains “{value}”"
        if isinstance(value, date):
            ends = {FieldTest.FROM: "from", FieldTest.TO: "until"}
            return f"{label} {ends[self.test]} {notation.written(DayOrMoment(value))}"
        ends = {FieldTest.FROM: "or more", FieldTest.TO: "or less"}
        return f"{label}: {value:f} {ends[self.test]}"


_HAVING = "SELECT f.customer_id FROM customer_fields f"
# `field_values` has a text or a number. As JSON, numbers compare with numbers.
_TEXT = "f.field_values ->> CAST(:{key} AS text)"
_JSON = "f.field_values -> CAST(:{key} AS text)"
_IS_NUMBER = f"jsonb_typeof({_JSON}) = 'number'"
_NUMBER = "to_jsonb(CAST(:{value} AS numeric))"
_DAY = f'CAST({_TEXT} AS text) COLLATE "C"'
_WRITTEN = "CAST(CAST(:{value} AS date) AS text)"
_SQL: Mapping[tuple[FieldTest, type], str] = {
    (FieldTest.IS, list): f"lower({_TEXT}) = ANY(ARRAY(SELECT lower(each)"
    " FROM unnest(CAST(:{value} AS text[])) each))",
    (FieldTest.CONTAINS, str): f"strpos(lower({_TEXT}), lower(CAST(:{{value}} AS text))) > 0",
    (FieldTest.FROM, Decimal): f"{_IS_NUMBER} AND {_JSON} >= {_NUMBER}",
    (FieldTest.TO, Decimal): f"{_IS_NUMBER} AND {_JSON} <= {_NUMBER}",
    (FieldTest.FROM, date): f"{_DAY} >= {_WRITTEN}",
    (FieldTest.TO, date): f"{_DAY} <= {_WRITTEN}",
    (FieldTest.EMPTY, bool): "f.field_values ? CAST(:{key} AS text)",
}
# A field that is gone has no empty values. Otherwise a view by it would choose everybody.
_IS_EMPTY = (
    f"c.id NOT IN ({_HAVING} WHERE f.field_values ? CAST(:{{key}} AS text))"
    " AND EXISTS (SELECT FROM own_fields WHERE key = CAST(:{key} AS text))"
)


def _as_stored(written: object) -> object:
    """Return texts in the form in which values are stored; JSON may have numbers here."""
    if isinstance(written, int | float) and not isinstance(written, bool):
        return write_value(written)
    if isinstance(written, list):
        return [_as_stored(each) for each in written]
    return unicodedata.normalize("NFC", written) if isinstance(written, str) else written


def _misfit_among(field: OwnField, values: Sequence[str]) -> str | None:
    for written in values:
        try:
            stored = write_value(read_value(field, written))
        except ValueError as error:
            return f"{error}: {written!r} is not" if field.kind is FieldKind.CHOICE else str(error)
        # The database knows other capitals, and no other spelling.
        if stored.lower() != written.lower():
            return f"must be written like {stored}"
    return None
