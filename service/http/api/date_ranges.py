"""Days and times in queries. A day without a time means the whole day, in UTC."""

from datetime import UTC, datetime, timedelta

from service.http.problems import invalid

BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)
_END = datetime(2200, 1, 1, tzinfo=UTC)
_LONGEST_DAY = len("2026-11-22")


def moment(value: str | None, where: str, *, end: bool = False) -> datetime | None:
    """Return the time that a parameter means; None for None.

    A day means its beginning. As an ``end``, it means the beginning of the next day, so that the
    day is included. Raises a problem at ``where`` if the text is no day or time.
    """
    if value is None:
        return None
    try:
        parsed = datetime.fromisoformat(value.upper())
        if len(value) <= _LONGEST_DAY:
            parsed = parsed.replace(tzinfo=UTC) + timedelta(days=1 if end else 0)
        elif parsed.tzinfo is not None:
            parsed = parsed.astimezone(UTC)
    except ValueError:
        message = "is not ISO 8601; write 2026-11-22 or 2026-11-22T10:00:00Z"
        raise invalid(where, message) from None
    except OverflowError:
        parsed = datetime.max.replace(tzinfo=UTC)
    if parsed.tzinfo is None:
        raise invalid(where, "has no time zone; end it with Z for UTC")
    if not BEGINNING <= parsed < _END:
        raise invalid(where, f"must lie between the years {BEGINNING.year} and {_END.year}")
    return parsed
