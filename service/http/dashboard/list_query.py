"""The query of the customers page: filters, sorting, page.

What somebody searches for is a person's name or e-mail, and addresses end up in the logs of
proxies. So the search travels in the body of a form. In the address of the page it stands after the
``#``, which browsers do not send.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import NamedTuple, Self
from urllib.parse import urlencode

from pydantic.alias_generators import to_camel

from service.core.day_or_moment import DayOrMoment
from service.core.numbers import whole_number
from service.core.own_fields import OwnField
from service.core.segment_rules import Segment
from service.db.customers.criteria import Notation
from service.db.customers.customer_filter import EVERYBODY, CustomerFilter
from service.db.customers.filter_reading import Wrong, read_filter
from service.db.customers.filters import Filter
from service.db.customers.sorting import Sort
from service.db.statistics.counters import Window
from service.db.store_clock import StoreClock
from service.http.dashboard.date_spans import LAST_DAYS, DateSpan
from service.http.forms import values_of

ROWS = 10
LAST = -1
"""The number of the last page in a query."""
_PICK = "pick."
"""Begins the name of the field that selects a customer; their number follows."""
_DIGITS = 9
_LONGEST_SEARCH = 200
_FIRST_YEAR, _LAST_YEAR = 1990, 2199
_FIRST_DAY = date(_FIRST_YEAR, 1, 1)
"""The first of the chosen days, if only the last one is given."""


class Compared(NamedTuple):
    """With what a figure is compared, in words."""

    since: str
    """Follows a change: "50% from the 7 days before"."""
    then: str
    """Follows an earlier value: "0 in the 7 days before"."""


class Chip(NamedTuple):
    """A filter that is set, in words, and the name by which it is taken away."""

    name: str
    text: str


@dataclass(frozen=True)
class ListQuery:
    """Filters, sorting and page of the list.

    Parts of the query that mean nothing are ignored. Filters with a wrong value are kept apart, so
    that the page can say what is wrong with them.
    """

    chosen: CustomerFilter = EVERYBODY
    """All filters but the dates of ``span``."""
    span: DateSpan = DateSpan.ALL
    first: date | None = None
    last: date | None = None
    sort: Sort = Sort.DATE_CREATED
    descending: bool = True
    number: int = 1
    """The page, counted from 1. `LAST` asks for the last one, whatever its number."""
    cursor: str = ""
    """Where the page begins, sealed by `list_pages`. Empty: by its number, which is approximate."""
    wrong: Mapping[str, Wrong] = field(default_factory=dict)
    picked: tuple[int, ...] = ()
    """The customers who are selected. What is done to a list is done to them alone, if there are
    any."""

    own: Sequence[OwnField] = field(default=(), compare=False)
    """The own fields that there are, for the words of filters by them."""

    @classmethod
    def read(cls, query: Mapping[str, str], own: Sequence[OwnField] = ()) -> Self:
        """Read the query of an address, or the fields of the form. ``own`` are the own fields.

        The button that takes a filter away sends its name as ``without``.
        """
        sort = query.get("sort", "-dateCreated")
        number, _, cursor = query.get("page", "").partition(".")
        known = sort.removeprefix("-") in set(Sort)
        written = {**values_of(query)}
        written.pop(query.get("without", ""), None)
        search = query.get("q", "").replace("\x00", "").strip()[:_LONGEST_SEARCH]
        chosen, wrong = read_filter(written, own)
        chosen = chosen.model_copy(update={"search": search})
        span = DateSpan(query["span"]) if query.get("span") in set(DateSpan) else DateSpan.ALL
        first, last = _day(query.get("from", "")), _day(query.get("to", ""))
        dates = [each for each in (chosen.date_from, chosen.date_to) if each]
        if span == DateSpan.ALL and dates and all(each.day for each in dates):
            # As an address of the API or of a saved view has it. The page has one control for them.
            span = DateSpan.CUSTOM
            first = chosen.date_from and chosen.date_from.day
            last = chosen.date_to and chosen.date_to.day
        if span != DateSpan.ALL:
            chosen = chosen.without("date_from", "date_to")
        return cls(
            chosen=chosen,
            span=span,
            first=first,
            last=last,
            sort=Sort(sort.removeprefix("-")) if known else Sort.DATE_CREATED,
            descending=sort.startswith("-") or not known,
            number=LAST if number == "last" else max(whole_number(number, _DIGITS) or 1, 1),
            cursor=cursor,
            wrong=wrong,
            picked=tuple(_picked(query)),
            own=own,
        )

    @classmethod
    def of_filter(cls, chosen: CustomerFilter, sort: str, own: Sequence[OwnField] = ()) -> Self:
        """Return the list of a saved view."""
        query = chosen.query
        return cls.read({**query, "q": query.get("search", ""), "sort": sort}, own)

    def to_save(self, today: date) -> CustomerFilter:
        """Return the filter of a saved view of this list.

        The last days, today included, stay the last days. Other days stay what they are today.
        """
        if self.span == DateSpan.ALL:
            return self.chosen
        if self.span in LAST_DAYS:
            return self.chosen.model_copy(update={"created_within": LAST_DAYS[self.span]})
        first, last = self.days(today) or (None, None)
        dates = {
            "date_from": first and DayOrMoment(first),
            "date_to": last and DayOrMoment(last),
        }
        return self.chosen.model_copy(update=dates)

    def same_filters(self, other: "ListQuery") -> bool:
        """Return whether two lists have the same filters, in whatever order."""
        return self._filters == other._filters  # noqa: SLF001

    @property
    def _filters(self) -> tuple[object, ...]:
        return self.chosen, self.span, self.first, self.last

    @property
    def search(self) -> str:
        """What is searched for; empty for nothing."""
        return self.chosen.search

    @property
    def segments(self) -> Sequence[Segment]:
        """The chosen segments; none means all."""
        return self.chosen.segment

    @property
    def has_conditions(self) -> bool:
        """Whether there are filters beside segments, the search and the days of ``span``."""
        return self.chosen.without("segment", "search") != EVERYBODY

    def chips(self, notation: Notation) -> list[Chip]:
        """Return the filters that have no control of their own above the list."""
        return [
            Chip(to_camel(name), criterion.in_words(value, notation))
            for name, value, criterion in self.chosen.criteria
        ] + [
            Chip(each.name, each.in_words(self.own, value, notation))
            for each, value in self.chosen.own
        ]

    def in_words(self, notation: Notation) -> list[str]:
        """Return all filters as a person reads them."""
        words = [" or ".join(segment.label for segment in self.segments)] if self.segments else []
        if self.span == DateSpan.CUSTOM:
            first = self.first and notation.written(DayOrMoment(self.first))
            last = self.last and notation.written(DayOrMoment(self.last))
            words.append(f"Created {first or '…'} – {last or '…'}")
        elif self.span != DateSpan.ALL:
            words.append(f"Created: {self.span.label}")
        words += [f"“{self.search}”"] if self.search else []
        words += [chip.text for chip in self.chips(notation)]
        return words + [f"{name} is not used" for name in self.wrong]

    @property
    def address(self) -> str:
        """The address of this page. Defaults are left out."""
        query = urlencode(list(self._query()))
        searched = f"#{urlencode({'q': self.search})}" if self.search else ""
        return f"/?{query}{searched}" if query else f"/{searched}"

    @property
    def fields(self) -> list[tuple[str, str]]:
        """The query as the fields of a form. Defaults are left out."""
        searched = [("q", self.search)] if self.search else []
        return [*self._query(), *searched, *((f"{_PICK}{id_}", "on") for id_ in self.picked)]

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
        return self.chosen != EVERYBODY or self.span != DateSpan.ALL

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
            known = not self.search and not self.has_conditions
            return Compared("in 30 days", "30 days ago") if known else None
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

    def filter(self, clock: StoreClock) -> Filter:
        """Return the filter for the database at this moment."""
        if self.picked:
            return Filter(ids=self.picked)
        chosen, window = self.chosen.chosen(clock), self.window(clock)
        return replace(chosen, date_from=window.start, date_to=window.end) if window else chosen

    def _query(self) -> Iterator[tuple[str, str]]:
        yield from self.chosen.without("search").query.items()
        yield from ((name, wrong.written) for name, wrong in self.wrong.items())
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


def _picked(query: Mapping[str, str]) -> Iterator[int]:
    for name in query:
        number = whole_number(name.removeprefix(_PICK)) if name.startswith(_PICK) else None
        if number is not None:
            yield number


def _day(written: str) -> date | None:
    try:
        day = date.fromisoformat(written)
    except ValueError:
        return None
    return day if _FIRST_YEAR <= day.year <= _LAST_YEAR else None
