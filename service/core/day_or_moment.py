"""A day or a moment, as somebody wrote it. A day means the whole day of the store's time zone."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Annotated, final

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from service.core.store_days import beginning_of

BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)
END = datetime(2200, 1, 1, tzinfo=UTC)
_LONGEST_DAY = len("2026-11-22")


@final
@dataclass(frozen=True)
class DayOrMoment:
    """What somebody wrote: a day, or a moment with its offset. One of the two is None."""

    day: date | None = None
    moment: datetime | None = None

    def __str__(self) -> str:
        """Return it in ISO 8601, as `parse_day_or_moment` reads it."""
        if self.day is not None:
            return self.day.isoformat()
        return self.start(UTC).isoformat().replace("+00:00", "Z")

    def start(self, zone: tzinfo) -> datetime:
        """Return the moment, or the beginning of the day."""
        if self.day is not None:
            return beginning_of(self.day, zone)
        assert self.moment is not None  # noqa: S101  one of the two is given
        return self.moment

    def end(self, zone: tzinfo) -> datetime:
        """Return the moment, or the beginning of the next day, so that the day is included."""
        if self.day is not None:
            return beginning_of(self.day + timedelta(days=1), zone)
        return self.start(zone)


def parse_day_or_moment(value: object) -> DayOrMoment:
    """Read a day or a time in ISO 8601. Raises ValueError, which says what is wrong."""
    if isinstance(value, DayOrMoment):
        return value
    if not isinstance(value, str):
        msg = "must be text, such as 2026-11-22 or 2026-11-22T10:00:00Z"
        raise ValueError(msg)  # noqa: TRY004  pydantic catches this one
    try:
        parsed = datetime.fromisoformat(value.upper())
        is_day = len(value) <= _LONGEST_DAY
        if not is_day and parsed.tzinfo is not None:
            parsed = parsed.astimezone(UTC)
    except ValueError:
        msg = "is not ISO 8601; write 2026-11-22 or 2026-11-22T10:00:00Z"
        raise ValueError(msg) from None
    except OverflowError:
        parsed = datetime.max.replace(tzinfo=UTC)
    if not is_day and parsed.tzinfo is None:
        msg = "has no offset; end it with Z for UTC, or leave the time out for the store's day"
        raise ValueError(msg)
    if not BEGINNING.year <= parsed.year < END.year:
        msg = f"must lie between the years {BEGINNING.year} and {END.year}"
        raise ValueError(msg)
    return DayOrMoment(day=parsed.date()) if is_day else DayOrMoment(moment=parsed)


Bound = Annotated[
    DayOrMoment,
    BeforeValidator(parse_day_or_moment),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string"}),  # a day is allowed, too, so it is no `date-time`
]
"""A field of a request that holds a day or a moment."""
