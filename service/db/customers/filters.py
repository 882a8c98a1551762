"""The filter that lists and exports of customers share, and its SQL."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from service.core.segment_rules import Segment
from service.db.customers.criteria import Condition
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
    """When they were created. It is apart from other conditions, because figures are compared with
    those of another time span."""
    conditions: Sequence[Condition] = ()
    """All of them hold."""
    ids: Sequence[int] | None = None
    """The only customers: those whom staff selected, or those who fulfil ``conditions`` and dates,
    if these are few and were looked for: see `service.db.customers.narrowing`."""
    hits: int | None = None
    """How many customers the search finds, if that was looked for."""
    found: Sequence[int] | None = None
    """The customers whom the search finds, if they are few and were looked for."""

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
        if self.term and self.found is not None:
            conditions.append("c.id = ANY(CAST(:found AS bigint[]))")
            parameters["found"] = self.found
        elif self.term:
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
        if self.ids is not None:
            conditions.append("c.id = ANY(CAST(:ids AS bigint[]))")
            return " AND ".join(conditions), parameters | {"ids": self.ids}
        for condition, name, value in (
            ("c.date_created >= :date_from", "date_from", self.date_from),
            ("c.date_created < :date_to", "date_to", self.date_to),
        ):
            if value is not None:
                conditions.append(condition)
                parameters[name] = value
        for each in self.conditions:
            conditions.append(each.sql)
            parameters |= each.parameters
        return " AND ".join(conditions), parameters

    @property
    def names(self) -> list[str]:
        """The names of the filters that are set, as requests write them."""
        own = {
            "segment": self.segments,
            "search": self.search,
            "dateFrom": self.date_from,
            "dateTo": self.date_to,
        }
        return sorted(
            [name for name, value in own.items() if value] + [each.name for each in self.conditions]
        )

    @property
    def only_by_search(self) -> bool:
        """True if nothing but a search filters, so that its hits are the number."""
        return replace(self, hits=None, found=None) == Filter(search=self.search)

    @property
    def only_by_segment(self) -> bool:
        """True if nothing but segments is filtered, so that the counters know the number."""
        return self == Filter(segments=self.segments)


def few_hits(hits: int | None) -> bool:
    """Return whether a search finds so few customers that reading all of them is cheap.

    None means that nothing is searched.
    """
    return hits is None or hits <= _FEW_HITS
