"""HTML forms, read as text."""

from collections.abc import Mapping

from fastapi import Request

from service.http.problems import invalid


async def read_form(request: Request) -> Mapping[str, str]:
    """Return a form's fields; of several with one name, the last. Raises a problem for files."""
    fields: dict[str, str] = {}
    for name, value in (await request.form(max_files=0)).multi_items():
        if not isinstance(value, str) or not _is_text(value):
            raise invalid(name, "is not text: it has a NUL or half of a surrogate pair")
        fields[name] = value
    return fields


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return "\0" not in value
