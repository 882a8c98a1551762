"""Cursors of keyset pagination: where a page ended, opaque to the caller."""

import base64
import binascii
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson


class Listed(NamedTuple):
    """A page of a list."""

    items: list[dict[str, Any]]
    total: int
    next_cursor: str | None


class BadCursorError(Exception):
    """The cursor is not one of this list's; leave it out to begin at the first page."""


def encode(value: str, last_id: int, order: str) -> str:
    """Note the sort value and id of the last row shown, and the order they were sorted in."""
    return base64.urlsafe_b64encode(orjson.dumps([value, last_id, order])).decode().rstrip("=")


def decode(cursor: str, order: str) -> tuple[str, int]:
    """Give back value and id. Raises BadCursorError for garbage and for another order's."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        value, last_id, made_for = orjson.loads(base64.urlsafe_b64decode(padded))
    except (binascii.Error, ValueError, TypeError):
        raise BadCursorError from None
    if made_for != order or not isinstance(value, str) or not isinstance(last_id, int):
        raise BadCursorError
    return value, last_id


def encode_moment(at: datetime, last: str, order: str) -> str:
    """Note the moment and id of the last row of a list sorted by time."""
    return encode(f"{at.isoformat()} {last}", 0, order)


def decode_moment(cursor: str | None, order: str) -> tuple[datetime | None, str]:
    """Give back moment and id, None before the first page. Raises BadCursorError."""
    if cursor is None:
        return None, ""
    moment, _, last = decode(cursor, order)[0].partition(" ")
    try:
        at = datetime.fromisoformat(moment)
        if at.tzinfo is None or "\x00" in last:
            raise BadCursorError
        return at.astimezone(UTC), last
    except (ValueError, OverflowError):
        raise BadCursorError from None
