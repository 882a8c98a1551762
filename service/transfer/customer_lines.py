"""Read a line of a customers file, in the columns of the export, without a database."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from types import MappingProxyType
from typing import NamedTuple, NoReturn

from pydantic import TypeAdapter, ValidationError

from service.core.customer_ids import customer_number, customer_ref
from service.core.identifiers import (
    IdentifierKind,
    email_key,
    external_identifier,
    kind_of,
    phone_identifier,
    phone_key,
    written_email,
)
from service.core.judge import AHEAD
from service.core.numbers import whole_number
from service.core.order_contract import EARLIEST, CustomerData
from service.core.order_event import REGISTERS
from service.core.own_fields import Value
from service.core.segment_rules import Segment
from service.core.tags import MOST_TAGS, tag_names
from service.transfer.formulas import unescaped, unescaped_notes
from service.transfer.lines import LineFault, RefusedLineError

_GREATEST_ID = 10**15 - 1
"""Leaves enough greater ids for customers who are created later."""
_LONGEST_NOTES = 20_000
_LONGEST_REFERENCE = 200
_LONGEST_IDENTIFIER = 1000
_LONGEST_PART = 1000


class Held(NamedTuple):
    """A segment that was set by hand, and how long it holds: see `service.db.segments.assign`."""

    pinned: bool = False
    until: datetime | None = None


class CustomerLine(NamedTuple):
    """A customer as a line describes them. None: the line does not say."""

    email: str | None = None
    """As it is written; in lower case, its normal form."""
    id: int | None = None
    name: str | None = None
    phone: str | None = None
    address: dict[str, str] | None = None
    notes: str | None = None
    email_opt_in: bool | None = None
    sms_opt_in: bool | None = None
    date_created: datetime | None = None
    segment: Segment | None = None
    held: Held | None = None
    """How the segment was held. None: it was not."""
    external: str | None = None
    """The identifier of what a shop's system calls them."""
    phone_identifier: str | None = None
    """If nothing else says who they are."""
    identifiers: tuple[str, ...] = ()
    """Others that mean them, as our export lists them."""
    tags: tuple[str, ...] = ()
    """They are added to those that the customer has."""
    fields: Mapping[str, Value | None] = MappingProxyType({})
    """Values of own fields, by key. None: the field is cleared."""
    by_hand: frozenset[str] = frozenset()
    """Registers whose value a person typed, as our export lists them."""
    cleared: frozenset[str] = frozenset()
    """Fields whose cell is empty, if empty cells clear."""
    figures: tuple[int | None, Decimal | None] = (None, None)
    """Orders and money, if the file says them. They are only compared."""

    @property
    def email_key(self) -> str | None:
        """The e-mail as it is compared with others."""
        return email_key(self.email) if self.email else None


_CUSTOMER = TypeAdapter(CustomerData)
_ADDRESS = ("Street", "City", "State", "Zip", "Country")
_ANSWERS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_CLEARED_BY = {
    "name": ("Name",),
    "phone": ("Phone",),
    "notes": ("Notes",),
    "address": _ADDRESS,
    "tags": ("Tags",),
}
OUTLOOK_COLUMNS = (
    "Chance 90 Days",
    "Expected Orders 12 Months",
    "Expected Value 12 Months",
    "Expected Next Order",
    "RFM Group",
)
"""What our export writes of predictions. No line states it: it is computed from orders."""
UNTIL_NEXT_ORDER = "until their next order"
PINNED = "for good"
"""How long a hold lasts, in the column Hold; otherwise a time."""


def customer_line(
    cells: Mapping[str, str],
    now: datetime,
    zone: tzinfo,
    country: str | None = None,
    *,
    clear_empty: bool = False,
) -> CustomerLine | LineFault:
    """Read the cells of a line by column; a missing column is an empty cell.

    A date without an offset is one of ``zone``. ``country`` is where phone numbers without ``+``
    are from, unless the line has one.
    """
    try:
        person, number = _person(cells), _customer_id(cells)
        external, identifiers = _external(cells), _identifiers(_cell(cells, "Identifiers"))
        phone = person.get("phone") or None
        alone = None
        if not person.get("email") and not external and number is None:
            alone = phone_key(phone or "", _cell(cells, "Country").upper() or country)
            if alone is None:
                _refuse_nameless()
        elif not (person.get("email") or person.get("name") or phone or external or identifiers):
            _refuse_empty()
        held = _held(_cell(cells, "Hold"))
        return CustomerLine(
            email=written_email(unescaped(cells.get("Email", ""))),
            id=number,
            name=person.get("name") or None,
            phone=phone,
            address=_address(cells),
            notes=_notes(unescaped_notes(cells.get("Notes", ""))),
            email_opt_in=_answer(cells, "Email Opt-in"),
            sms_opt_in=_answer(cells, "SMS Opt-in"),
            date_created=_date_created(_cell(cells, "Date Created"), now, zone),
            segment=_segment(_cell(cells, "Segment")),
            held=held,
            external=external,
            phone_identifier=alone and phone_identifier(alone),
            identifiers=identifiers,
            tags=_tags(unescaped(_cell(cells, "Tags"))),
            by_hand=_by_hand(cells),
            cleared=_cleared(cells) if clear_empty else frozenset(),
            figures=_figures(cells),
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
        remedy = "clear it, or take it as External ID if it is the number that your shop gives them"
        raise RefusedLineError("ID", problem, remedy, "ID=External ID")
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
        if name != "email" and len(value) > _LONGEST_PART:
            problem = f"is longer than {_LONGEST_PART} characters"
            raise RefusedLineError(name.title(), problem, "correct it")
    try:
        return _CUSTOMER.validate_python(values)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        longest = fault.get("ctx", {}).get("max_length")
        problem = f"is longer than {longest} characters" if longest else fault["msg"]
        problem = problem.partition(";")[0]
        raise RefusedLineError(str(fault["loc"][0]).title(), problem, "correct it") from None


def _refuse_nameless() -> NoReturn:
    raise RefusedLineError(
        "Email",
        "is empty",
        "give an e-mail, a phone with its country, or the ID of a customer who has neither",
    )


def _refuse_empty() -> NoReturn:
    raise RefusedLineError("Name", "is empty", "give a name, a phone or an e-mail")


def _external(cells: Mapping[str, str]) -> str | None:
    value = _cell(cells, "External ID")
    if not value or value == "0":
        return None
    _refuse_nul("External ID", value)
    source = _cell(cells, "Source")
    if len(value) > _LONGEST_REFERENCE or len(source) > _LONGEST_REFERENCE:
        problem = f"is longer than {_LONGEST_REFERENCE} characters"
        raise RefusedLineError("External ID", problem, "correct it")
    return external_identifier(source, value)


def _address(cells: Mapping[str, str]) -> dict[str, str] | None:
    address = {}
    for column in _ADDRESS:
        value = unescaped(_cell(cells, column)).strip()
        _refuse_nul(column, value)
        if value:
            address[column.lower()] = value[:_LONGEST_PART]
    return address or None


def _answer(cells: Mapping[str, str], column: str) -> bool | None:
    value = _cell(cells, column).lower()
    if value and value not in _ANSWERS:
        raise RefusedLineError(column, f"{_quoted(value)} is neither yes nor no", "write yes or no")
    return _ANSWERS.get(value)


def _held(value: str) -> Held | None:
    if not value:
        return None
    if value == UNTIL_NEXT_ORDER:
        return Held()
    if value == PINNED:
        return Held(pinned=True)
    try:
        until = datetime.fromisoformat(value.upper())
        return Held(until=until if until.tzinfo else until.replace(tzinfo=UTC))
    except ValueError:
        raise RefusedLineError(
            "Hold",
            f"{_quoted(value)} is not how long a segment holds",
            f"write “{UNTIL_NEXT_ORDER}”, “{PINNED}” or a time, or clear it",
        ) from None


def _identifiers(value: str) -> tuple[str, ...]:
    """Return the identifiers of a cell: a JSON list, because they may have any character."""
    if not value:
        return ()
    try:
        found = json.loads(value)
        kinds = {kind_of(each) for each in found}
        if not kinds <= {IdentifierKind.EMAIL, IdentifierKind.EXTERNAL, IdentifierKind.PHONE}:
            raise ValueError  # noqa: TRY301 - one message for all
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise RefusedLineError(
            "Identifiers", "is not a list that the export wrote", "clear it"
        ) from None
    for each in found:
        _refuse_nul("Identifiers", each)
    return tuple(dict.fromkeys(each[:_LONGEST_IDENTIFIER] for each in found))


def _tags(value: str) -> tuple[str, ...]:
    try:
        found = tag_names(value)
    except ValueError as error:
        raise RefusedLineError("Tags", f"has a tag that {error}", "correct it") from None
    if len(found) > MOST_TAGS:
        raise RefusedLineError("Tags", f"has more than {MOST_TAGS} tags", "leave some out")
    return tuple(found)


def _by_hand(cells: Mapping[str, str]) -> frozenset[str]:
    names = {name.strip() for name in _cell(cells, "By Hand").split(",")}
    return frozenset(names & set(REGISTERS))


def _cleared(cells: Mapping[str, str]) -> frozenset[str]:
    """Return the fields whose columns the file has, all of them empty in this line."""
    return frozenset(
        field
        for field, columns in _CLEARED_BY.items()
        if any(column in cells for column in columns)
        and not any(_cell(cells, column) for column in columns)
    )


def _figures(cells: Mapping[str, str]) -> tuple[int | None, Decimal | None]:
    orders = whole_number(_cell(cells, "Total Orders"))
    try:
        spent = Decimal(_cell(cells, "Total Spent").replace(",", "") or "NaN")
    except ArithmeticError:
        return orders, None
    return orders, spent if spent.is_finite() else None


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
