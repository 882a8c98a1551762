"""What a format is: how its header is recognised, and how a record becomes one of ours.

The functions of a format are pure. They read a record of a file; the same mappings can read the
body of a webhook.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple

from service.core.hooks import HookPlatform
from service.transfer.lines import FileKind

Values = Mapping[str, Any]
"""A record: cells by column, or a JSON object."""


class Noticed(NamedTuple):
    """Something odd in a column that is no reason to refuse a line."""

    column: str
    what: str


@dataclass
class Reading:
    """What a format must know beside the record, and what it noticed."""

    zone: tzinfo
    """Of times without an offset."""
    country: str | None
    """Where phone numbers without ``+`` are from, unless the record says it."""
    source: str
    """What the shop is called, for the ids that it gives to customers. Empty: the record says it,
    or it is called by the format's name."""
    date_format: str | None = None
    """As `strptime` takes it. None: ISO 8601."""
    line: int = 0
    noticed: dict[Noticed, tuple[int, int]] = field(default_factory=dict)
    """How often something was noticed, and on which line first."""

    def of_format(self, format_: "Format", domains: Mapping[str, str]) -> None:
        """Take the domain of the only shop of the format's platform, unless the shop is named."""
        if not self.source and format_.platform:
            self.source = domains.get(format_.platform, "")

    def notice(self, column: str, what: str) -> None:
        """Note something odd on the present line."""
        found = Noticed(column, what)
        count, line = self.noticed.get(found, (0, self.line))
        self.noticed[found] = (count + 1, line)


class OrderDocument(NamedTuple):
    """An order as `service.core.judge` reads it in an event."""

    data: Mapping[str, Any]
    source: str = ""
    country: str | None = None
    """Where its phone numbers without ``+`` are from. None: where the store is."""
    event: Mapping[str, Any] = MappingProxyType({})
    """The event around it, if the file has one."""


class SingleRefund(NamedTuple):
    """A refund that is told without its order."""

    shop_id: str
    """The shop's id of the order."""
    id: str
    amount: Decimal
    at: str


OWN_COLUMN = "field:"
"""Begins the name of the column of an own field; its key follows. No column of ours has a colon."""
CustomerCells = Mapping[str, str]
"""A customer in the columns of our own customers file."""


@dataclass(frozen=True)
class Format:
    """A kind of file that some program writes."""

    name: str
    """As ``--format`` takes it."""
    title: str
    kind: FileKind
    read: Callable[[Values, Reading], OrderDocument | CustomerCells]
    """Raises RefusedLineError."""
    signs: Sequence[str]
    """Columns that a file of this format has, all of them."""
    columns: Sequence[str]
    """All columns that are read."""
    any_sign: Sequence[str] = ()
    """Columns of which a file of this format has one."""
    spellings: Mapping[str, str] = field(default_factory=dict)
    """Other names of columns, as `folded` writes them, and the column that each means."""
    never: Sequence[str] = ()
    """Columns that a file of this format does not have."""
    continues: Callable[[Values, Values], bool] | None = None
    """Whether a record belongs to the order of the record before it, and adds nothing to it."""
    aside: Mapping[str, str] = field(default_factory=dict)
    """Columns that are left aside, and why."""
    ours: bool = False
    """Whether we write it ourselves."""
    json: bool = False
    """Whether its records are JSON objects. Their keys are the columns."""
    platform: HookPlatform | None = None
    """The platform that writes it. Webhooks of the same shop have its domain as their source."""
    theirs: Mapping[str, str] = field(default_factory=dict)
    """Their name of a column or field of ours, for faults."""

    def canonical(self, column: str) -> str:
        """Return our name of a column; an unknown one as it is."""
        if column in self.columns:
            return column
        key = folded(column)
        for known in self.columns:
            if folded(known) == key:
                return known
        return self.spellings.get(key, column)

    def with_own(self, columns: Sequence[str]) -> "Format":
        """Return the format with the columns of own fields, if it has customers."""
        if self.kind is not FileKind.CUSTOMERS:
            return self
        return replace(self, columns=(*self.columns, *columns))

    def matches(self, columns: Sequence[str]) -> bool:
        """Return whether a file with these columns is of this format."""
        found = {folded(self.canonical(column)) for column in columns}
        return (
            all(folded(sign) in found for sign in self.signs)
            and (not self.any_sign or any(folded(sign) in found for sign in self.any_sign))
            and not any(folded(name) in found for name in self.never)
        )


_NOT_A_LETTER = re.compile(r"[\W_]+")


def folded(column: str) -> str:
    """Return a column's name without capitals, blanks and signs: "E-mail" is "email"."""
    return _NOT_A_LETTER.sub("", column).casefold()
