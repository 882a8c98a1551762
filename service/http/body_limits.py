"""How large the body of a request may be, and how many parts it may have.

Every route takes bodies of `ORDINARY_BYTES`. A route that needs more says so beside its path:
``openapi_extra=body_bytes(LONG_TEXT_BYTES)``. FastAPI's own ``max_body_size`` would answer in plain
text.
"""

import json
import re
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import Scope

ORDINARY_BYTES = 65_536
LONG_TEXT_BYTES = 262_144
"""Enough for 20,000 characters of which JSON escapes each one."""
LONG_FORM_BYTES = 524_288
"""Enough for a form that sends such a text twice, as it was and as it is, each byte as ``%XX``."""
MOST_FIELDS = 200
"""Fields of a form, and parameters of an address. The largest form has 20 fields."""
BODY_BYTES = "x-max-body-bytes"
"""The route's limit in the OpenAPI document."""
RAW_BODY = "x-raw-body"
"""Marks a route that reads the bytes of its body itself, once it knows who sent them."""
UPLOAD = "x-upload"
"""Marks a route that reads a file piece by piece. Its limit is `Config.max_import_bytes`."""
FORM_AROUND_FILE_BYTES = 65_536
"""What the other fields of a form with a file may take, and the form's own signs."""

_MOST_PARTS = 500
"""Values in a JSON document, at every depth. The largest body that makes sense has 20."""
_DEEPEST = 10
_NOT_ENCODED = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def body_bytes(most: int) -> dict[str, Any]:
    """Return the ``openapi_extra`` of a route that takes bodies of up to ``most`` bytes."""
    return {BODY_BYTES: most}


def largest_body(scope: Scope) -> int:
    """Return how many bytes the body may have, by the route that the request was led to."""
    most: int = _extra(scope).get(BODY_BYTES, ORDINARY_BYTES)
    return most


def is_raw(scope: Scope) -> bool:
    """Return whether the route that the request was led to reads the bytes of the body itself."""
    return bool(_extra(scope).get(RAW_BODY))


def is_upload(scope: Scope) -> bool:
    """Return whether the request was led to a route that reads a file."""
    return UPLOAD in _extra(scope)


def _extra(scope: Scope) -> dict[str, Any]:
    return getattr(scope.get("route"), "openapi_extra", None) or {}


def body_too_large(largest: int) -> HTTPException:
    """Return the error for a body of more than ``largest`` bytes.

    It is no ProblemError: FastAPI passes on an HTTPException that is raised while it reads a body,
    but answers 400 to any other error.
    """
    return HTTPException(
        413, f"The body is larger than {largest:,} bytes. Send it in smaller parts."
    )


def file_too_large(largest: int) -> HTTPException:
    """Return the error for a file of more than ``largest`` bytes."""
    return HTTPException(
        413,
        f"The file is larger than {largest:,} bytes. Compress it as zip or gzip, or import it on "
        "the service's machine with `crm import FILE`, which takes files of any size.",
    )


def check_json(document: bytes | bytearray) -> None:
    """Raise an error if a JSON document has more parts, or is nested deeper, than any body may.

    pydantic collects every fault of a document before anybody can cut the list. Faults in 80,000
    unknown fields took it three seconds, in which the process answered nobody else.
    """
    try:
        level: list[Any] = [json.loads(document)]
    except (ValueError, RecursionError):
        return  # the route says what is wrong with it
    parts = 0
    for _ in range(_DEEPEST):
        inner: list[Any] = []
        for value in level:
            parts += len(value) if isinstance(value, dict | list) else 0
            if parts > _MOST_PARTS:
                detail = f"has more than {_MOST_PARTS} values; send only documented fields"
                raise HTTPException(422, detail)
            if isinstance(value, dict | list):
                inner += value.values() if isinstance(value, dict) else value
        level = inner
    if any(isinstance(value, dict | list) for value in level):
        raise HTTPException(422, f"is nested deeper than {_DEEPEST} levels")


def check_form(form: bytes | bytearray) -> None:
    """Raise an error for a form that takes long to parse: empty fields, and ``%`` without digits.

    No browser sends either.
    """
    if form.count(b"&") >= MOST_FIELDS:
        raise HTTPException(422, f"has more than {MOST_FIELDS} fields")
    if _NOT_ENCODED.search(form):
        raise HTTPException(422, "is not encoded as a form: a `%` needs two hexadecimal digits")
