"""The four key figures above the list, each compared with an earlier period.

They follow every filter of the list: segment, search and dates. So "Total Customers" is always the
number of customers in the list.
"""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.segment_rules import Segment
from service.db.customers.filtered_figures import filtered_figures
from service.db.customers.filters import Filter
from service.db.figures import NOTHING, Figures
from service.db.statistics.counters import Window
from service.db.statistics.daily import figures_at
from service.db.statistics.key_figures import KeyFigures, key_figures
from service.db.store_clock import StoreClock

DAYS_BACK = 30
"""How many days the figures are compared over when no date filter is set."""


class Card(NamedTuple):
    """A key figure, now and before."""

    name: str
    kind: str
    value: Any | None
    """None for the retention rate if all of the customers are New."""
    before: Any | None
    """None if it is not known."""

    @property
    def change(self) -> Decimal | None:
        """The change in percent, or in percentage points for a percentage.

        None if there is nothing to compare with: percent of 0 are no number.
        """
        if self.value is None or self.before is None:
            return None
        change = Decimal(self.value) - Decimal(self.before)
        if self.kind == "percent" or not change:
            return change
        return 100 * change / Decimal(self.before) if self.before else None

    @property
    def tiny(self) -> bool:
        """Whether the change would be written as 0, with one decimal."""
        return self.change is not None and not round(self.change, 1)


class Cards(NamedTuple):
    """The cards of a list."""

    items: list[Card]
    added_up: bool
    """Whether the customers were added up. If they were only counted, the other values are None."""
    known_before: bool
    """Whether the figures of the period before are known."""
    nobody_before: bool
    """Whether it is known that there was nobody then."""


async def cards(
    connection: AsyncConnection,
    wanted: Filter,
    figures: Figures | None,
    total: int,
    window: Window | None,
    clock: StoreClock,
    *,
    hits: int | None,
) -> Cards:
    """Return the cards of the customers that a filter chooses.

    ``total`` is how many they are. ``figures`` are their sums, with those of all segments; None if
    they are so many that they were only counted. ``hits`` is how many the search finds.

    With a time span (``window``), the cards are compared with the span before it. Without, and if
    only segments are filtered, they are compared with what was known 30 days ago. Whom a search or
    another filter would have found then is not known.
    """
    past: Figures | None = None
    if window:
        before = window.before
        of_before = replace(wanted, date_from=before.start, date_to=before.end, ids=None)
        past = (await filtered_figures(connection, of_before, hits)).figures
    elif wanted.only_by_segment:
        past = await figures_at(connection, clock.today - timedelta(days=DAYS_BACK))
    now = key_figures(_only(figures, wanted), Decimal(0)) if figures else None
    then = key_figures(_only(past, wanted), Decimal(0)) if past else None
    return Cards(
        [
            Card(name, kind, _value(now, key), _value(then, key))
            if now
            else Card(name, kind, total if key == "total_customers" else None, None)
            for name, kind, key in (
                ("Total Customers", "number", "total_customers"),
                ("Average LTV", "money", "average_ltv"),
                ("Active Customers", "number", "active_customers"),
                ("Retention Rate", "percent", "retention_rate"),
            )
        ],
        added_up=now is not None,
        known_before=then is not None,
        nobody_before=then is not None and not then.total_customers,
    )


def _only(figures: Figures, wanted: Filter) -> Figures:
    """Return the figures of the filter's segments; nothing for the others."""
    chosen = wanted.segments or Segment
    return {segment: figures[segment] if segment in chosen else NOTHING for segment in Segment}


def _value(figures: KeyFigures | None, key: str) -> Any:
    if figures is None:
        return None
    if key == "retention_rate" and figures.total_customers == figures.customers[Segment.NEW]:
        return None
    return getattr(figures, key)
