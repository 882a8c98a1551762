"""SQL for the registers of a customer: a value, and the key (time, event id) it came with.

The greater key wins. A value that a person typed has the time infinity, so no event outranks it.
"""

from service.core.order_event import REGISTERS
from service.db.schema import customers


def columns_of(register: str) -> tuple[str, str, str]:
    """Return the columns of a register: value, time, event id."""
    return register, f"{register}_at", f"{register}_event"


COLUMNS = tuple(column for register in REGISTERS for column in columns_of(register))

KINDS = {
    column: kind
    for register in REGISTERS
    for column, kind in zip(
        columns_of(register),
        (customers.c[register].type.compile().lower(), "timestamptz", "text"),
        strict=True,
    )
}
"""The type of each column in SQL."""


def listed(relation: str) -> str:
    """Return all columns of a relation's registers, for a SELECT."""
    return ", ".join(f"{relation}.{column}" for column in COLUMNS)


def newer(register: str, new: str, stored: str) -> str:
    """Return the condition that a register of ``new`` outranks that of ``stored``."""
    _, at, event = columns_of(register)
    # Comparing with a NULL key gives NULL. Then a new value wins if there is one.
    return (
        f"coalesce(({new}.{at}, {new}.{event}) > ({stored}.{at}, {stored}.{event}),"
        f" {new}.{at} IS NOT NULL)"
    )


def any_newer(new: str, stored: str) -> str:
    """Return the condition that any register of ``new`` outranks that of ``stored``."""
    return " OR ".join(newer(register, new, stored) for register in REGISTERS)


def merged(new: str, stored: str) -> str:
    """Return the SELECT list in which each register has the greater key of two relations."""
    return ",\n    ".join(
        f"CASE WHEN {newer(register, new, stored)} THEN {new}.{column} ELSE {stored}.{column} END"
        f" AS {column}"
        for register in REGISTERS
        for column in columns_of(register)
    )


def typed_values(register: str) -> str:
    """Return the SELECT list of a register that a person typed; all NULL if there is no value."""
    return (
        f"{register},"
        f" CASE WHEN {register} IS NOT NULL THEN CAST('infinity' AS timestamptz) END,"
        f" CASE WHEN {register} IS NOT NULL THEN '' END"
    )


def typed_key(register: str) -> str:
    """Return the assignments that give a register the key of what a person typed."""
    _, at, event = columns_of(register)
    return f"{at} = 'infinity', {event} = ''"


def typed_if_new(register: str, typed: str, stored: str) -> str:
    """Return the assignments that write the value of ``typed`` to a register if it is another one.

    An equal or missing text leaves the value and its key as they are stored.
    """
    value, at, event = columns_of(register)
    changes = f"{typed}.{value} <> coalesce({stored}.{value}, '')"
    return (
        f"{value} = coalesce({typed}.{value}, {stored}.{value}),"
        f" {at} = CASE WHEN {changes} THEN 'infinity' ELSE {stored}.{at} END,"
        f" {event} = CASE WHEN {changes} THEN '' ELSE {stored}.{event} END"
    )
