"""Read a line of a customers file, in the columns of the export, without a database."""

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from service.core.customer_ids import customer_number, customer_ref
from service.core.identifiers import email_key, written_email
from service.core.judge import AHEAD
from service.core.order_contract import EARLIEST, CustomerData
from service.core.segment_rules import Segment
from service.transfer.formulas import unescaped, unescaped_notes
from service.transfer.lines import LineFault, RefusedLineError

_GREATEST_ID = 10**15 - 1
"""Leaves enough greater ids for customers who are created later."""
_LONGEST_NOTES = 20_000


class CustomerLine(NamedTuple):
    """A customer as a line describes them. None: the line does not say."""

    email: str | None = None
    """As it is written; in lower case, its normal form."""
    id: int | None = None
    name: str | None = None
    phone: str | None = None
    notes: str | None = None
    date_created: datetime | None = None
    segment: Segment | None = None

    @property
    def email_key(self) -> str | None:
        """The e-mail as it is compared with others."""
        return email_key(self.email) if self.email else None


_CUSTOMER = TypeAdapter(CustomerData)


def customer_line(
    cells: Mapping[str, str], now: datetime, zone: tzinfo
) -> CustomerLine | LineFault:
    """Read the cells of a line by column; a missing column is an empty cell.

    A date without an offset is one of ``zone``.
    """
    try:
        person, number = _person(cells), _customer_id(cells)
        if not person.get("email"):
            _refuse_nameless(person, number)
        return CustomerLine(
            email=written_email(unescaped(cells.get("Email", ""))),
            id=number,
            name=person.get("name") or None,
            phone=person.get("phone") or None,
            notes=_notes(unescaped_notes(cells.get("Notes", ""))),
            date_created=_date_created(_cell(cells, "Date Created"), now, zone),
            segment=_segment(_cell(cells, "Segment")),
        )
    except RefusedLineError as error:
        return error.fault


def stated_id(cells: Mapping[str, str]) -> int:
    """Return the customer number that a line states; 0 if it states none that is valid."""
    try:
        return _customer_id(cells) or 0
    except RefusedLineError:
        return 0


def _customer_id(cells: Mapping[str, str]) -> int | None:
    value = _cell(cells, "ID").upper()
    if not value:
        return None
    number = customer_number(value)
    if number is None or number > _GREATEST_ID or customer_ref(number) != value:
        problem = f"{_quoted(_cell(cells, 'ID'))} is not a customer id"
        raise RefusedLineError("ID", problem, "write it like CUST-1001, or clear it")
    return number


def _cell(cells: Mapping[str, str], column: str) -> str:
    return cells.get(column, "").strip()


def _person(cells: Mapping[str, str]) -> CustomerData:
    values = {
        column.lower(): unescaped(cells.get(column, "")).strip()
        for column in ("Email", "Name", "Phone")
    }
    for name, value in values.items():
        _refuse_nul(name.title(), value)
    try:
        return _CUSTOMER.validate_python(values)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        longest = fault.get("ctx", {}).get("max_length")
        problem = f"is longer than {longest} characters" if longest else fault["msg"]
        problem = problem.partition(";")[0]
        raise RefusedLineError(str(fault["loc"][0]).title(), problem, "correct it") from None


def _refuse_nameless(person: CustomerData, number: int | None) -> None:
    if number is None:
        raise RefusedLineError(
            "Email", "is empty", "give it, or the ID of a customer who has no e-mail"
        )
    if not (person.get("name") or person.get("phone")):
        raise RefusedLineError("Name", "is empty", "give a name, a phone or an e-mail")


def _notes(value: str) -> str | None:
    if len(value) > _LONGEST_NOTES:
        problem = f"is longer than {_LONGEST_NOTES:,} characters"
        raise RefusedLineError("Notes", problem, "shorten it")
    _refuse_nul("Notes", value)
    return value if value.strip() else None


def _refuse_nul(column: str, value: str) -> None:
    """Refuse the one character that Postgres cannot store."""
    if "\x00" in value:
        raise RefusedLineError(column, "contains the character U+0000", "remove it")


def _segment(value: str) -> Segment | None:
    segment = value.lower().replace(" ", "_").replace("-", "_")
    if segment and segment not in set(Segment):
        problem = f"{_quoted(value)} is not a segment"
        raise RefusedLineError(
            "Segment", problem, f"write one of {', '.join(Segment)}, or clear it"
        )
    return Segment(segment) if segment else None


def _date_created(value: str, now: datetime, zone: tzinfo) -> datetime | None:
    if not value:
        return None
    try:
        moment = datetime.fromisoformat(value.upper())
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        problem = f"{_quoted(value)} is not a date in ISO 8601"
        remedy = (
            "write it like 2026-11-22T10:00:00Z or 2026-11-22; a spreadsheet may have changed it"
        )
        raise RefusedLineError("Date Created", problem, remedy) from None
    if not EARLIEST <= moment <= now + AHEAD:
        raise RefusedLineError(
            "Date Created", "is before 1990 or in the future", "correct the date"
        )
    return moment


def _quoted(value: str) -> str:
    return repr(value[:40])
