"""The fields of the customer form: as shown, as entered, and what differs between the two.

Events never overwrite a value that a person typed. So only the fields that somebody really changed
are written; the others stay open to later events.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import Any, Literal

from pydantic import ValidationError
from pydantic.alias_generators import to_snake

from service.core.own_fields import FieldKind, OwnField, read_value, write_value
from service.core.segment_rules import Segment
from service.core.store_days import beginning_of, day_of
from service.db.customers.customer_row import CustomerRow
from service.db.customers.editing import OWN
from service.http.dashboard.formats import Formats
from service.http.problems import invalid

Values = dict[str, str]
"""The text of each control. A checkbox has "on", or an empty text."""


@dataclass(frozen=True)
class Field:
    """One field of the form, as people see it."""

    name: str
    """The name of its control, and of its column or its part of the address."""
    label: str
    kind: Literal["line", "check", "text", "segment", "date", "choice"] = "line"
    within: Literal["", "address", "preferences", "fields"] = ""
    """The object that it belongs to in a `CustomerPatch`; empty for a field of the patch itself."""
    wide: bool = False
    inputmode: str = "text"
    """Which keyboard a phone offers."""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """Fields under one heading."""

    heading: str
    fields: tuple[Field, ...]
    narrow: bool = False
    """Whether four fields fit into one line."""


BASIC = Group(
    "Basic information",
    (
        Field("name", "Name"),
        Field("email", "E-mail", inputmode="email"),
        Field("phone", "Phone", inputmode="tel"),
    ),
)
GROUPS = (
    BASIC,
    Group(
        "Address",
        (
            Field("street", "Street", within="address", wide=True),
            Field("city", "City", within="address"),
            Field("state", "State", within="address"),
            Field("zip", "ZIP", within="address"),
            Field("country", "Country", within="address"),
        ),
        narrow=True,
    ),
    Group(
        "Marketing consent",
        (
            Field("email_opt_in", "Marketing e-mails", "check", within="preferences"),
            Field("sms_opt_in", "Marketing text messages", "check", within="preferences"),
        ),
    ),
    Group("Lifecycle", (Field("segment", "Segment", "segment"),), narrow=True),
    Group("Notes", (Field("notes", "Notes", "text"),)),
)
"""The form, from top to bottom. A column that the API can change needs one entry here."""

OWN_HEADING = "Own fields"
"""They come after these groups: see `groups_with`."""

FIELDS = {field.name: field for group in GROUPS for field in group.fields}
LABELS = {name: field.label for name, field in FIELDS.items()} | {"until": "Last day"}
"""The label of each control that can be wrong."""

_HOLD = ("keep", "until")
"""Controls of the segment that say how long it is kept after it was set by hand."""
_CONTROLS = {"segment_pinned": "segment", "segment_pinned_until": "until"}


def groups_with(own: Sequence[OwnField]) -> tuple[Group, ...]:
    """Return the whole form, with the own fields before the notes, if there are any."""
    fields = tuple(
        Field(
            f"{OWN}{field.key}",
            field.label,
            _CONTROLS_OF[field.kind],
            within="fields",
            inputmode="decimal" if field.kind is FieldKind.NUMBER else "text",
            choices=field.choices,
        )
        for field in own
    )
    *before, notes = GROUPS
    return (*before, Group(OWN_HEADING, fields), notes) if own else GROUPS


_CONTROLS_OF: Mapping[FieldKind, Literal["line", "date", "choice"]] = {
    FieldKind.TEXT: "line",
    FieldKind.NUMBER: "line",
    FieldKind.DATE: "date",
    FieldKind.CHOICE: "choice",
}


def labels_with(own: Sequence[OwnField]) -> dict[str, str]:
    """Return the label of each control that can be wrong, by its name."""
    return LABELS | {f"{OWN}{field.key}": field.label for field in own}


def blank(own: Sequence[OwnField] = ()) -> Values:
    """Return the form of a new customer."""
    names = (*FIELDS, *_HOLD, *(f"{OWN}{field.key}" for field in own))
    return dict.fromkeys(names, "") | {"keep": "order"}


def shown(row: CustomerRow, zone: tzinfo, own: Sequence[OwnField] = ()) -> Values:
    """Return the form of an existing customer, from their row."""
    until = row.segment_pinned_until
    return _canonical(
        {name: _text(field, row) for name, field in FIELDS.items()}
        | {
            f"{OWN}{field.key}": write_value(row.own_fields[field.key])
            if field.key in row.own_fields
            else ""
            for field in own
        }
        | {
            "segment": row.segment if row.segment_manual else "",
            "keep": "good" if row.segment_pinned else "date" if until else "order",
            "until": _last_day(until, zone).isoformat() if until else "",
        }
    )


def entered(fields: Mapping[str, str], was: Values, own: Sequence[OwnField] = ()) -> Values:
    """Read the form.

    A field keeps the value that it was shown with if the person chose the other person's value.
    """
    values = _canonical({name: fields.get(name, "") for name in blank(own)})
    for name in _names(own):
        if fields.get(f"take.{name}") == "theirs":
            values |= {control: was[control] for control in _controls(name)}
    return values


def as_shown(fields: Mapping[str, str], own: Sequence[OwnField] = ()) -> Values:
    """Return the values that the form was shown with, from its hidden control.

    An own field may have come or gone since.
    """
    try:
        was = json.loads(fields.get("was", ""))
    except (ValueError, RecursionError):
        was = None
    if not isinstance(was, dict) or not {*was} >= {*blank()}:
        raise invalid("was", "does not belong to this form; open the form again")
    texts = {name: value if isinstance(value, str) else "" for name, value in was.items()}
    return {name: texts.get(name, "") for name in blank(own)}


def differing(one: Values, other: Values, own: Sequence[OwnField] = ()) -> list[str]:
    """Return the names of the fields in which two forms differ."""
    return [
        name
        for name in _names(own)
        if any(one[control] != other[control] for control in _controls(name))
    ]


def patch(values: Values, changed: Collection[str], zone: tzinfo) -> dict[str, Any]:
    """Return the changed values, by the field names of `CustomerPatch`."""
    body: dict[str, Any] = {}
    for name in changed:
        if name not in FIELDS:  # an own field: see `own_values`
            continue
        field = FIELDS[name]
        owner = body.setdefault(field.within, {}) if field.within else body
        # An empty line clears the field.
        empty = None if field.kind == "line" else ""
        owner[name] = bool(values[name]) if field.kind == "check" else values[name] or empty
    if "segment" in changed:
        body["segment"] = values["segment"] or None
        if values["segment"]:
            dated = values["keep"] == "date"
            body["segment_pinned"] = values["keep"] == "good"
            body["segment_pinned_until"] = _end_of(values["until"], zone) if dated else None
    return body


def own_values(
    values: Values, changed: Collection[str], own: Sequence[OwnField]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the changed values of own fields by key, and a fault for each wrong one."""
    read, faults = dict[str, Any](), dict[str, str]()
    for field in own:
        name = f"{OWN}{field.key}"
        if name in changed:
            try:
                read[field.key] = read_value(field, values[name]) if values[name] else None
            except ValueError as error:
                faults[name] = str(error)
    return read, faults


def faults_of(error: ValidationError) -> dict[str, str]:
    """Return a fault for each invalid control, in words that follow its label."""
    faults: dict[str, str] = {}
    for fault in error.errors():
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "too_long":
            message = f"must not be longer than {fault['ctx']['max_length']:,} characters"
        if fault["type"] == "enum":
            message = "is not one of the choices"
        faults |= fault_at(str(fault["loc"][-1]), message)
    return faults


def fault_at(name: str, message: str) -> dict[str, str]:
    """Return a fault for the control of the field that the API calls ``name``."""
    if name.startswith("fields."):
        return {f"{OWN}{name.removeprefix('fields.')}": message}
    name = to_snake(name)
    control = _CONTROLS.get(name, name)
    return {control: "must be today or later" if control == "until" else message}


def in_words(name: str, values: Values, f: Formats) -> str:
    """Return a field's value as people read it; empty for none."""
    if name not in FIELDS:
        return values[name]
    if FIELDS[name].kind == "check":
        return "Yes" if values[name] else "No"
    if name != "segment":
        return values[name]
    if values["segment"] not in set(Segment):
        return "Automatic"
    until = values["until"]
    lasts = {"good": "for good", "date": f"until {f.day(_day(until)) if _day(until) else '?'}"}
    return f"{Segment(values['segment']).label}, {lasts.get(values['keep'], 'until next order')}"


def kept_for(row: CustomerRow, f: Formats) -> str:
    """Return for how long a segment that was set by hand is kept, as people read it."""
    until = row.segment_pinned_until
    if row.segment_pinned:
        return "for good"
    if until is None:
        return "until their next order"
    if until == beginning_of(day_of(until, f.zone), f.zone):
        return f"until the end of {f.day(_last_day(until, f.zone))}"
    return f"until {f.moment(until)}"


def _names(own: Sequence[OwnField]) -> Iterator[str]:
    yield from FIELDS
    yield from (f"{OWN}{field.key}" for field in own)


def _controls(name: str) -> tuple[str, ...]:
    return (name, *_HOLD) if name == "segment" else (name,)


def _text(field: Field, row: CustomerRow) -> str:
    if field.within == "address":
        return (row.address or {}).get(field.name) or ""
    value = getattr(row, field.name)
    return ("on" if value else "") if field.kind == "check" else value or ""


def _canonical(values: Values) -> Values:
    """Return values that compare equal to what was shown: browsers rewrite the ends of lines."""
    one_line = {n: v.replace("\r", "").replace("\n", "").strip() for n, v in values.items()}
    texts = {
        name: values[name].replace("\r\n", "\n").strip()
        for name, field in FIELDS.items()
        if field.kind == "text"
    }
    canonical = one_line | texts
    if not canonical["segment"]:
        canonical["keep"] = "order"
    if canonical["keep"] != "date":
        canonical["until"] = ""
    return canonical


def _last_day(until: datetime, zone: tzinfo) -> date:
    return day_of(until - timedelta(microseconds=1), zone)


def _end_of(written: str, zone: tzinfo) -> datetime | str:
    day = _day(written)
    if day is None:
        return written  # the model refuses it
    return beginning_of(day + timedelta(days=1), zone)


def _day(written: str) -> date | None:
    try:
        day = date.fromisoformat(written)
    except ValueError:
        return None
    return day if day.year < date.max.year else None
