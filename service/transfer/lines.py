"""Lines of a file of customers, in the columns of the export: read, or refused with a reason."""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from service.core.customer_ids import customer_number, customer_ref
from service.core.judge import AHEAD, EARLIEST, CustomerData
from service.core.segment_rules import Segment
from service.transfer.export import undefused

_GREATEST_ID = 10**15 - 1
"""Leaves room for the ids of customers who come later."""
_LONGEST_NOTES = 20_000


class LineFault(NamedTuple):
    """Why a line was refused, where, and what to do."""

    column: str
    what: str
    mend: str


class Verdict(StrEnum):
    """What a line does, or did."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


class CustomerLine(NamedTuple):
    """A customer as a line has it; None where the line says nothing."""

    email: str
    id: int | None = None
    name: str | None = None
    phone: str | None = None
    notes: str | None = None
    date_created: datetime | None = None
    segment: Segment | None = None

    @property
    def email_key(self) -> str:
        """The e-mail as it is compared."""
        return self.email.lower()


class _RefusedError(Exception):
    """Carries the fault of a line."""

    def __init__(self, column: str, what: str, mend: str) -> None:
        super().__init__(what)
        self.fault = LineFault(column, what, mend)


_CUSTOMER = TypeAdapter(CustomerData)


def customer_line(cells: Mapping[str, str], now: datetime) -> CustomerLine | LineFault:
    """Read a line of the export's columns; those that are not there are empty."""
    plain = {name: value.strip() for name, value in cells.items()}
    try:
        person = _person(cells)
        return CustomerLine(
            email=person.get("email") or "",
            id=_number(plain.get("ID", "")),
            name=person.get("name") or None,
            phone=person.get("phone") or None,
            notes=_notes(undefused(cells.get("Notes", ""), words=True)),
            date_created=_moment(plain.get("Date Created", ""), now),
            segment=_segment(plain.get("Segment", "")),
        )
    except _RefusedError as error:
        return error.fault


def _person(cells: Mapping[str, str]) -> CustomerData:
    values = {
        name.lower(): undefused(cells.get(name, "")).strip() for name in ("Email", "Name", "Phone")
    }
    if not values["email"]:
        raise _RefusedError("Email", "is empty", "give the customer's e-mail address")
    for column, value in values.items():
        _refuse_nul(column.title(), value)
    try:
        return _CUSTOMER.validate_python(values)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        longest = fault.get("ctx", {}).get("max_length")
        what = f"is longer than {longest} characters" if longest else fault["msg"]
        what = what.partition(";")[0]
        raise _RefusedError(str(fault["loc"][0]).title(), what, "correct it") from None


def _notes(value: str) -> str | None:
    if len(value) > _LONGEST_NOTES:
        what = f"is longer than {_LONGEST_NOTES:,} characters"
        raise _RefusedError("Notes", what, "shorten it")
    _refuse_nul("Notes", value)
    return value if value.strip() else None


def _refuse_nul(column: str, value: str) -> None:
    if "\x00" in value:
        raise _RefusedError(column, "contains the character U+0000", "remove it")


def _number(value: str) -> int | None:
    if not value:
        return None
    number = customer_number(value.upper())
    if number is None or number > _GREATEST_ID or customer_ref(number) != value.upper():
        what = f"{value[:40]!r} is no id"
        raise _RefusedError("ID", what, "write it like CUST-1001, or clear it")
    return number


def _segment(value: str) -> Segment | None:
    segment = value.lower().replace(" ", "_").replace("-", "_")
    if segment and segment not in set(Segment):
        what = f"{value[:40]!r} is no segment"
        raise _RefusedError("Segment", what, f"write one of {', '.join(Segment)}, or clear it")
    return Segment(segment) if segment else None


def _moment(value: str, now: datetime) -> datetime | None:
    if not value:
        return None
    try:
        moment = datetime.fromisoformat(value.upper())
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        what = f"{value[:40]!r} is no date in ISO 8601"
        mend = "write it like 2026-11-22T10:00:00Z or 2026-11-22; spreadsheets like to change it"
        raise _RefusedError("Date Created", what, mend) from None
    if not EARLIEST <= moment <= now + AHEAD:
        raise _RefusedError("Date Created", "lies before 1990 or ahead", "correct the date")
    return moment
