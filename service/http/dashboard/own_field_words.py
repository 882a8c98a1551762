"""Own fields and their values, as people read them."""

from collections.abc import Iterable, Mapping
from datetime import date

from fastapi import Request

from service.core.own_fields import FieldKind, OwnField, Value, write_value
from service.db.customers.editing import OWN
from service.db.customers.own_fields.catalogue import list_fields
from service.http.dashboard.formats import Formats
from service.http.state import snapshot


async def own_fields_of(request: Request) -> list[OwnField]:
    """Return the own fields that there are."""
    async with snapshot(request) as connection:
        return await list_fields(connection)


def own_labels(fields: Iterable[OwnField]) -> Mapping[str, str]:
    """Return the label of each field, by its name in the audit and in a merge."""
    return {f"{OWN}{field.key}": field.label for field in fields}


def own_in_words(field: OwnField, value: Value | None, f: Formats) -> str:
    """Return a value as people read it; empty for none.

    A number has no separators: it may be a year.
    """
    if value is None:
        return ""
    if field.kind is FieldKind.DATE:
        return f.day(date.fromisoformat(str(value)))
    return write_value(value)
