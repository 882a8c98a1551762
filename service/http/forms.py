"""HTML forms, read as text."""

from collections.abc import Mapping

from fastapi import Request

from service.http.body_limits import MOST_FIELDS
from service.http.problems import ProblemError, invalid

_KIND = "application/x-www-form-urlencoded"


async def read_form(request: Request) -> Mapping[str, str]:
    """Return a form's fields. A later field replaces one of the same name.

    Raises a problem for any other encoding than the usual one. No form of ours has files.
    """
    kind = request.headers.get("content-type", _KIND).partition(";")[0].strip().lower()
    if kind != _KIND:
        raise ProblemError(415, "Not a form", f"Send the form as `{_KIND}`.")
    fields: dict[str, str] = {}
    for name, value in (await request.form(max_fields=MOST_FIELDS)).multi_items():
        if not isinstance(value, str) or not _is_text(value):
            raise invalid(name, "must be text without NUL and without half of a surrogate pair")
        fields[name] = value
    return fields


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return "\0" not in value
