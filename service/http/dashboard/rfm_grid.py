"""The RFM groups as a table of recency, and of frequency and value, each in fifths."""

from collections.abc import Iterator, Mapping
from math import ceil
from typing import NamedTuple

from service.core.rfm import GRID, RfmGroup
from service.db.outlook.work_lists import GroupFigures

_WARMEST = 5
"""The heat of the largest group; ink is readable on all colours up to that."""


_BREAKS = {"Promising": "Promis-ing", "attention": "atten-tion", "Previously": "Previ-ously"}
"""Where words that are longer than a cell of a phone may break."""


class Area(NamedTuple):
    """A group as one cell of the table, over all fifths that belong to it."""

    group: RfmGroup
    customers: int
    columns: int
    rows: int
    heat: int
    """How many they are compared with the largest group: 0 for nobody to `_WARMEST`."""

    @property
    def label(self) -> str:
        """The name of the group, with soft hyphens."""
        words = (_BREAKS.get(word, word) for word in self.group.label.split())
        return " ".join(words).replace("-", "\N{SOFT HYPHEN}")


class Row(NamedTuple):
    """A fifth of recency, and the groups whose cells begin in it."""

    recency: int
    areas: list[Area]


def rfm_grid(groups: Mapping[RfmGroup, GroupFigures]) -> list[Row]:
    """Return the rows of the table. Customers without orders have no scores, and are not in it."""
    most = max((groups[group].customers for row in GRID.values() for group in row), default=0) or 1
    rows, begun = list[Row](), set[RfmGroup]()
    for recency in sorted(GRID, reverse=True):
        areas = []
        for group in dict.fromkeys(GRID[recency]):
            if group not in begun:
                begun.add(group)
                customers = groups[group].customers
                heat = ceil(_WARMEST * customers / most)
                areas.append(Area(group, customers, *_size(group), heat))
        rows.append(Row(recency, areas))
    return rows


def _size(group: RfmGroup) -> tuple[int, int]:
    """Return how many columns and rows a group has; it is a rectangle."""
    in_rows = [count for count in _per_row(group) if count]
    return in_rows[0], len(in_rows)


def _per_row(group: RfmGroup) -> Iterator[int]:
    return (row.count(group) for row in GRID.values())
