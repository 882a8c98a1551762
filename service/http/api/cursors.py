"""The size of pages, and cursors: where a page ended, as a text that clients only send back."""

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated

import orjson
from fastapi import Query

from service.db.customers.customer_list import SortPosition
from service.db.customers.paging import TimePosition
from service.http.problems import ProblemError, invalid

Limit = Annotated[int, Query(ge=1, le=500)]
"""How many items a page may have."""
Cursor = Annotated[str | None, Query(max_length=2000)]
"""A cursor that `encode_sorted` or `encode_time` made. None asks for the first page."""


def bad_cursor() -> ProblemError:
    """Return the problem for a cursor that belongs to another list or another order."""
    message = "is not a cursor of this list in this order; leave it out to get the first page"
    return invalid("query.cursor", message)


def encode_sorted(position: SortPosition | None, order: str) -> str | None:
    """Return the cursor of a position in a list that is sorted by ``order``."""
    return None if position is None else _encode(position.value, position.id, order)


def decode_sorted(cursor: str | None, order: str) -> SortPosition | None:
    """Return the position of a cursor; None without one. Raises a problem if it is invalid."""
    return None if cursor is None else SortPosition(*_decode(cursor, order))


def encode_time(position: TimePosition | None, order: str) -> str | None:
    """Return the cursor of a position in the list ``order``, which is sorted by time."""
    return (
        None if position is None else _encode(f"{position.at.isoformat()} {position.ref}", 0, order)
    )


def decode_time(cursor: str | None, order: str) -> TimePosition | None:
    """Return the position of a cursor; None without one. Raises a problem if it is invalid."""
    if cursor is None:
        return None
    moment, _, ref = _decode(cursor, order)[0].partition(" ")
    try:
        at = datetime.fromisoformat(moment)
        if at.tzinfo is None or "\x00" in ref:
            raise bad_cursor()
        return TimePosition(at.astimezone(UTC), ref)
    except (ValueError, OverflowError):
        raise bad_cursor() from None


def _encode(value: str, last_id: int, order: str) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([value, last_id, order])).decode().rstrip("=")


def _decode(cursor: str, order: str) -> tuple[str, int]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        value, last_id, made_for = orjson.loads(base64.urlsafe_b64decode(padded))
    except (binascii.Error, ValueError, TypeError):
        raise bad_cursor() from None
    if made_for != order or not isinstance(value, str) or not isinstance(last_id, int):
        raise bad_cursor()
    return value, last_id
