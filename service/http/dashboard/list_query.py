"""The query of the customers page: filters, sorting, page.

What somebody searches for is a person's name or e-mail, and addresses end up in the logs of
proxies. So the search travels in the body of a form. In the address of the page it stands after the
``#``, which browsers do not send.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from typing import NamedTuple, Self
from urllib.parse import urlencode

from service.core.numbers import whole_number
from service.core.segment_rules import Segment
from service.db.customers.filters import Filter
from service.db.customers.sorting import Sort
from service.db.statistics.counters import Window
from service.db.store_clock import StoreClock

ROWS = 10
LAST = -1
"""The number of the last page in a query."""
_DIGITS = 9
_LONGEST_SEARCH = 200
_FIRST_YEAR, _LAST_YEAR = 1990, 2199
_FIRST_DAY = date(_FIRST_YEAR, 1, 1)
"""The first of the chosen days, if only the last one is given."""


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


class Compared(NamedTuple):
    """With what a figure is compared, in words."""

    since: str
    """Follows a change: "50% from the 7 days before"."""
    then: str
    """Follows an earlier value: "0 in the 7 days before"."""


@dataclass(frozen=True)
class ListQuery:
    """Filters, sorting and page of the list. Invalid parts of the query are ignored."""

    segment: Segment | None = None
    span: DateSpan = DateSpan.ALL
    first: date | None = None
    last: date | None = None
    search: str = ""
    sort: Sort = Sort.DATE_CREATED
    descending: bool = True
    number: int = 1
    """The page, counted from 1. `LAST` asks for the last one, whatever its number."""
    cursor: str = ""
    """Where the page begins, sealed by `list_pages`. Empty: by its number, which is approximate."""

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Self:
        """Read the query of an address, or the fields of the form."""
        sort = query.get("sort", "-dateCreated")
        number, _, cursor = query.get("page", "").partition(".")
        known = sort.removeprefix("-") in set(Sort)
        return cls(
            segment=Segment(query["segment"]) if query.get("segment") in set(Segment) else None,
            span=DateSpan(query["span"]) if query.get("span") in set(DateSpan) else DateSpan.ALL,
            first=_day(query.get("from", "")),
            last=_day(query.get("to", "")),
            search=query.get("q", "").replace("\x00", "").strip()[:_LONGEST_SEARCH],
            sort=Sort(sort.removeprefix("-")) if known else Sort.DATE_CREATED,
            descending=sort.startswith("-") or not known,
            number=LAST if number == "last" else max(whole_number(number, _DIGITS) or 1, 1),
            cursor=cursor,
        )

    @property
    def address(self) -> str:
        """The address of this page. Defaults are left out."""
        query = urlencode(list(self._query()))
        searched = f"#{urlencode({'q': self.search})}" if self.search else ""
        return f"/?{query}{searched}" if query else f"/{searched}"

    @property
    def fields(self) -> list[tuple[str, str]]:
        """The query as the fields of a form. Defaults are left out."""
        return [*self._query(), *([("q", self.search)] if self.search else [])]

    @property
    def order(self) -> str:
        """The field to sort by, after ``-`` if it descends; empty for the usual order."""
        usual = (self.sort, self.descending) == (Sort.DATE_CREATED, True)
        return "" if usual else f"{'-' if self.descending else ''}{self.sort}"

    def with_(self, **changes: object) -> "ListQuery":
        """Return a copy with these changes, back on page one."""
        return replace(self, **{"number": 1, "cursor": "", **changes})  # type: ignore[arg-type]

    @property
    def page(self) -> str:
        """The page, as an address has it."""
        number = "last" if self.number == LAST else str(self.number)
        return f"{number}.{self.cursor}" if self.cursor else number

    def sorted_by(self, sort: str) -> "ListQuery":
        """Return the list sorted by a column. A second click on the same column reverses it.

        The first click sorts figures and dates from the greatest, texts from A.
        """
        wanted = Sort(sort)
        first_down = wanted not in {Sort.NAME, Sort.EMAIL, Sort.SEGMENT}
        down = not self.descending if wanted == self.sort else first_down
        return self.with_(sort=wanted, descending=down)

    @property
    def narrowed(self) -> bool:
        """Whether a filter or a search is set."""
        return bool(self.segment or self.search or self.span != DateSpan.ALL)

    def days(self, today: date) -> tuple[date, date] | None:
        """Return the first and the last of the chosen days. None for all time."""
        if self.span == DateSpan.CUSTOM and (self.first or self.last):
            first = self.first or _FIRST_DAY
            last = self.last or max(first, today)
            return min(first, last), max(first, last)
        return self.span.days(today)

    def window(self, clock: StoreClock) -> Window | None:
        """Return the chosen days of the store as a window of time. None for all time.

        It is compared with as many days before it, and last month with the month before it.
        """
        days = self.days(clock.today)
        if days is None:
            return None
        month_before = (days[0] - timedelta(days=1)).replace(day=1)
        first_before = month_before if self.span == DateSpan.LAST_MONTH else None
        return Window.of_days(*days, clock.zone, first_before)

    def compared(self, today: date) -> Compared | None:
        """Return with what the figures of the list are compared. None if nothing can be."""
        days = self.days(today)
        if days is None:
            return None if self.search else Compared("in 30 days", "30 days ago")
        first, last = days
        if first == _FIRST_DAY:
            return None
        length = (last - first).days + 1
        name = "the day before" if length == 1 else f"the {length} days before"
        if self.span == DateSpan.LAST_MONTH:
            name = "the month before"
        # A day that is not over is compared with a whole one.
        so_far = "so far, " if last >= today else ""
        return Compared(f"{so_far}from {name}", name if length == 1 else f"in {name}")

    def filter(self, window: Window | None) -> Filter:
        """Return the filter for the database."""
        return Filter(
            segments=(self.segment,) if self.segment else (),
            search=self.search,
            date_from=window and window.start,
            date_to=window and window.end,
        )

    def _query(self) -> Iterator[tuple[str, str]]:
        if self.segment:
            yield "segment", self.segment.value
        if self.span != DateSpan.ALL:
            yield "span", self.span.value
        if self.span == DateSpan.CUSTOM:
            yield from (
                (n, d.isoformat()) for n, d in (("from", self.first), ("to", self.last)) if d
            )
        if self.order:
            yield "sort", self.order
        if self.page != "1":
            yield "page", self.page


def _day(written: str) -> date | None:
    try:
        day = date.fromisoformat(written)
    except ValueError:
        return None
    return day if _FIRST_YEAR <= day.year <= _LAST_YEAR else None
