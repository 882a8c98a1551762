"""HTML forms, read as text."""

from collections.abc import Mapping

from fastapi import Request
from starlette.datastructures import ImmutableMultiDict

from service.http.body_limits import MOST_FIELDS
from service.http.problems import ProblemError, invalid

_KIND = "application/x-www-form-urlencoded"


async def read_form(request: Request) -> Mapping[str, str]:
    """Return a form's fields, of the same name the last one; `values_of` returns all of them.

    Raises a problem for any other encoding than the usual one. No form of ours has files.
    """
    kind = request.headers.get("content-type", _KIND).partition(";")[0].strip().lower()
    if kind != _KIND:
        raise ProblemError(415, "Not a form", f"Send the form as `{_KIND}`.")
    fields = list[tuple[str, str]]()
    for name, value in (await request.form(max_fields=MOST_FIELDS)).multi_items():
        if not isinstance(value, str) or not _is_text(value):
            raise invalid(name, "must be text without NUL and without half of a surrogate pair")
        fields.append((name, value))
    return ImmutableMultiDict(fields)


def values_of(fields: Mapping[str, str]) -> Mapping[str, list[str]]:
    """Return all values of each name in a form or in the query of an address."""
    many = ImmutableMultiDict(fields)
    return {name: many.getlist(name) for name in many}


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return "\0" not in value
