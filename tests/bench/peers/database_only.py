"""Peer D, the upper limit: only the database's share of our work.

A worker's statements are recorded with their parameters. The bare driver sends them again over as
many connections as a worker uses: no stream, no judging, no folding, no packing. The parameters
hold customer ids, so each lane draws ids from a sequence of its own.

Run by ``python -m tests.bench.peers.database_only FILE``.
"""

import asyncio
import pickle
import sys
from collections.abc import AsyncIterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import uvloop
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from consumers.applier import LANES, Batch, Inbox
from consumers.orders import judge_all
from service.config import Config
from service.core.envelope import Entry
from service.db.engine import BY_INDEX, create_engine
from service.db.ingest.ingest import ingest
from tests.bench.load import pages

Transaction = list[tuple[str, Sequence[Any]]]

_NUMBERS = "'customers_id_seq'"
"""Where a statement draws customer ids from."""


async def prepare(engine: AsyncEngine) -> None:
    """Make a sequence for each lane. It begins anew in each run, as the recording did."""
    async with engine.begin() as connection:
        for lane in range(LANES):
            await connection.execute(
                text(f"CREATE SEQUENCE {_of(lane)} START {1001 + lane} INCREMENT {LANES} CACHE 1")
            )


async def restore(engine: AsyncEngine) -> None:
    """Undo `prepare`."""
    async with engine.begin() as connection:
        for lane in range(LANES):
            await connection.execute(text(f"DROP SEQUENCE {_of(lane)}"))


def _of(lane: int) -> str:
    return f"bench_lane_{lane}"


async def record(config: Config, documents: Sequence[bytes], file: Path) -> None:
    """Apply the events to empty tables in a worker's batches, and record the statements."""
    engine = create_engine(config.database_url or "", application="crm bench", planner=BY_INDEX)
    async with engine.connect() as connection:
        await connection.execute(
            text("SELECT 1")
        )  # the queries of connecting itself are not recorded
    sent: Transaction = []
    lane = 0

    def keep(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> Any:
        statement = statement.replace(_NUMBERS, f"'{_of(lane)}'")
        many = parameters if isinstance(parameters, list) else [parameters]
        sent.extend((statement, each) for each in many)
        return statement, parameters

    event.listen(engine.sync_engine, "before_cursor_execute", keep, retval=True)
    lanes: list[list[Transaction]] = [[] for _ in range(LANES)]
    async for lane, batch in _batches(config, documents):
        async with engine.begin() as connection:
            sent.clear()
            await ingest(connection, batch)
        lanes[lane].append(list(sent))
    await engine.dispose()
    await asyncio.to_thread(file.write_bytes, pickle.dumps(lanes))


async def _batches(config: Config, documents: Sequence[bytes]) -> AsyncIterator[tuple[int, Batch]]:
    """Yield the batches that a worker would make, each with its lane."""
    inbox = Inbox(config)
    numbers = count(1)
    for page in pages(list(documents), config.batch_size):
        entries = [Entry(f"{next(numbers)}-0", {b"data": document}) for document in page]
        await inbox.put(judge_all(entries, config), 0)
        for lane, queue in enumerate(inbox.lanes):
            while not queue.empty():
                yield lane, queue.get_nowait().entries


async def replay(config: Config, recorded: bytes) -> None:
    """Send all statements again, with the lanes in parallel."""
    lanes: list[list[Transaction]] = pickle.loads(recorded)  # noqa: S301
    # Connections with a worker's settings: without them, triggers would do more than it does.
    engine = create_engine(
        config.database_url or "", application="crm bench", planner=BY_INDEX, pool_size=LANES
    )
    await asyncio.gather(*(_send(engine, lane) for lane in lanes))
    await engine.dispose()


async def _send(engine: AsyncEngine, transactions: list[Transaction]) -> None:
    pooled = await engine.raw_connection()
    connection: Any = pooled.driver_connection
    prepared: dict[str, Any] = {}
    for transaction in transactions:
        async with connection.transaction():
            for statement, parameters in transaction:
                if statement not in prepared:
                    prepared[statement] = await connection.prepare(statement)
                await prepared[statement].fetch(*parameters)
    pooled.close()


if __name__ == "__main__":
    uvloop.run(replay(Config(), Path(sys.argv[1]).read_bytes()))
