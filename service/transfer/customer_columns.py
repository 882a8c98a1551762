"""Lines of customers in PostgreSQL: ``l``, and how they compare with customers ``c``.

A value has the file's date, like one of an event: what a person typed outranks it, and so does
what an event told later.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from service.core.order_event import EMAIL_REGISTER, REGISTERS
from service.core.tags import tag_key
from service.db import registers
from service.db.columns import pack, unpack
from service.transfer.customer_lines import CustomerLine


class FileFacts(NamedTuple):
    """What is the same for all lines of a file."""

    as_of: datetime
    """When its values were true."""
    overwrites_notes: bool
    """Its notes are ours, edited. Other notes only go where there are none."""


EVENT = "import"
"""The event id in the key of a value."""
FILE_REGISTERS = tuple(register for register in REGISTERS if register in CustomerLine._fields)
CHANGED = tuple(register for register in FILE_REGISTERS if register != EMAIL_REGISTER)
"""A file may have an e-mail that a customer had formerly. That does not make it their own again."""
PLAIN = ("email_opt_in", "sms_opt_in")
_COLUMNS = {
    "place": "integer",
    "id": "bigint",
    "email_key": "text",
    "external": "text",
    "phone_identifier": "text",
    "identifiers": "jsonb",
    **{register: registers.KINDS[register] for register in FILE_REGISTERS},
    "notes": "text",
    "email_opt_in": "boolean",
    "sms_opt_in": "boolean",
    "date_created": "timestamptz",
    "segment": "text",
    "held": "boolean",
    "pinned": "boolean",
    "pinned_until": "timestamptz",
    "by_hand": "text",
    "cleared": "text",
    "tags": "jsonb",
    "fields": "jsonb",
    "cleared_fields": "jsonb",
}
LINES = unpack(_COLUMNS)
AS_OF = "CAST(:as_of AS timestamptz)"


def for_each(template: str, names: Sequence[str], between: str = ", ") -> str:
    """Return a template once for each name, which takes the place of ``{it}``."""
    return between.join(template.format(it=name) for name in names)


def listed(register: str, column: str) -> str:
    """Return the condition that a line lists a register in a column of names."""
    return f"coalesce(l.{column} LIKE '%,{register},%', false)"


def says_other(register: str) -> str:
    """Return the condition that a line has another value than the customer, or clears it."""
    return (
        f"(coalesce(l.{register} IS DISTINCT FROM c.{register} AND l.{register} IS NOT NULL, false)"
        f" OR {listed(register, 'cleared')} AND c.{register} IS NOT NULL)"
    )


def outranks(register: str) -> str:
    """Return the condition that the file's value is newer than that of the customer."""
    return f"coalesce(({AS_OF}, '{EVENT}') >= (c.{register}_at, c.{register}_event), true)"


def writes(register: str) -> str:
    """Return the condition that the file's value takes the place of the customer's."""
    return f"({says_other(register)} AND {outranks(register)})"


OTHER_NOTES = (
    f"(coalesce(l.notes <> c.notes, false) OR {listed('notes', 'cleared')} AND c.notes <> '')"
)
WRITES_NOTES = f"({OTHER_NOTES} AND (CAST(:overwrites_notes AS boolean) OR c.notes = ''))"


def packed(lines: Sequence[CustomerLine]) -> dict[str, str | None]:
    """Return the parameters for `LINES`."""
    made = {
        "place": range(len(lines)),
        "held": (line.held is not None and line.segment is not None for line in lines),
        "pinned": (line.held is not None and line.held.pinned for line in lines),
        "identifiers": (list(line.identifiers) for line in lines),
        "pinned_until": (line.held and line.held.until for line in lines),
        "by_hand": (_as_list(line.by_hand) for line in lines),
        "cleared": (_as_list(line.cleared) for line in lines),
        "tags": ([tag_key(name) for name in line.tags] for line in lines),
        "fields": (
            {key: value for key, value in line.fields.items() if value is not None}
            for line in lines
        ),
        "cleared_fields": (
            [key for key, value in line.fields.items() if value is None] for line in lines
        ),
    }
    columns: dict[str, list[Any]] = {
        name: list(made[name]) if name in made else [getattr(line, name) for line in lines]
        for name in _COLUMNS
    }
    return pack(columns)


def _as_list(names: frozenset[str]) -> str:
    return f",{','.join(sorted(names))}," if names else ""
