"""A batch must not cost more statements, round trips, rows or index probes than it does today.

The tests count; they measure no time. Each bound is today's cost plus a little room. If you raise
one, say why.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from consumers.orders import judge_all
from service.core.envelope import Entry
from service.db import outbox
from service.db.engine import BY_INDEX, create_engine, in_transaction
from service.db.ingest.ingest import ingest
from service.db.segments.change_outbox import CHANGES
from tests.bench.load import events, pages
from tests.conftest import Service
from tests.integration.db.costs.round_trips import Wire, wire
from tests.wait import until

BATCH = 500
CUSTOMERS = 2000
READ_PER_CHANGE = 2.9
"""Finding a change and numbering it, which returns what is published. Reading it again is a third.
"""
TABLES = ("identifiers", "customers", "customer_search", "orders", "segment_changes")


class Bench:
    """Applies batches over one connection, as a lane of a worker does, and counts the cost."""

    def __init__(self, service: Service, engine: AsyncEngine, counted: Wire) -> None:
        self.service = service
        self.wire = counted
        self.statements: list[str] = []
        self._engine = engine
        event.listen(engine.sync_engine, "before_cursor_execute", self._sent)

    def _sent(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self.statements.append(statement)

    async def apply(
        self, documents: Sequence[bytes], first: int = 1, *, repeats_expected: bool = False
    ) -> None:
        entries = [
            Entry(f"{1_700_000_000_000 + number}-0", {b"data": document})
            for number, document in enumerate(documents, first)
        ]
        batch = judge_all(entries, self.service.config)
        await in_transaction(
            self._engine,
            lambda connection: ingest(connection, batch, repeats_expected=repeats_expected),
        )

    async def read_of_history(self) -> int:
        """Return how many rows the table and the indexes of segment changes have given so far."""
        (row,) = await self.service.rows(
            "SELECT (SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes"
            " WHERE relname = 'segment_changes') + (SELECT seq_tup_read FROM pg_stat_user_tables"
            " WHERE relname = 'segment_changes') AS read"
        )
        return int(row["read"])

    @contextlib.asynccontextmanager
    async def relay(self) -> AsyncIterator[AsyncConnection]:
        """Yield the connection of a relay."""
        async with self._engine.connect() as pooled:
            connection = await pooled.execution_options(isolation_level="AUTOCOMMIT")
            assert await outbox.lead(connection)
            yield connection
            await connection.invalidate()

    async def forget_plans(self) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(text("DISCARD PLANS"))

    async def counts(self) -> dict[str, dict[str, int]]:
        """Return the database's statistics per table, counted since the database was made."""
        for engine in (self._engine, self.service.engine):
            async with engine.connect() as connection:
                await connection.execute(text("SELECT pg_stat_force_next_flush()"))
        rows = await self.service.rows(
            "SELECT relname, n_tup_ins AS inserted, n_tup_upd AS updated, n_tup_hot_upd AS hot,"
            " coalesce(idx_scan, 0) AS probes, coalesce(idx_tup_fetch, 0) AS fetched,"
            " seq_tup_read AS scanned"
            " FROM pg_stat_user_tables WHERE relname = ANY(:tables)",
            tables=list(TABLES),
        )
        return {row.pop("relname"): row for row in rows}


async def settled(service: Service) -> None:
    """Wait until the work of earlier tests is counted: an idle session reports it when it ends."""

    async def alone() -> bool:
        for engine in (service.engine, service.owner, service.verifier):
            await engine.dispose()
        (row,) = await service.rows(
            "SELECT count(*) AS others FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND application_name = 'crm tests'"
        )
        return bool(row["others"] == 0)

    await until(alone)


@pytest.fixture
async def bench(service: Service) -> AsyncIterator[Bench]:
    await settled(service)
    async with wire(service.servers.database_url) as (url, counted):
        engine = create_engine(
            url.replace("postgresql://", "postgresql+asyncpg://"),
            application="crm guard",
            pool_size=1,
            planner=BY_INDEX,
        )
        yield Bench(service, engine, counted)
        await engine.dispose()


@pytest.fixture
def batches() -> list[list[bytes]]:
    return list(pages(events(BATCH * 8, CUSTOMERS), BATCH))


def difference(
    after: dict[str, dict[str, int]], before: dict[str, dict[str, int]]
) -> dict[str, dict[str, int]]:
    return {
        table: {name: value - before[table][name] for name, value in counts.items()}
        for table, counts in after.items()
    }


async def test_a_batch_of_any_size_is_three_statements(
    bench: Bench, batches: list[list[bytes]]
) -> None:
    """Whether it is new or not."""
    for number, size in enumerate((1, 10, BATCH)):
        batch = batches[number][:size]
        for _ in range(2):
            bench.statements.clear()
            await bench.apply(batch)
            assert len(bench.statements) == 3, [s[:60] for s in bench.statements]


async def test_a_batch_is_five_round_trips(bench: Bench, batches: list[list[bytes]]) -> None:
    """Begin, claim, apply, count and commit. No statement is prepared again."""
    for batch in batches[:2]:
        await bench.apply(batch)
    before = bench.wire.round_trips
    await bench.apply(batches[2])
    assert bench.wire.round_trips - before <= 5


async def test_rows_are_touched_once_and_found_by_index(
    bench: Bench, batches: list[list[bytes]]
) -> None:
    number = 0
    for batch in batches[:4]:
        await bench.apply(batch, number)
        number += len(batch)
    await bench.forget_plans()  # new plans are made for tables that are not empty
    before = await bench.counts()
    for batch in batches[4:]:
        await bench.apply(batch, number)
        number += len(batch)
    cost = difference(await bench.counts(), before)
    seen = sum(len(batch) for batch in batches[4:])
    told = [json.loads(document)["data"] for batch in batches[4:] for document in batch]
    orders = len({order["id"] for order in told})

    assert cost["orders"]["inserted"] + cost["orders"]["updated"] <= orders * 1.1
    # One row per customer and batch: a new customer is inserted filled.
    assert cost["customers"]["inserted"] + cost["customers"]["updated"] <= seen
    assert cost["customer_search"]["inserted"] <= cost["customers"]["inserted"]
    # By id, to lock an existing customer and to read them.
    assert cost["customers"]["probes"] <= 2 * (seen - cost["customers"]["inserted"])
    # To find whom it means; to create it, and to find a new customer's others for the search.
    assert cost["identifiers"]["probes"] <= seen + 2 * cost["identifiers"]["inserted"]
    assert cost["identifiers"]["inserted"] == cost["customers"]["inserted"]
    # To learn the owner, to write the order, and to read the other orders of a former owner.
    assert cost["orders"]["probes"] <= 3 * seen
    assert cost["customer_search"]["probes"] <= seen
    assert cost["segment_changes"]["probes"] <= seen
    assert {name: counts["scanned"] for name, counts in cost.items()} == dict.fromkeys(cost, 0)


async def test_who_is_known_is_looked_up_once_and_in_the_index_alone(
    bench: Bench, batches: list[list[bytes]]
) -> None:
    await bench.apply(batches[0])
    await bench.forget_plans()
    async with bench.service.owner.connect() as pooled:
        connection = await pooled.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("VACUUM identifiers"))
    known = [document.replace(b'"ORD-', b'"NEXT-') for document in batches[0]]
    known = [document.replace(b'"event-', b'"next-') for document in known]
    before = await bench.counts()
    await bench.apply(known, BATCH)
    cost = difference(await bench.counts(), before)
    assert cost["identifiers"]["probes"] <= BATCH
    assert cost["identifiers"]["fetched"] == 0
    assert cost["orders"]["inserted"] > 0.7 * BATCH


async def test_pseudonyms_cost_one_more_lookup_of_each_order(
    bench: Bench, batches: list[list[bytes]]
) -> None:
    """Only once an id was replaced. Until then, the other tests show that they cost nothing."""
    await bench.service.execute("UPDATE installation SET ids_replaced = 1")
    await bench.apply(batches[0])
    before = await bench.counts()
    bench.statements.clear()
    await bench.apply(batches[1], BATCH)
    assert len(bench.statements) == 3, [s[:60] for s in bench.statements]
    assert difference(await bench.counts(), before)["orders"]["probes"] <= 4 * BATCH


async def test_an_event_applied_before_costs_one_lookup_of_its_order(
    bench: Bench, batches: list[list[bytes]]
) -> None:
    by_age = sorted(batches[0], key=lambda found: json.loads(found)["data"]["version"])
    newest = {json.loads(found)["subject"]: found for found in by_age}
    await bench.apply(batches[0])
    before = await bench.counts()
    bench.statements.clear()
    await bench.apply(list(newest.values()), BATCH, repeats_expected=True)
    assert len(bench.statements) == 2, [s[:60] for s in bench.statements]
    cost = difference(await bench.counts(), before)
    assert cost["customers"]["probes"] == 0
    assert cost["orders"]["probes"] == len(newest)


async def test_the_relay_reads_the_unpublished_changes_only(
    bench: Bench, batches: list[list[bytes]]
) -> None:
    for number, batch in enumerate(batches):
        await bench.apply(batch, number * BATCH)
    async with bench.relay() as connection:
        assert await read_per_change(bench, connection) <= READ_PER_CHANGE


async def test_a_relay_whose_plans_were_made_for_an_empty_history_reads_no_more(
    bench: Bench, batches: list[list[bytes]]
) -> None:
    async with bench.service.engine.begin() as connection:
        await connection.execute(text("ANALYZE segment_changes, relay"))
    async with bench.relay() as connection:
        assert await number_changes(connection) == 0
        for number, batch in enumerate(batches):
            await bench.apply(batch, number * BATCH)
        assert await read_per_change(bench, connection) <= READ_PER_CHANGE


async def number_changes(connection: AsyncConnection) -> int:
    """Do the relay's work in the database; return how many changes there were."""
    position = total = 0
    while changes := await CHANGES.next_page(connection, position, 100):
        position = changes[-1].number
        total += len(changes)
    await connection.execute(text("SELECT pg_stat_force_next_flush()"))
    return total


async def read_per_change(bench: Bench, connection: AsyncConnection) -> float:
    before = await bench.read_of_history()
    changes = await number_changes(connection)
    assert changes > 1000
    return (await bench.read_of_history() - before) / changes


async def test_most_updates_of_customers_are_hot(bench: Bench, batches: list[list[bytes]]) -> None:
    before = await bench.counts()
    for number, batch in enumerate(batches):
        await bench.apply(batch, number * BATCH)
    cost = difference(await bench.counts(), before)["customers"]
    assert cost["hot"] >= 0.95 * cost["updated"], cost
