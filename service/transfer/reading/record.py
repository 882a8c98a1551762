"""What the readers of all kinds of files have in common."""

from typing import Any, NamedTuple

from service.transfer.lines import LineFault

LONGEST_LINE = 1_048_576
"""In characters. A longer line or record is refused, and never in memory as a whole."""


class UnreadableError(Exception):
    """The file as a whole cannot be read; the message says why and what to do."""


class Record(NamedTuple):
    """A record of a file, and the lines that it takes up."""

    line: int
    """The number of its first line."""
    lines: int
    content: dict[str, Any] | LineFault | None
    """Its values by column. None: the lines are empty."""
