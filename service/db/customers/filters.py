"""The filter that lists and exports of customers share, and its SQL."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from service.core.customer_ids import customer_number
from service.core.identifiers import email_key
from service.core.numbers import whole_number
from service.core.segment_rules import Segment

_SHORTEST_INDEXED = 3  # the trigram index cannot help with shorter terms
_FEW_HITS = 30_000
"""Up to this many hits of a search, it is faster to collect all of them than to test customers one
by one in the order of the list."""


@dataclass(frozen=True)
class Filter:
    """Which customers to list. Time spans include their start and exclude their end."""

    segments: Sequence[Segment] = ()
    search: str = ""
    """A part of the name, e-mail, phone or notes, in any case; or a customer id."""
    date_from: datetime | None = None
    date_to: datetime | None = None
    last_order_from: datetime | None = None
    last_order_to: datetime | None = None
    spent_from: Decimal | None = None
    spent_to: Decimal | None = None
    """Included, unlike the ends of time spans."""

    @property
    def term(self) -> str:
        """The search term as the search index holds it; empty if nothing is searched."""
        term = self.search.strip().lower()
        return term if term.isascii() else email_key(term) or term

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


def search_condition(term: str) -> tuple[str, dict[str, Any]]:
    """Return the condition on a row of ``customer_search s`` and its parameters."""
    # A term too short for a trigram would make Postgres read the whole index and the table as well.
    # Another collation than the index's own keeps Postgres from using the index.
    searched = "s.searched" if len(term) >= _SHORTEST_INDEXED else 's.searched COLLATE "C"'
    parameters: dict[str, Any] = {"pattern": f"%{_escaped(term)}%"}
    number = customer_number(term.upper())
    if number is None:
        number = whole_number(term)
    if number is not None:
        parameters["ref"] = number
        return f"({searched} LIKE :pattern OR s.customer_id = :ref)", parameters
    return f"{searched} LIKE :pattern", parameters


def _escaped(term: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", term)
