"""Days and times in queries. A day without a time means the whole day, in UTC."""

from datetime import UTC, datetime, timedelta

from service.http.problems import invalid

BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)
_END = datetime(2200, 1, 1, tzinfo=UTC)
_LONGEST_DAY = len("2026-11-22")


def moment(value: str | None, where: str, *, end: bool = False) -> datetime | None:
    """Return the time that a parameter means; None for None.

    Raises a problem at ``where`` if the text is no day or time.
    """
    try:
        return None if value is None else parse_moment(value, end=end)
    except ValueError as error:
        raise invalid(where, str(error)) from None


def parse_moment(value: object, *, end: bool = False) -> datetime:
    """Return the time that a text means.

    A day means its beginning. As an ``end``, it means the beginning of the next day, so that the
    day is included. Raises ValueError, which says what is wrong.
    """
    if not isinstance(value, str):
        msg = "must be text, such as 2026-11-22 or 2026-11-22T10:00:00Z"
        raise ValueError(msg)  # noqa: TRY004  pydantic catches this one
    try:
        parsed = datetime.fromisoformat(value.upper())
        if len(value) <= _LONGEST_DAY:
            parsed = parsed.replace(tzinfo=UTC) + timedelta(days=1 if end else 0)
        elif parsed.tzinfo is not None:
            parsed = parsed.astimezone(UTC)
    except ValueError:
        msg = "is not ISO 8601; write 2026-11-22 or 2026-11-22T10:00:00Z"
        raise ValueError(msg) from None
    except OverflowError:
        parsed = datetime.max.replace(tzinfo=UTC)
    if parsed.tzinfo is None:
        msg = "has no time zone; end it with Z for UTC"
        raise ValueError(msg)
    if not BEGINNING <= parsed < _END:
        msg = f"must lie between the years {BEGINNING.year} and {_END.year}"
        raise ValueError(msg)
    return parsed
