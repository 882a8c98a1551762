"""``crm import``: a file of customers or orders; a dry run first, a report of what was refused."""

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.config import Config
from service.db.engine import BY_INDEX, create_engine, in_transaction
from service.transfer import orders_in as orders
from service.transfer.customers_in import plan_customers, reserve_ids, write_customers
from service.transfer.export import COLUMNS, ExportKind
from service.transfer.lines import CustomerLine, LineFault, Verdict, customer_line
from service.transfer.records import Record, UnreadableError, read_csv, read_lines
from service.transfer.seen import Seen

BATCH = 1000
_SHOWN = 20
JSON_SUFFIXES = {".ndjson", ".jsonl", ".json"}
_COLUMNS = {ExportKind.CUSTOMERS: COLUMNS, ExportKind.ORDERS: tuple(orders.COLUMNS)}
_REQUIRED = {
    ExportKind.CUSTOMERS: ("Email",),
    ExportKind.ORDERS: ("id", "status", "totalAmount", "dateCreated"),
}


@dataclass(frozen=True)
class ImportRequest:
    """What to import, and how."""

    path: Path
    kind: ExportKind | None = None
    """None: as the file looks."""
    apply: bool = False
    actor: str = "import"
    encoding: str = "utf-8-sig"
    hold_segments: bool = False


@dataclass
class ImportOutcome:
    """What came of it; of a dry run, what would."""

    counts: Counter[Verdict] = field(default_factory=Counter)
    refused: int = 0
    other_segments: int = 0
    ignored: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether no line was refused."""
        return not self.refused


class ImportReport:
    """Refused lines: the first ones on the screen, all of them in a file beside the original."""

    def __init__(self, path: Path, console: Console) -> None:
        """Remove the report of the last run; write one as soon as there is something to say."""
        self.path = path.with_name(f"{path.name}.refused.csv")
        self.path.unlink(missing_ok=True)
        self._console = console
        self._file: TextIO | None = None
        self._writer: Any = None
        self.lines = 0

    def add(self, number: int, fault: LineFault) -> None:
        """Report a line."""
        if self._file is None:
            self._file = self.path.open("w", encoding="utf-8-sig", newline="")
            self._writer = csv.writer(self._file)
            self._writer.writerow(("Line", "Column", "Problem", "What to do"))
        self._writer.writerow((number, *fault))
        self.lines += 1
        if self.lines <= _SHOWN:
            where = f"line {number}" + (f", {fault.column}" if fault.column else "")
            self._console.print(f"{where}: {fault.what}; {fault.mend}", markup=False)
        elif self.lines == _SHOWN + 1:
            self._console.print(f"… the rest is in {self.path}", markup=False)

    def close(self) -> None:
        """Finish the file."""
        if self._file:
            self._file.close()


async def run_import(config: Config, wanted: ImportRequest, console: Console) -> ImportOutcome:
    """Read the whole file in batches and import it, or say what that would do.

    Each batch is a transaction of its own, and what is in already changes nothing: after an
    interruption the same command goes on. Raises UnreadableError and what the database raises.
    """
    engine = create_engine(
        config.database_url or "", application="crm import", pool_size=1, planner=BY_INDEX
    )
    try:
        with ExitStack() as stack:
            run = _Run(
                config=config,
                wanted=wanted,
                engine=engine,
                report=stack.enter_context(closing(ImportReport(wanted.path, console))),
                seen=stack.enter_context(closing(Seen())),
                now=datetime.now(UTC),
            )
            await run.all(stack, console)
            return run.outcome
    finally:
        await engine.dispose()


@dataclass
class _Run:
    config: Config
    wanted: ImportRequest
    engine: AsyncEngine
    report: ImportReport
    seen: Seen
    now: datetime
    outcome: ImportOutcome = field(default_factory=ImportOutcome)

    def open(self, stack: ExitStack) -> tuple[ExportKind, Iterator[Any], Callable[[], int]]:
        """Begin to read; gives the kind, the records, and how far they have come in bytes."""
        if self.wanted.path.suffix.lower() in JSON_SUFFIXES:
            if self.wanted.kind is ExportKind.CUSTOMERS:
                msg = "is JSON; customers are imported from CSV"
                raise UnreadableError(msg)
            file = stack.enter_context(self.wanted.path.open("rb"))
            return ExportKind.ORDERS, read_lines(file), file.tell
        kinds = {self.wanted.kind} if self.wanted.kind else set(_COLUMNS)
        table = read_csv(
            self.wanted.path,
            self.wanted.encoding,
            {kind: columns for kind, columns in _COLUMNS.items() if kind in kinds},
            _REQUIRED,
        )
        stack.enter_context(table.file)
        self.outcome.ignored = list(table.ignored)
        return table.kind, table.records, table.position

    async def all(self, stack: ExitStack, console: Console) -> None:
        kind, records, position = self.open(stack)
        if self.wanted.apply and kind is ExportKind.CUSTOMERS:
            await self.reserve(records)
            kind, records, position = self.open(stack)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            verb = "Importing" if self.wanted.apply else "Dry run:"
            task = progress.add_task(f"{verb} {kind}", total=self.wanted.path.stat().st_size)
            while batch := list(islice(records, BATCH)):
                await (self.customers if kind is ExportKind.CUSTOMERS else self.orders)(batch)
                progress.update(task, completed=position())

    async def reserve(self, records: Iterator[Record]) -> None:
        """Keep the file's ids free of the customers that have none, wherever they stand."""
        highest = 0
        for _, cells in records:
            if not isinstance(cells, LineFault):
                line = customer_line({"ID": cells.get("ID", ""), "Email": "x@y"}, self.now)
                highest = max(highest, (not isinstance(line, LineFault) and line.id) or 0)
        if highest:
            await in_transaction(self.engine, lambda connection: reserve_ids(connection, highest))

    def refuse(self, faults: list[tuple[int, LineFault]]) -> None:
        """Report a batch's faults in the order of their lines."""
        self.outcome.refused += len(faults)
        for number, fault in sorted(faults):
            self.report.add(number, fault)

    async def customers(self, batch: list[Record]) -> None:
        numbered: list[tuple[int, CustomerLine]] = []
        faults: list[tuple[int, LineFault]] = []
        for number, cells in batch:
            line = cells if isinstance(cells, LineFault) else customer_line(cells, self.now)
            if isinstance(line, LineFault):
                faults.append((number, line))
            elif fault := self._repeated(number, line):
                faults.append((number, fault))
            else:
                numbered.append((number, line))
        lines = [line for _, line in numbered]

        async def work(connection: AsyncConnection) -> list[Any]:
            plans = await plan_customers(connection, lines)
            if self.wanted.apply:
                await write_customers(
                    connection,
                    list(zip(lines, plans, strict=True)),
                    self.wanted.actor,
                    hold_segments=self.wanted.hold_segments,
                )
            return plans

        # Somebody may take an e-mail or an id while we write: planned again, it is seen.
        plans = await in_transaction(self.engine, work, retry_on=(IntegrityError,))
        for (number, _), plan in zip(numbered, plans, strict=True):
            if plan.fault:
                faults.append((number, plan.fault))
                continue
            self.outcome.other_segments += plan.other_segment
            held = plan.other_segment and self.wanted.hold_segments
            self.outcome.counts[Verdict.CHANGED if held else plan.verdict] += 1
        self.refuse(faults)

    def _repeated(self, number: int, line: CustomerLine) -> LineFault | None:
        mend = "keep one of the two lines"
        if before := self.seen.first(f"e{line.email_key}", number):
            return LineFault("Email", f"line {before} has the same e-mail", mend)
        if line.id and (before := self.seen.first(f"i{line.id}", number)):
            return LineFault("ID", f"line {before} has the same id", mend)
        return None

    async def orders(self, batch: list[tuple[int, bytes | dict[str, str] | LineFault]]) -> None:
        rules = orders.Rules(self.config.terms, self.now)
        numbers: list[int] = []
        faults: list[tuple[int, LineFault]] = []
        lines: list[orders.OrderLine] = []
        for number, content in batch:
            line: orders.OrderLine | LineFault
            if isinstance(content, bytes):
                line = orders.order_line(content, rules)
            else:
                line = (
                    content
                    if isinstance(content, LineFault)
                    else orders.order_cells(content, rules)
                )
            if isinstance(line, LineFault):
                faults.append((number, line))
            else:
                numbers.append(number)
                lines.append(line)
        # A dry run has not written what earlier lines say; it remembers it.
        seen = {} if self.wanted.apply else self.seen.keys(one.event.order_id for one in lines)
        async with self.engine.connect() as connection:
            verdicts, keys = await orders.plan_orders(connection, lines, seen)
        refused = set[int]()
        if self.wanted.apply:
            refused = set(await orders.write_orders(self.engine, lines))
        else:
            self.seen.remember(keys)
        for place, (number, verdict) in enumerate(zip(numbers, verdicts, strict=True)):
            if place in refused:
                fault = LineFault("", "the database refused its data", "report this as a bug")
                faults.append((number, fault))
            else:
                self.outcome.counts[verdict] += 1
        self.refuse(faults)


def show(outcome: ImportOutcome, wanted: ImportRequest, console: Console) -> None:
    """Say what came of it."""
    done = "Imported" if wanted.apply else "Dry run, nothing written"
    counts = ", ".join(f"{outcome.counts[verdict]:,} {verdict}" for verdict in Verdict)
    console.print(f"{done}: {counts}, {outcome.refused:,} refused.")
    if outcome.ignored:
        console.print(f"Columns left aside: {', '.join(outcome.ignored)}", markup=False)
    if outcome.refused:
        console.print(f"Refused lines: {wanted.path.name}.refused.csv", markup=False)
    if outcome.other_segments and not wanted.hold_segments:
        console.print(
            f"{outcome.other_segments:,} lines name another segment than the customer has: the "
            "rules give it, from the orders. --hold-segments sets those by hand."
        )
    if not wanted.apply:
        console.print("Add --apply to import.")
