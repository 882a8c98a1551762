"""Import a file of customers or orders, or report what an import would do."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from itertools import islice
from pathlib import Path

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.config import Config
from service.core.identifiers import customer_identifier, email_identifier
from service.core.judge import Terms
from service.core.own_fields import OwnField
from service.core.reconstruction import ReconstructionCause
from service.core.time_zones import zone_of
from service.db.accounts.hooks import only_domains
from service.db.customers.own_fields.catalogue import list_fields
from service.db.engine import BY_INDEX, create_engine, in_transaction
from service.db.installation import check_currency, claim_currency
from service.db.statistics.generations import request_reconstruction
from service.db.store_clock import read_store_clock
from service.transfer.contradiction import contradiction
from service.transfer.customer_columns import FileFacts
from service.transfer.customer_lines import CustomerLine, customer_line, stated_id
from service.transfer.customers_in import reserve_ids, write_customers
from service.transfer.customers_planned import Planned, plan_customers
from service.transfer.file_index import EarlierState, FileIndex
from service.transfer.formats.format import (
    OWN_COLUMN,
    CustomerCells,
    Format,
    OrderDocument,
    Reading,
)
from service.transfer.formats.values import text
from service.transfer.import_outcome import ImportOutcome
from service.transfer.lines import FileKind, LineFault, RefusedLineError, Verdict
from service.transfer.order_lines import OrderLine, order_line
from service.transfer.orders_in import owners_of, plan_orders, write_orders
from service.transfer.own_fields_in import own_columns, own_values
from service.transfer.reading.record import Record
from service.transfer.recognition import (
    RecognisedFile,
    Wanted,
    kinds_in,
    recognised_file,
)
from service.transfer.refused_lines import RefusedLines

BATCH = 1000
"""Lines per transaction."""
MOST_OF_ONE_CUSTOMER = 20_000
"""Orders that are written in one transaction because they are of one customer."""

Progress = Callable[[str, int, int], object]
"""Takes what is done, how much of it is done so far, and how much there is."""


@dataclass(frozen=True)
class ImportRequest:
    """What to import, and how."""

    path: Path
    kind: FileKind | None = None
    """None: the file's name and columns decide."""
    apply: bool = False
    actor: str = "import"
    encoding: str | None = None
    """None: the file's bytes say it."""
    hold_segments: bool = False
    format: str | None = None
    """None: the columns decide."""
    mapping: dict[str, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    zone: str | None = None
    """Of times without an offset. None: the store's."""
    date_format: str | None = None
    source: str = ""
    as_of: datetime | None = None
    """When the file's values were true. None: when it was last changed."""
    clear_empty: bool = False
    """An empty cell clears the value, if the file has the column."""

    @property
    def refused_path(self) -> Path:
        """The file, beside the original, that lists the refused lines."""
        return self.path.with_name(f"{self.path.name}.refused.csv")

    @property
    def wanted(self) -> Wanted:
        """What the request says about the file's format."""
        return Wanted(self.kind, self.format, self.mapping, self.constants, self.encoding)


async def import_file(
    config: Config, request: ImportRequest, progress: Progress = lambda *_: None
) -> list[ImportOutcome]:
    """Read the whole file, and import it or only report what that would do.

    A file that holds customers and orders has an outcome for each, in this order: orders may name
    customers by their ids. It is written in batches, each in a transaction, and what was imported
    before changes nothing. So after an interruption, the same call continues where it stopped.
    Raises UnreadableError, OtherCurrencyError, and whatever the database and ``progress`` raise.
    """
    engine = create_engine(
        config.database_url or "", application="crm import", pool_size=1, planner=BY_INDEX
    )
    try:
        guard = claim_currency if request.apply else check_currency
        async with engine.begin() as connection:
            await guard(connection, config.store_currency)
            domains = await only_domains(connection)
        now = datetime.now(UTC)
        zone = await _zone(engine, request)
        own = await in_transaction(engine, list_fields)
        outcomes = []
        with closing(RefusedLines(request.refused_path)) as refused_lines:
            for kind in kinds_in(request.path, request.wanted):
                with closing(FileIndex()) as index:
                    run = _Import(
                        request=replace(request, kind=kind),
                        engine=engine,
                        terms=config.terms,
                        now=now,
                        as_of=as_of(request, now),
                        reading=Reading(
                            zone, config.terms.country, request.source, request.date_format
                        ),
                        domains=domains,
                        own=own,
                        progress=progress,
                        refused_lines=refused_lines,
                        index=index,
                    )
                    await run.read_all()
                    outcomes.append(run.outcome)
        if request.apply and any(outcome.changed for outcome in outcomes):
            await in_transaction(engine, request_reconstruction, ReconstructionCause.IMPORT)
        return outcomes
    finally:
        await engine.dispose()


def as_of(request: ImportRequest, now: datetime) -> datetime:
    """Return when the values of the file were true."""
    changed = datetime.fromtimestamp(request.path.stat().st_mtime, UTC)
    return min(request.as_of or changed, now)


async def _zone(engine: AsyncEngine, request: ImportRequest) -> tzinfo:
    if request.zone:
        return zone_of(request.zone)
    async with engine.connect() as connection:
        return (await read_store_clock(connection)).zone


@dataclass
class _Import:
    """An import that is running."""

    request: ImportRequest
    engine: AsyncEngine
    terms: Terms
    now: datetime
    as_of: datetime
    reading: Reading
    domains: Mapping[str, str]
    """The domain of each platform's shop, where there is only one."""
    own: Sequence[OwnField]
    progress: Progress
    refused_lines: RefusedLines
    index: FileIndex
    outcome: ImportOutcome = field(default_factory=ImportOutcome)
    facts: FileFacts = field(init=False)

    async def read_all(self) -> None:
        self.outcome.as_of = self.as_of
        wanted = replace(self.request.wanted, own_columns=own_columns(self.own))
        with recognised_file(self.request.path, wanted) as file:
            self.reading.of_format(file.format, self.domains)
            if self.request.apply and file.format.kind is FileKind.CUSTOMERS:
                await self.reserve_ids(file)
        with recognised_file(self.request.path, wanted) as file:
            self.outcome.begin(file, self.reading)
            self.facts = FileFacts(self.as_of, overwrites_notes=file.format.ours)
            size = self.request.path.stat().st_size
            import_batch = self.customers if file.format.kind is FileKind.CUSTOMERS else self.orders
            records = grouped(file.format, file.records, self.outcome)
            while batch := list(islice(records, BATCH)):
                await import_batch(file.format, batch)
                self.progress("Reading", file.position(), size)
        if self.outcome.kind is FileKind.ORDERS:
            self.index.put_together()
            self.outcome.people, self.outcome.known_people = self.index.people()
            if self.request.apply:
                await self.write_orders()

    async def reserve_ids(self, file: RecognisedFile) -> None:
        """Make sure that no other customer gets an id which a later line of the file states."""
        highest = 0
        for record in file.records:
            if isinstance(record.content, dict):
                cells = read(file.format, record, self.reading)
                if not isinstance(cells, LineFault | OrderDocument):
                    highest = max(highest, stated_id(cells))
        self.reading.noticed.clear()
        if highest:
            await in_transaction(self.engine, reserve_ids, highest)

    async def customers(self, layout: Format, batch: Sequence[Record]) -> None:
        numbered: list[tuple[Record, CustomerLine]] = []
        for record in batch:
            line = self.customer_line(layout, record)
            if isinstance(line, LineFault):
                self.refuse(record, line)
            elif fault := self.repeated(record.line, line):
                self.refuse(record, fault)
            else:
                numbered.append((record, line))
        lines = [line for _, line in numbered]
        # Somebody may take an e-mail or an id while we write. Planning again notices that.
        plans = await in_transaction(
            self.engine, self.plan_and_write, lines, retry_on=(IntegrityError,)
        )
        for (record, line), plan in zip(numbered, plans, strict=True):
            if plan.fault:
                self.refuse(record, plan.fault)
                continue
            held = plan.other_segment and self.request.hold_segments
            verdict = Verdict.CHANGED if held else plan.verdict
            self.outcome.accept_customer(record, line, plan, verdict)
        self.write_refused()

    async def plan_and_write(
        self, connection: AsyncConnection, lines: Sequence[CustomerLine]
    ) -> list[Planned]:
        plans = await plan_customers(connection, lines, self.facts)
        if self.request.apply:
            await write_customers(
                connection,
                list(zip(lines, plans, strict=True)),
                self.facts,
                self.request.actor,
                hold_segments=self.request.hold_segments,
            )
        return plans

    def customer_line(self, layout: Format, record: Record) -> CustomerLine | LineFault:
        cells = read(layout, record, self.reading)
        if isinstance(cells, LineFault):
            return cells
        assert not isinstance(cells, OrderDocument)  # noqa: S101 - the format says so
        line = customer_line(
            cells,
            self.now,
            self.reading.zone,
            self.terms.country,
            clear_empty=self.request.clear_empty,
        )
        if isinstance(line, LineFault):
            return line._replace(column=layout.theirs.get(line.column, line.column))
        try:
            fields = own_values(
                cells, self.own, self.reading.date_format, clear_empty=self.request.clear_empty
            )
        except RefusedLineError as error:
            return error.fault
        return line._replace(fields=fields)

    def repeated(self, number: int, line: CustomerLine) -> LineFault | None:
        """Return a fault if an earlier line has this line's e-mail, id or phone."""
        names = {
            "Email": ("the same e-mail", line.email_key and email_identifier(line.email_key)),
            "ID": ("the same id", line.id and customer_identifier(line.id)),
            "External ID": ("the same id", line.external),
            "Phone": ("the same phone, and neither has an e-mail", line.phone_identifier),
        }
        for column, (what, name) in names.items():
            if name and (first := self.index.first_line(name, number)):
                return LineFault(column, f"line {first} has {what}", "keep one of the two lines")
        return None

    async def orders(self, layout: Format, batch: Sequence[Record]) -> None:
        numbers: list[int] = []
        records: list[Record] = []
        lines: list[OrderLine] = []
        for record in batch:
            line = self.order_line(layout, record)
            added = line if isinstance(line, LineFault) else self.index.add_order(record.line, line)
            if isinstance(line, LineFault):
                self.refuse(record, line)
            elif isinstance(added, EarlierState):
                self.refuse(record, contradiction(added, line.event, layout.theirs))
            elif isinstance(added, int):
                numbers.append(added)
                records.append(record)
                lines.append(line)
        earlier = self.index.known_orders(line.event.order_id for line in lines)
        async with self.engine.connect() as connection:
            plans, known = await plan_orders(connection, lines, earlier)
            owners = await owners_of(connection, lines)
        for identifier, owner in owners.items():
            self.index.link(identifier, f"customer:{owner}")
        self.index.store_known(known)
        for number, record, line, plan in zip(numbers, records, lines, plans, strict=True):
            if not (plan.writes or line.erased):
                self.index.skip_order(number)
            self.outcome.accept_order(record, line.event, plan.verdict)
        self.write_refused()

    def order_line(self, layout: Format, record: Record) -> OrderLine | LineFault:
        order = read(layout, record, self.reading)
        if isinstance(order, LineFault):
            return order
        assert isinstance(order, OrderDocument)  # noqa: S101 - the format says so
        return order_line(order, self.terms, self.now, self.as_of, layout.theirs)

    async def write_orders(self) -> None:
        """Write the orders, those of one customer in one transaction."""
        total, written = self.outcome.accepted, 0
        for batch in self.index.batches(BATCH, MOST_OF_ONE_CUSTOMER):
            refused = set(await write_orders(self.engine, [line for _, line in batch]))
            for place in refused:
                fault = LineFault("", "the database refused its data", "report this as a bug")
                self.outcome.refuse_late(batch[place][0], fault)
            written += len(batch)
            self.progress("Writing", written, total)
        self.write_refused()

    def refuse(self, record: Record, fault: LineFault) -> None:
        self.outcome.refuse(record, fault)

    def write_refused(self) -> None:
        for number, fault in self.outcome.new_faults():
            self.refused_lines.add(number, fault)


def read(
    layout: Format, record: Record, reading: Reading
) -> OrderDocument | CustomerCells | LineFault:
    """Return what a format makes of a record."""
    if isinstance(record.content, LineFault):
        return record.content
    reading.line = record.line
    content = record.content or {}
    try:
        found = layout.read(content, reading)
    except RefusedLineError as error:
        return error.fault._replace(
            column=layout.theirs.get(error.fault.column, error.fault.column)
        )
    if isinstance(found, OrderDocument):
        return found
    own = {name: text(content[name]) for name in content if name.startswith(OWN_COLUMN)}
    return {**found, **own}


def grouped(layout: Format, records: Iterator[Record], outcome: ImportOutcome) -> Iterator[Record]:
    """Yield the records; those that only continue the one before count as its lines."""
    waiting: Record | None = None
    for record in records:
        if record.is_of_other_kind:
            outcome.lines_of_other_kind += record.lines
        elif record.content is None:
            outcome.lines_empty += record.lines
        elif (
            waiting
            and layout.continues
            and isinstance(record.content, dict)
            and isinstance(waiting.content, dict)
            and layout.continues(waiting.content, record.content)
        ):
            waiting = waiting._replace(lines=waiting.lines + record.lines)
        else:
            if waiting:
                yield waiting
            waiting = record
    if waiting:
        yield waiting
