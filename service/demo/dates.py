"""The calendar of 1997-98, moved so that its last day ends today.

If all days ran at one pace, all segments could never appear together. Every customer's first
purchase was 462 to 545 days before the last day. To have anyone ``new`` (bought once, less than 60
days ago), the pace must be above 462 / 60; to have anyone ``inactive``, below 545 / 90. So the
weeks in which customers arrived keep their length, and the later time, in which they only came
back, runs faster.
"""

from datetime import UTC, date, datetime, timedelta

FIRST_DAY = date(1997, 1, 1)
LAST_DAY = date(1998, 6, 30)
REAL_DAYS = (LAST_DAY - FIRST_DAY).days + 1
ARRIVAL_DAYS = 84
"""The first days, in which every customer of the sample bought for the first time."""
LATER_PACE = 14
"""This many of the later days are shown as one day."""
SHOWN_DAYS = ARRIVAL_DAYS + (REAL_DAYS - ARRIVAL_DAYS) // LATER_PACE
HEADROOM = timedelta(seconds=90)
"""The last day ends this long before now, so that nothing is in the future."""

CALENDAR_NOTE = (
    f"The {REAL_DAYS} days of 1997-98 are shown as the last {SHOWN_DAYS} days: the first "
    f"{ARRIVAL_DAYS}, in which every customer arrived, day by day, the rest {LATER_PACE} times "
    "as fast."
)
"""The demo prints this, so that people know how the calendar was moved."""


def end_of_history(today: datetime) -> datetime:
    """Return the time in UTC at which the last day of the data ends. ``today`` is aware."""
    return today.astimezone(UTC) - HEADROOM


def shown(day: date, end: datetime) -> tuple[datetime, timedelta]:
    """Return when ``day`` begins in a history that ends at ``end``, and how long it lasts."""
    left = (LAST_DAY - day).days + 1
    later = REAL_DAYS - ARRIVAL_DAYS
    if left > later:
        return end - timedelta(days=SHOWN_DAYS - REAL_DAYS + left), timedelta(days=1)
    length = timedelta(days=1) / LATER_PACE
    return end - left * timedelta(days=1) / LATER_PACE, length
