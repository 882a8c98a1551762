"""The words of a transfer: what a file holds, what a line does, why a line was refused."""

from enum import StrEnum
from typing import NamedTuple


class FileKind(StrEnum):
    """What a file holds: both kinds can be exported, and imported again."""

    CUSTOMERS = "customers"
    ORDERS = "orders"


class LineFault(NamedTuple):
    """Why a line was refused."""

    column: str
    """Empty if the fault is not in one column."""
    problem: str
    remedy: str
    """What the person who imports can do."""


class RefusedLineError(Exception):
    """Raised by what reads a part of a line; carries the fault of the line."""

    def __init__(self, column: str, problem: str, remedy: str) -> None:
        """Keep the fault."""
        super().__init__(problem)
        self.fault = LineFault(column, problem, remedy)


class Verdict(StrEnum):
    """What a line changes."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
