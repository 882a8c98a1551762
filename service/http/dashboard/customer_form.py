"""The fields of the customer form: as shown, as entered, and what differs between the two.

Only what somebody really changed is written, because what a person typed outranks every event.
"""

import json
from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

from pydantic import ValidationError

from service.core.segment_rules import Segment
from service.db.customers.customer_row import CustomerRow
from service.http.dashboard.formats import Formats
from service.http.problems import invalid

Values = dict[str, str]
"""One text per control; of a checkbox "on" or nothing."""

_LINES = ("name", "email", "phone")
PARTS = ("street", "city", "state", "zip", "country")
_CHECKS = ("email_opt_in", "sms_opt_in")
_TOGETHER = {"segment": ("segment", "keep", "until")}
LABELS = {
    "name": "Name",
    "email": "E-mail",
    "phone": "Phone",
    "street": "Street",
    "city": "City",
    "state": "State",
    "zip": "ZIP",
    "country": "Country",
    "email_opt_in": "May be sent e-mails",
    "sms_opt_in": "May be sent text messages",
    "segment": "Segment",
    "notes": "Notes",
}
"""What a person sees as one field each."""

_CONTROLS = {"segmentPinned": "segment", "segmentPinnedUntil": "until"}


def blank() -> Values:
    """Give the form of somebody new."""
    return dict.fromkeys((*LABELS, "until"), "") | {"keep": "order"}


def shown(row: CustomerRow, zone: tzinfo) -> Values:
    """Give the form of a customer, from their row."""
    address = row.address or {}
    until = row.segment_pinned_until
    return _canonical(
        {name: getattr(row, name) or "" for name in (*_LINES, "notes")}
        | {part: address.get(part) or "" for part in PARTS}
        | {name: "on" if getattr(row, name) else "" for name in _CHECKS}
        | {
            "segment": row.segment if row.segment_manual else "",
            "keep": "good" if row.segment_pinned else "date" if until else "order",
            "until": _last_day(until, zone).isoformat() if until else "",
        }
    )


def entered(fields: Mapping[str, str], was: Values) -> Values:
    """Read the form; where somebody chose another's value, that of the form as it was shown."""
    values = _canonical({name: fields.get(name, "") for name in blank()})
    for label in LABELS:
        if fields.get(f"take.{label}") == "theirs":
            values |= {name: was[name] for name in _TOGETHER.get(label, (label,))}
    return values


def as_shown(fields: Mapping[str, str]) -> Values:
    """Read what the form held when it was shown, which it carries along."""
    try:
        was = json.loads(fields.get("was", ""))
    except ValueError:
        was = None
    if not isinstance(was, dict) or {*was} != {*blank()}:
        raise invalid("was", "is not what this form was shown with; open it again")
    return {name: str(value) for name, value in was.items()}


def differing(one: Values, other: Values) -> list[str]:
    """Name the fields in which two forms differ."""
    return [
        label
        for label in LABELS
        if any(one[name] != other[name] for name in _TOGETHER.get(label, (label,)))
    ]


def request_body(values: Values, changed: Collection[str], zone: tzinfo) -> dict[str, Any]:
    """Write what was changed as the API takes it."""
    body: dict[str, Any] = {name: values[name] for name in (*_LINES, "notes") if name in changed}
    if address := {part: values[part] for part in PARTS if part in changed}:
        body["address"] = address
    if preferences := {name: bool(values[name]) for name in _CHECKS if name in changed}:
        body["preferences"] = preferences
    if "segment" in changed:
        body["segment"] = values["segment"] or None
        if values["segment"]:
            body["segmentPinned"] = values["keep"] == "good"
            body["segmentPinnedUntil"] = None
            if values["keep"] == "date":
                body["segmentPinnedUntil"] = _end_of(values["until"], zone)
    return body


def faults_of(error: ValidationError) -> dict[str, str]:
    """Say what is wrong with which control; the sentence begins with its label."""
    faults: dict[str, str] = {}
    for fault in error.errors():
        name = str(fault["loc"][-1])
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "too_long":
            message = f"must not be longer than {fault['ctx']['max_length']:,} characters"
        if fault["type"] == "enum":
            message = "is none of those that there are"
        faults |= fault_at(name, message)
    return faults


def fault_at(name: str, message: str) -> dict[str, str]:
    """Say at which control something is wrong that the API names so."""
    control = _CONTROLS.get(name, name)
    return {control: "must be a day that has not passed" if control == "until" else message}


def in_words(label: str, values: Values, f: Formats) -> str:
    """Write a field's value for people; empty for none."""
    if label in _CHECKS:
        return "Yes" if values[label] else "No"
    if label != "segment":
        return values[label]
    if values["segment"] not in set(Segment):
        return "Automatic"
    until = values["until"]
    lasts = {"good": "for good", "date": f"until {f.day(_day(until)) if _day(until) else '?'}"}
    return f"{Segment(values['segment']).label}, {lasts.get(values['keep'], 'until next order')}"


def kept(row: CustomerRow, f: Formats) -> str:
    """Say how long a segment that was set by hand is kept."""
    until = row.segment_pinned_until
    if row.segment_pinned:
        return "for good"
    if until is None:
        return "until their next order"
    if until.astimezone(f.zone).time() == time():
        return f"until the end of {f.day(_last_day(until, f.zone))}"
    return f"until {f.moment(until)}"


def _canonical(values: Values) -> Values:
    """Make two ways of writing the same equal: browsers drop and rewrite the ends of lines."""
    one_line = {n: v.replace("\r", "").replace("\n", "").strip() for n, v in values.items()}
    found = one_line | {"notes": values["notes"].replace("\r\n", "\n").strip()}
    if not found["segment"]:
        found["keep"] = "order"
    if found["keep"] != "date":
        found["until"] = ""
    return found


def _last_day(until: datetime, zone: tzinfo) -> date:
    return (until - timedelta(microseconds=1)).astimezone(zone).date()


def _end_of(written: str, zone: tzinfo) -> datetime | str:
    day = _day(written)
    if day is None:
        return written  # the model refuses it
    return datetime.combine(day + timedelta(days=1), time(), zone).astimezone(UTC)


def _day(written: str) -> date | None:
    try:
        day = date.fromisoformat(written)
    except ValueError:
        return None
    return day if day.year < date.max.year else None
