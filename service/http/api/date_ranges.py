"""Days and moments in queries: a day without a time is a whole day, in UTC."""

from datetime import UTC, datetime, timedelta

from service.http.problems import invalid

BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)
_END = datetime(2200, 1, 1, tzinfo=UTC)
_LONGEST_DAY = len("2026-11-22")


def moment(value: str | None, where: str, *, end: bool = False) -> datetime | None:
    """Read a moment with an offset, or a day; as an ``end``, a day is included as a whole.

    None stays None. Raises a problem that names ``where`` for anything else.
    """
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value.upper())
        if len(value) <= _LONGEST_DAY:
            found = found.replace(tzinfo=UTC) + timedelta(days=1 if end else 0)
        elif found.tzinfo is not None:
            found = found.astimezone(UTC)
    except ValueError:
        message = "is not ISO 8601; write 2026-11-22 or 2026-11-22T10:00:00Z"
        raise invalid(where, message) from None
    except OverflowError:
        found = datetime.max.replace(tzinfo=UTC)
    if found.tzinfo is None:
        raise invalid(where, "has no offset; end it with Z")
    if not BEGINNING <= found < _END:
        raise invalid(where, f"must lie between {BEGINNING.year} and {_END.year}")
    return found
