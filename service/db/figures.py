"""The figures stored per segment, and what one customer adds to each.

The columns of the counters, the statements that write them and the recounts that check them are
generated from here.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from service.core.segment_rules import Segment


class SegmentFigures(NamedTuple):
    """Sums over the customers of one segment."""

    customers: int
    total_spent: Decimal
    with_orders: int
    """Customers with at least one counted order."""
    repeat_customers: int
    """Customers with at least two."""


Figures = dict[Segment, SegmentFigures]

FIGURES = SegmentFigures._fields
_SUMMED = {"total_spent": "{customer}total_spent"}
_COUNTED = {
    "customers": "true",
    "with_orders": "{customer}total_orders >= 1",
    "repeat_customers": "{customer}total_orders >= 2",
}


def added_by(figure: str, customer: str = "") -> str:
    """Return what one customer adds to a figure; ``customer`` is a prefix of its columns."""
    if figure in _SUMMED:
        return _SUMMED[figure].format(customer=customer)
    condition = _COUNTED[figure].format(customer=customer)
    return "1" if condition == "true" else f"CAST({condition} AS integer)"


def recounted(figure: str) -> str:
    """Return the aggregate over customers that a figure must equal."""
    if figure in _SUMMED:
        return f"sum({_SUMMED[figure].format(customer='')})"
    condition = _COUNTED[figure].format(customer="")
    return "count(*)" if condition == "true" else f"count(*) FILTER (WHERE {condition})"


def each_figure(template: str) -> str:
    """Return the template once per figure, with ``{figure}`` replaced, separated by commas."""
    return ", ".join(template.format(figure=figure) for figure in FIGURES)


def figures_of(row: Any) -> SegmentFigures:
    """Read the figures from a row that has their columns; sums of counts arrive as decimals."""
    return figures_from(getattr(row, figure) for figure in FIGURES)


def figures_from(values: Iterable[Any]) -> SegmentFigures:
    """Read the figures from their values in order, as JSON or a driver gives them."""
    kinds: Mapping[str, type] = SegmentFigures.__annotations__
    pairs = zip(kinds.values(), values, strict=True)
    return SegmentFigures(*(kind(value) for kind, value in pairs))


def minus(figures: SegmentFigures, others: SegmentFigures) -> SegmentFigures:
    """Return the difference of two sets of figures, figure by figure."""
    pairs: Iterable[tuple[Any, Any]] = zip(figures, others, strict=True)
    return SegmentFigures(*(figure - other for figure, other in pairs))


NOTHING = SegmentFigures(*(kind(0) for kind in SegmentFigures.__annotations__.values()))
