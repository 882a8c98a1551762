"""Days of the store's time zone. Where clocks are put forward or back, a day has 23 or 25 hours."""

from datetime import UTC, date, datetime, time, tzinfo


def day_of(moment: datetime, zone: tzinfo) -> date:
    """Return the date that the store's calendar shows at a moment."""
    return moment.astimezone(zone).date()


def beginning_of(day: date, zone: tzinfo) -> datetime:
    """Return the moment at which a day begins, in UTC.

    If clocks are put forward at midnight, that is the first moment after it. If midnight comes
    twice, it is the first one. A day that a zone left out is empty: the next one begins at the same
    moment.
    """
    return datetime.combine(day, time(), zone).astimezone(UTC)
