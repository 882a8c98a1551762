"""Limit the size of what a request sends, before anything is done with it."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.core.numbers import whole_number
from service.http.body_limits import (
    FORM_AROUND_FILE_BYTES,
    MOST_FIELDS,
    body_too_large,
    check_form,
    check_json,
    file_too_large,
    is_raw,
    is_upload,
    largest_body,
)
from service.http.problems import ProblemError, invalid

LONGEST_ADDRESS = 16_384
"""Bytes of path and query together."""
LONGEST_HEADER = 8192
"""Bytes of one header's value."""
_MOST_BACKSLASHES = 1000
"""In a cookie. Python 3.11 takes a time that grows with the square of their number (CVE-2024-7592):
seconds for what fits into a header."""


class HeadLimit:
    """Refuses addresses and headers that are too long to be read quickly."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raise a problem before anybody has looked at the address or a header."""
        if scope["type"] == "http":
            query = scope["query_string"]
            if len(query) + len(scope["path"]) > LONGEST_ADDRESS:
                detail = f"Path and query are longer than {LONGEST_ADDRESS:,} bytes."
                raise ProblemError(414, "Address too long", detail)
            if query.count(b"&") >= MOST_FIELDS:
                raise invalid("query", f"has more than {MOST_FIELDS} parameters")
            for name, value in scope["headers"]:
                _check_header(name, value)
        await self._app(scope, receive, send)


def _check_header(name: bytes, value: bytes) -> None:
    if len(value) > LONGEST_HEADER:
        detail = f"A header is longer than {LONGEST_HEADER:,} bytes. Send shorter ones."
        raise ProblemError(431, "Header too long", detail)
    if name == b"cookie" and value.count(b"\\") > _MOST_BACKSLASHES:
        detail = "The cookies are not those of this service. Delete them in the browser."
        raise ProblemError(400, "Invalid cookie", detail)


class BodyLimit:
    """Refuses bodies that are too large for their route, whether the length is announced or not.

    No route takes more than ``largest`` bytes, but those that read a file take one of
    ``largest_file``.
    """

    def __init__(self, app: ASGIApp, largest: int, largest_file: int) -> None:
        """Wrap an application."""
        self._app = app
        self._largest = largest
        self._largest_file = largest_file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raise at once if the announced length is too large, else when too much has arrived.

        Only when the body is read is it known which route it is for.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = _values(scope, b"content-length").decode("latin-1")
        announced = whole_number(length, len(length)) or 0
        kind = _values(scope, b"content-type").lower()
        checks = [check for word, check in _CHECKS.items() if word in kind]
        received, body = 0, bytearray()

        async def limited() -> Message:
            nonlocal received
            self._check(announced, scope)
            message = await receive()
            piece = message.get("body", b"")
            received += len(piece)
            self._check(received, scope)
            if checks and message["type"] == "http.request" and not is_upload(scope):
                body.extend(piece)
                if not message.get("more_body", False):
                    for check in () if is_raw(scope) else checks:
                        check(body)
                    body.clear()
            return message

        if announced > self._largest and not (scope["method"] == "POST" and _is_form(kind)):
            raise body_too_large(self._largest)
        await self._app(scope, limited, send)

    def _check(self, size: int, scope: Scope) -> None:
        if is_upload(scope):
            if size > self._largest_file + FORM_AROUND_FILE_BYTES:
                raise file_too_large(self._largest_file)
        elif size > (largest := min(self._largest, largest_body(scope))):
            raise body_too_large(largest)


_CHECKS = {b"json": check_json, b"urlencoded": check_form}
"""The checks of what routes parse, by a word in the type."""


def _is_form(kind: bytes) -> bool:
    return kind.startswith(b"multipart/form-data")


def _values(scope: Scope, name: bytes) -> bytes:
    """Return all values of a header. A route may read the first one or the last one."""
    return b",".join(value for header, value in scope["headers"] if header == name)
