"""The options of an import, as people write them, and what they mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from service.core.time_zones import known_time_zone
from service.transfer.formats import FORMATS, named
from service.transfer.importer import ImportRequest
from service.transfer.lines import FileKind

_EXAMPLES = {"mapping": "Mail=Email", "constants": "status=completed"}


class OptionError(ValueError):
    """An option cannot be used. ``option`` is its name in `ImportOptions`."""

    def __init__(self, option: str, message: str) -> None:
        """Say what is wrong with which option."""
        super().__init__(message)
        self.option = option


@dataclass(frozen=True)
class ImportOptions:
    """The options. An empty one is not given."""

    kind: str = ""
    """What the file holds."""
    format: str = ""
    mapping: Sequence[str] = ()
    """Each is ``THEIR COLUMN=ours``."""
    constants: Sequence[str] = ()
    """Each is ``ours=value``."""
    encoding: str = ""
    time_zone: str = ""
    date_format: str = ""
    source: str = ""
    as_of: str = ""
    clear_empty: bool = False
    hold_segments: bool = False

    def request(self, path: Path, *, apply: bool, actor: str) -> ImportRequest:
        """Return the request to import a file with these options. Raises OptionError."""
        return ImportRequest(
            path,
            kind=_kind(self.kind),
            apply=apply,
            actor=actor,
            encoding=self.encoding or None,
            hold_segments=self.hold_segments,
            format=_format(self.format),
            mapping=_pairs("mapping", self.mapping),
            constants=_pairs("constants", self.constants),
            zone=_zone(self.time_zone),
            date_format=self.date_format or None,
            source=self.source,
            as_of=_moment(self.as_of),
            clear_empty=self.clear_empty,
        )


def _kind(text: str) -> FileKind | None:
    if text and text not in set(FileKind):
        raise OptionError("kind", f"there is no kind {text!r}; write customers or orders")
    return FileKind(text) if text else None


def _format(name: str) -> str | None:
    if name and not named(name):
        known = ", ".join(each.name for each in FORMATS)
        raise OptionError("format", f"there is no format {name!r}. The formats are: {known}")
    return name or None


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    """Return the two sides of each ``left=right``. A column's name may have an equals sign."""
    pairs = {}
    for text in texts:
        left, equals, right = text.rpartition("=") if option == "mapping" else text.partition("=")
        if not (equals and left.strip() and right.strip()):
            raise OptionError(option, f"{text!r}: write it like {_EXAMPLES[option]!r}")
        pairs[left.strip()] = right.strip()
    return pairs


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text.upper())
    except ValueError:
        message = f"{text!r}: write it like 2026-11-22 or 2026-11-22T10:00:00Z"
        raise OptionError("as_of", message) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _zone(name: str) -> str | None:
    if not name:
        return None
    try:
        return known_time_zone(name)
    except ValueError as error:
        raise OptionError("time_zone", str(error)) from None
