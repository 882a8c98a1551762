"""The date ranges of the list's own filter, such as "This month"."""

from datetime import date, timedelta
from enum import StrEnum


class DateSpan(StrEnum):
    """The date ranges of the filter, by when a customer was created, in the store's days."""

    ALL = "all"
    TODAY = "today"
    YESTERDAY = "yesterday"
    LAST_7 = "last-7"
    LAST_30 = "last-30"
    THIS_MONTH = "this-month"
    LAST_MONTH = "last-month"
    CUSTOM = "custom"

    @property
    def label(self) -> str:
        """The name that staff read."""
        return {"all": "All time", "last-7": "Last 7 days", "last-30": "Last 30 days"}.get(
            self.value, self.value.replace("-", " ").capitalize()
        )

    def days(self, today: date) -> tuple[date, date] | None:
        """Return the first and the last day. None for all time and for a custom span."""
        first = today.replace(day=1)
        last_month = first - timedelta(days=1)
        return {
            DateSpan.TODAY: (today, today),
            DateSpan.YESTERDAY: (today - timedelta(days=1),) * 2,
            DateSpan.LAST_7: (today - timedelta(days=6), today),
            DateSpan.LAST_30: (today - timedelta(days=29), today),
            DateSpan.THIS_MONTH: (first, today),
            DateSpan.LAST_MONTH: (last_month.replace(day=1), last_month),
        }.get(self)


LAST_DAYS = {DateSpan.TODAY: 1, DateSpan.LAST_7: 7, DateSpan.LAST_30: 30}
"""The spans that are the last days, today included."""
