"""What the readers of all kinds of files have in common."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from service.transfer.lines import LineFault

LONGEST_LINE = 1_048_576
"""In characters. A longer line or record is refused, and never in memory as a whole."""


class Suggestion(NamedTuple):
    """Options that may make a file readable."""

    format: str
    """Empty: as it is."""
    mapping: Sequence[tuple[str, str]]
    """Columns of theirs, and what each of them is of ours."""


def on_the_command_line(suggestion: Suggestion) -> str:
    """Write a suggestion as options of ``crm import``."""
    chosen = [f"--format {suggestion.format}"] if suggestion.format else []
    columns = [f'--map "{theirs}={ours}"' for theirs, ours in suggestion.mapping]
    return " ".join([*chosen, *columns])


class UnreadableError(Exception):
    """The file as a whole cannot be read; the message says why and what to do."""

    def __init__(
        self, message: str, suggestions: Sequence[Suggestion] = (), after: str = ""
    ) -> None:
        """Create it from the message, which may end with suggestions and what stands after them."""
        super().__init__(message)
        self._message, self._suggestions, self._after = message, suggestions, after

    def told(self, write: Callable[[Suggestion], str]) -> str:
        """Return the message with its suggestions as ``write`` writes them."""
        return self._message + ", or ".join(map(write, self._suggestions)) + self._after

    def __str__(self) -> str:
        """Return the message for a terminal."""
        return self.told(on_the_command_line)


class Record(NamedTuple):
    """A record of a file, and the lines that it takes up."""

    line: int
    """The number of its first line."""
    lines: int
    content: dict[str, Any] | LineFault | None
    """Its values by column. None: the lines are empty, or are not read."""
    is_of_other_kind: bool = False
    """Whether it is an order and customers are read, or the other way round."""
