"""Which customers are meant: what lists and exports share, written as SQL."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from service.core.customer_ids import customer_number
from service.core.numbers import whole_number
from service.core.segment_rules import Segment

_SHORTEST_INDEXED = 3  # a trigram index cannot help with less
_FEW = 30_000
"""Hits of a search that are sooner gathered than come upon."""


@dataclass(frozen=True)
class Filter:
    """Which customers are meant; spans include their start and exclude their end."""

    segments: Sequence[Segment] = ()
    search: str = ""
    """A part of the name, e-mail, phone or notes, without case; or a customer's id."""
    date_from: datetime | None = None
    date_to: datetime | None = None
    last_order_from: datetime | None = None
    last_order_to: datetime | None = None
    spent_from: Decimal | None = None
    spent_to: Decimal | None = None
    """Included, unlike the ends of spans of time."""

    @property
    def term(self) -> str:
        """What is searched for, as it stands in the index; empty: nothing is."""
        return self.search.strip().lower()

    def where(
        self, hits: int | None = None, *, in_order: bool = False
    ) -> tuple[str, dict[str, Any]]:
        """Write the condition over ``customers c``, and its parameters.

        ``hits``: how many the search finds, if that is known; ``in_order``: the customers come in
        the order of an index, and the first few that fulfil it are wanted.
        """
        conditions, parameters = ["true"], dict[str, Any]()
        if self.segments:
            conditions.append("c.segment = ANY(:segments)")
            parameters["segments"] = [segment.value for segment in self.segments]
        if self.term:
            test, of_test = search_test(self.term)
            found = f"SELECT customer_id FROM customer_search s WHERE {test}"
            if hits is not None and hits <= _FEW:
                conditions.append(f"c.id = ANY(ARRAY({found}))")
            elif hits is not None and in_order:
                # Every so many is one: looking each up until there are enough is least work.
                conditions.append(
                    f"(SELECT {test} FROM customer_search s WHERE s.customer_id = c.id)"
                )
            else:
                conditions.append(f"c.id IN ({found})")
            parameters |= of_test
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
        """Whether the counters know how many these are."""
        return self == Filter(segments=self.segments)


def search_test(term: str) -> tuple[str, dict[str, Any]]:
    """Write the test of a row of ``customer_search s``, and its parameters."""
    # Of a term too short for trigrams the index would read everything, and the heap as well: in
    # another collation than its own it is no choice.
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
