"""Types of a transfer: the kind of a file, the effect of a line, the fault of a refused line."""

from enum import StrEnum
from typing import NamedTuple


class FileKind(StrEnum):
    """What a file holds. Both kinds can be exported, and imported again."""

    CUSTOMERS = "customers"
    ORDERS = "orders"


class LineFault(NamedTuple):
    """Why a line was refused."""

    column: str
    """Empty if the fault is not in one column."""
    problem: str
    remedy: str
    """What the person who imports can do."""
    mapping: str = ""
    """A column of theirs and one of ours, ``theirs=ours``, if taking it as that one helps. Files
    and forms have different names for that option."""


class RefusedLineError(Exception):
    """A part of a line cannot be used. ``fault`` says why, and what to do."""

    def __init__(self, column: str, problem: str, remedy: str, mapping: str = "") -> None:
        """Keep the fault."""
        super().__init__(problem)
        self.fault = LineFault(column, problem, remedy, mapping)


class DraftError(RefusedLineError):
    """It is a draft that a shop keeps among its orders, and no order."""


class Verdict(StrEnum):
    """What a line changes."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    OLDER = "older"
    """What is stored is newer, and says something else. It stays."""
