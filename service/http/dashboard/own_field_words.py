"""Own fields and their values, as people read them."""

from collections.abc import Iterable, Mapping
from datetime import date

from service.core.own_fields import FieldKind, OwnField, Value, write_value
from service.db.customers.editing import OWN
from service.http.dashboard.formats import Formats


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
