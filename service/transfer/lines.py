"""What an import says about a line of a file: what it does, or why it was refused."""

from enum import StrEnum
from typing import NamedTuple


class LineFault(NamedTuple):
    """Why a line was refused."""

    column: str
    """Empty if the fault is not in one column."""
    problem: str
    remedy: str
    """What the person who imports can do."""


class Verdict(StrEnum):
    """What a line changes."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
