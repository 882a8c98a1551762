"""Days and times in queries. A day without a time means the whole day of the store's time zone."""

from service.core.day_or_moment import DayOrMoment, parse_day_or_moment
from service.http.problems import invalid


def day_or_moment(value: str | None, where: str) -> DayOrMoment | None:
    """Read a parameter; None for None. Raises a problem at ``where`` if it is no day or time."""
    try:
        return None if value is None else parse_day_or_moment(value)
    except ValueError as error:
        raise invalid(where, str(error)) from None
