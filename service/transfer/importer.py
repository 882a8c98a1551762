"""Import a file of customers or orders, or report what an import would do."""

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.config import Config
from service.core.judge import Terms
from service.core.reconstruction import ReconstructionCause
from service.db.engine import BY_INDEX, create_engine, in_transaction
from service.db.installation import check_currency, claim_currency
from service.db.statistics.generations import request_reconstruction
from service.db.store_clock import read_store_clock
from service.transfer import order_lines
from service.transfer.customer_lines import CustomerLine, customer_line, stated_id
from service.transfer.customers_in import Planned, plan_customers, reserve_ids, write_customers
from service.transfer.export import COLUMNS
from service.transfer.file_index import FileIndex
from service.transfer.lines import FileKind, LineFault, Verdict
from service.transfer.order_lines import OrderLine, order_cells, order_line
from service.transfer.orders_in import plan_orders, write_orders
from service.transfer.records import Record, UnreadableError, read_csv, read_lines

BATCH = 1000
"""Lines per transaction."""
JSON_SUFFIXES = {".ndjson", ".jsonl", ".json"}

_FIRST_REFUSED = 20
_COLUMNS = {FileKind.CUSTOMERS: COLUMNS, FileKind.ORDERS: tuple(order_lines.COLUMNS)}
_REQUIRED = {
    FileKind.CUSTOMERS: ("Email",),
    FileKind.ORDERS: ("id", "status", "totalAmount", "dateCreated"),
}


@dataclass(frozen=True)
class ImportRequest:
    """What to import, and how."""

    path: Path
    kind: FileKind | None = None
    """None: the file's name and columns decide."""
    apply: bool = False
    actor: str = "import"
    encoding: str = "utf-8-sig"
    hold_segments: bool = False

    @property
    def refused_path(self) -> Path:
        """The file, beside the original, that lists the refused lines."""
        return self.path.with_name(f"{self.path.name}.refused.csv")


@dataclass
class ImportOutcome:
    """What the lines changed; after a dry run, what they would change."""

    kind: FileKind | None = None
    counts: Counter[Verdict] = field(default_factory=Counter)
    refused: int = 0
    first_refused: list[tuple[int, LineFault]] = field(default_factory=list)
    """The first 20 refused lines, by number."""
    other_segments: int = 0
    """Lines that name another segment than their customer has."""
    ignored: list[str] = field(default_factory=list)
    """Columns that the import does not know."""

    @property
    def changed(self) -> int:
        """The lines that changed something."""
        return self.counts.total() - self.counts[Verdict.UNCHANGED]

    @property
    def complete(self) -> bool:
        """Whether no line was refused."""
        return not self.refused


async def import_file(
    config: Config, request: ImportRequest, progress: Callable[[int], object] = lambda _: None
) -> ImportOutcome:
    """Read the whole file in batches, and import it or only report what that would do.

    Each batch is one transaction, and a line that was imported before changes nothing. So after an
    interruption, the same call continues where it stopped. ``progress`` is called with the number
    of bytes read so far. Raises UnreadableError, OtherCurrencyError, and whatever the database
    raises.
    """
    engine = create_engine(
        config.database_url or "", application="crm import", pool_size=1, planner=BY_INDEX
    )
    try:
        guard = claim_currency if request.apply else check_currency
        await guard(engine, config.store_currency)
        async with engine.connect() as connection:
            zone = (await read_store_clock(connection)).zone
        with ExitStack() as files:
            run = _Import(
                request=request,
                engine=engine,
                terms=config.terms,
                now=datetime.now(UTC),
                zone=zone,
                refused_lines=files.enter_context(closing(_RefusedLines(request.refused_path))),
                index=files.enter_context(closing(FileIndex())),
            )
            await run.read_all(files, progress)
            if request.apply and run.outcome.changed:
                await in_transaction(engine, request_reconstruction, ReconstructionCause.IMPORT)
            return run.outcome
    finally:
        await engine.dispose()


class _RefusedLines:
    """The report of refused lines, a CSV file beside the original."""

    def __init__(self, path: Path) -> None:
        """Remove the report of the last run. A new one is created with the first refused line."""
        path.unlink(missing_ok=True)
        self._path = path
        self._file: TextIO | None = None
        self._writer: Any = None

    def add(self, number: int, fault: LineFault) -> None:
        if self._file is None:
            self._file = self._path.open("w", encoding="utf-8-sig", newline="")
            self._writer = csv.writer(self._file)
            self._writer.writerow(("Line", "Column", "Problem", "What to do"))
        self._writer.writerow((number, *fault))

    def close(self) -> None:
        if self._file:
            self._file.close()


@dataclass
class _Import:
    """An import that is running."""

    request: ImportRequest
    engine: AsyncEngine
    terms: Terms
    now: datetime
    zone: tzinfo
    """The store's, in which a date without an offset is read."""
    refused_lines: _RefusedLines
    index: FileIndex
    outcome: ImportOutcome = field(default_factory=ImportOutcome)

    async def read_all(self, files: ExitStack, progress: Callable[[int], object]) -> None:
        kind, records, position = self.open(files)
        if self.request.apply and kind is FileKind.CUSTOMERS:
            await self.reserve_ids(records)
            kind, records, position = self.open(files)
        self.outcome.kind = kind
        import_batch = self.customers if kind is FileKind.CUSTOMERS else self.orders
        while batch := list(islice(records, BATCH)):
            await import_batch(batch)
            progress(position())

    def open(self, files: ExitStack) -> tuple[FileKind, Iterator[Any], Callable[[], int]]:
        """Open the file; return its kind, its records, and how many bytes were read so far."""
        path, kind = self.request.path, self.request.kind
        if path.suffix.lower() in JSON_SUFFIXES:
            if kind is FileKind.CUSTOMERS:
                msg = "is JSON, but customers are imported from CSV"
                raise UnreadableError(msg)
            file = files.enter_context(path.open("rb"))
            return FileKind.ORDERS, read_lines(file), file.tell
        columns = {kind: _COLUMNS[kind]} if kind else _COLUMNS
        table = read_csv(path, self.request.encoding, columns, _REQUIRED)
        files.enter_context(table.file)
        self.outcome.ignored = list(table.ignored)
        return table.kind, table.records, table.position

    async def reserve_ids(self, records: Iterator[Record]) -> None:
        """Make sure that no other customer gets an id which a later line of the file states."""
        highest = 0
        for _, cells in records:
            if not isinstance(cells, LineFault):
                highest = max(highest, stated_id(cells))
        if highest:
            await in_transaction(self.engine, reserve_ids, highest)

    async def customers(self, batch: Sequence[Record]) -> None:
        numbered: list[tuple[int, CustomerLine]] = []
        faults: list[tuple[int, LineFault]] = []
        for number, cells in batch:
            line = self.customer_line(cells)
            if isinstance(line, LineFault):
                faults.append((number, line))
            elif fault := self.repeated(number, line):
                faults.append((number, fault))
            else:
                numbered.append((number, line))
        lines = [line for _, line in numbered]
        # Somebody may take an e-mail or an id while we write. Planning again notices that.
        plans = await in_transaction(
            self.engine, _plan_and_write, lines, self.request, retry_on=(IntegrityError,)
        )
        for (number, _), plan in zip(numbered, plans, strict=True):
            if plan.fault:
                faults.append((number, plan.fault))
                continue
            self.outcome.other_segments += plan.other_segment
            held = plan.other_segment and self.request.hold_segments
            self.outcome.counts[Verdict.CHANGED if held else plan.verdict] += 1
        self.refuse(faults)

    def customer_line(self, cells: dict[str, str] | LineFault) -> CustomerLine | LineFault:
        if isinstance(cells, LineFault):
            return cells
        return customer_line(cells, self.now, self.zone)

    def repeated(self, number: int, line: CustomerLine) -> LineFault | None:
        """Return a fault if an earlier line has this line's e-mail or id."""
        remedy = "keep one of the two lines"
        key = line.email_key
        if key and (first := self.index.first_line(f"e{key}", number)):
            return LineFault("Email", f"line {first} has the same e-mail", remedy)
        if line.id and (first := self.index.first_line(f"i{line.id}", number)):
            return LineFault("ID", f"line {first} has the same id", remedy)
        return None

    async def orders(self, batch: Sequence[tuple[int, bytes | dict[str, str] | LineFault]]) -> None:
        numbers: list[int] = []
        lines: list[OrderLine] = []
        faults: list[tuple[int, LineFault]] = []
        for number, content in batch:
            line = self.order_line(content)
            if isinstance(line, LineFault):
                faults.append((number, line))
            else:
                numbers.append(number)
                lines.append(line)
        # A dry run writes nothing, so the index remembers what earlier lines would have written.
        earlier = (
            {}
            if self.request.apply
            else self.index.order_keys(line.event.order_id for line in lines)
        )
        async with self.engine.connect() as connection:
            verdicts, keys = await plan_orders(connection, lines, earlier)
        refused = set[int]()
        if self.request.apply:
            refused = set(await write_orders(self.engine, lines))
        else:
            self.index.store_order_keys(keys)
        for place, (number, verdict) in enumerate(zip(numbers, verdicts, strict=True)):
            if place in refused:
                fault = LineFault("", "the database refused its data", "report this as a bug")
                faults.append((number, fault))
            else:
                self.outcome.counts[verdict] += 1
        self.refuse(faults)

    def order_line(self, content: bytes | dict[str, str] | LineFault) -> OrderLine | LineFault:
        if isinstance(content, bytes):
            return order_line(content, self.terms, self.now)
        if isinstance(content, LineFault):
            return content
        return order_cells(content, self.terms, self.now)

    def refuse(self, faults: list[tuple[int, LineFault]]) -> None:
        """Report the faults of a batch, sorted by line."""
        faults.sort()
        self.outcome.refused += len(faults)
        self.outcome.first_refused += faults[: _FIRST_REFUSED - len(self.outcome.first_refused)]
        for number, fault in faults:
            self.refused_lines.add(number, fault)


async def _plan_and_write(
    connection: AsyncConnection, lines: Sequence[CustomerLine], request: ImportRequest
) -> list[Planned]:
    plans = await plan_customers(connection, lines)
    if request.apply:
        await write_customers(
            connection,
            list(zip(lines, plans, strict=True)),
            request.actor,
            hold_segments=request.hold_segments,
        )
    return plans
