"""The filter that lists and exports of customers share, and its SQL."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from service.core.segment_rules import Segment
from service.db.customers.search_query import parse, search_condition

_FEW_HITS = 30_000
"""Up to this many hits of a search, it is faster to collect all of them than to test customers one
by one in the order of the list."""


@dataclass(frozen=True)
class Filter:
    """Which customers to list. Time spans include their start and exclude their end."""

    segments: Sequence[Segment] = ()
    search: str = ""
    """What people ask for: see `service.db.customers.search_query`."""
    date_from: datetime | None = None
    date_to: datetime | None = None
    last_order_from: datetime | None = None
    last_order_to: datetime | None = None
    spent_from: Decimal | None = None
    spent_to: Decimal | None = None
    """Included, unlike the ends of time spans."""

    @property
    def term(self) -> str:
        """What is searched; empty if that is nothing."""
        return self.search.strip() if parse(self.search) else ""

    def where(
        self, hits: int | None = None, *, in_order: bool = False
    ) -> tuple[str, dict[str, Any]]:
        """Return the condition on ``customers c`` and its parameters.

        ``hits`` is the number of hits of the search, if it is known. ``in_order`` says that an
        index delivers the customers in the order of the list and only the first few are needed.
        """
        conditions, parameters = ["true"], dict[str, Any]()
        if self.segments:
            conditions.append("c.segment = ANY(:segments)")
            parameters["segments"] = [segment.value for segment in self.segments]
        if self.term:
            condition, search_parameters = search_condition(self.term)
            matching = f"SELECT customer_id FROM customer_search s WHERE {condition}"
            if hits is not None and few_hits(hits):
                conditions.append(f"c.id = ANY(ARRAY({matching}))")
            elif hits is not None and in_order:
                # Hits are frequent: testing customers in order until the page is full is cheaper
                # than collecting all hits first.
                conditions.append(
                    f"(SELECT {condition} FROM customer_search s WHERE s.customer_id = c.id)"
                )
            else:
                conditions.append(f"c.id IN ({matching})")
            parameters |= search_parameters
        for condition, name, value in (
            ("c.date_created >= :date_from", "date_from", self.date_from),
            ("c.date_created < :date_to", "date_to", self.date_to),
            ("c.last_order_date >= :last_order_from", "last_order_from", self.last_order_from),
            ("c.last_order_date < :last_order_to", "last_order_to", self.last_order_to),
            ("c.total_spent >= :spent_from", "spent_from", self.spent_from),
            ("c.total_spent <= :spent_to", "spent_to", self.spent_to),
        ):
            if value is not None:
                conditions.append(condition)
                parameters[name] = value
        return " AND ".join(conditions), parameters

    @property
    def only_by_segment(self) -> bool:
        """True if nothing but segments is filtered, so that the counters know the number."""
        return self == Filter(segments=self.segments)


def few_hits(hits: int | None) -> bool:
    """Return whether a search finds so few customers that reading all of them is cheap.

    None means that nothing is searched.
    """
    return hits is None or hits <= _FEW_HITS
