"""Pages of lists that are sorted by time. A page continues after the last row of the one before."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, NamedTuple, TypeVar

Row = TypeVar("Row")


class TimePosition(NamedTuple):
    """The place of a row in a list: its time, then an id that orders rows of the same time."""

    at: datetime
    ref: str


@dataclass(frozen=True)
class Listed(Generic[Row]):
    """A page of a list."""

    items: Sequence[Row]
    total: int
    """All rows of the list, not only those of this page."""
    end: TimePosition | None
    """Where the page ended. None: it is the last one."""
