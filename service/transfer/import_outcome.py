"""What an import did, or would do: counts, totals, the first records, and what was noticed."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from service.core.identifiers import IdentifierKind, kind_of
from service.core.order_event import OrderEvent
from service.transfer.customer_lines import CustomerLine
from service.transfer.customers_planned import Planned
from service.transfer.formats.format import Noticed, Reading
from service.transfer.lines import FileKind, LineFault, Verdict
from service.transfer.reading.record import Record
from service.transfer.recognition import RecognisedFile

_FIRST_REFUSED = 20
_FIRST_RECORDS = 3


class Money(NamedTuple):
    """Sums over the orders of one currency, in hundredths."""

    orders: int = 0
    total: int = 0
    refunded: int = 0


@dataclass
class ImportOutcome:
    """What the lines changed; after a dry run, what they would change."""

    kind: FileKind | None = None
    format: str = ""
    title: str = ""
    guess: str | None = None
    """A sentence about the encoding, if it was guessed."""
    as_of: datetime | None = None
    """When the values of the file were true."""
    counts: Counter[Verdict] = field(default_factory=Counter)
    refused: int = 0
    first_refused: list[tuple[int, LineFault]] = field(default_factory=list)
    """The first 20 refused lines, by number."""
    lines_header: int = 0
    lines_empty: int = 0
    lines_of_other_kind: int = 0
    """Lines of orders while customers are read, or of customers while orders are."""
    lines_read: int = 0
    lines_refused: int = 0
    """The five add up to the lines of the file."""
    other_segments: int = 0
    """Lines that name another segment than their customer has."""
    other_figures: int = 0
    """Lines that have other totals than their customer."""
    kept: int = 0
    """Lines with a value that stays as it is, because somebody typed it, or because it is newer."""
    left_aside: Mapping[str, str] = field(default_factory=dict)
    """Columns that were not read, and why; empty if the format does not know them."""
    noticed: Mapping[Noticed, tuple[int, int]] = field(default_factory=dict)
    """How often something odd was noticed, and on which line first."""
    first_orders: list[OrderEvent] = field(default_factory=list)
    first_customers: list[CustomerLine] = field(default_factory=list)
    money: dict[str, Money] = field(default_factory=dict)
    """The sums by currency. An empty name: the store's."""
    named_by: Counter[str] = field(default_factory=Counter)
    """How many orders name their customer by which kind of identifier; empty: by none."""
    first_date: datetime | None = None
    last_date: datetime | None = None
    people: int = 0
    """Customers whom the orders name."""
    known_people: int = 0
    """How many of these are known already."""
    _new_faults: list[tuple[int, LineFault]] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether no line was refused."""
        return not self.refused

    @property
    def changed(self) -> int:
        """How many records changed something."""
        return self.counts[Verdict.NEW] + self.counts[Verdict.CHANGED]

    @property
    def accepted(self) -> int:
        """How many records were not refused."""
        return sum(self.counts.values())

    @property
    def lines(self) -> int:
        """How many lines the file has."""
        left_out = self.lines_header + self.lines_empty + self.lines_of_other_kind
        return left_out + self.lines_read + self.lines_refused

    def begin(self, file: RecognisedFile, reading: Reading) -> None:
        """Note what is known of the file when its header has been read."""
        self.kind, self.format, self.title = file.format.kind, file.format.name, file.format.title
        self.left_aside, self.guess = file.left_aside, file.guess
        self.lines_header = file.header_lines
        self.noticed = reading.noticed

    def accept_customer(
        self, record: Record, line: CustomerLine, plan: Planned, verdict: Verdict
    ) -> None:
        """Count a line of a customer."""
        self._accept(record, verdict)
        self.other_segments += plan.other_segment
        self.other_figures += plan.other_figures
        self.kept += plan.kept
        if len(self.first_customers) < _FIRST_RECORDS:
            self.first_customers.append(line)

    def accept_order(self, record: Record, event: OrderEvent, verdict: Verdict) -> None:
        """Count the lines of an order."""
        self._accept(record, verdict)
        before = self.money.get(event.currency or "", Money())
        self.money[event.currency or ""] = Money(
            before.orders + 1,
            before.total + event.total_cents,
            before.refunded + event.refunded_cents,
        )
        self.named_by[_named_by(event)] += 1
        self.first_date = min(self.first_date or event.date_created, event.date_created)
        self.last_date = max(self.last_date or event.date_created, event.date_created)
        if len(self.first_orders) < _FIRST_RECORDS:
            self.first_orders.append(event)

    def _accept(self, record: Record, verdict: Verdict) -> None:
        self.counts[verdict] += 1
        self.lines_read += record.lines

    def refuse(self, record: Record, fault: LineFault) -> None:
        """Count the lines of a record that was refused."""
        self.lines_refused += record.lines
        self.refused += 1
        self._new_faults.append((record.line, fault))

    def refuse_late(self, line: int, fault: LineFault) -> None:
        """Count a record as refused that was accepted when it was read."""
        self.refused += 1
        self._new_faults.append((line, fault))

    def new_faults(self) -> Iterator[tuple[int, LineFault]]:
        """Yield the faults since the last call, sorted by line."""
        faults, self._new_faults = sorted(self._new_faults), []
        self.first_refused += faults[: _FIRST_REFUSED - len(self.first_refused)]
        yield from faults


def _named_by(event: OrderEvent) -> str:
    if event.customer is None:
        return ""
    kinds = {kind_of(identifier) for identifier in event.customer.identifiers}
    return next(kind for kind in IdentifierKind if kind in kinds)
