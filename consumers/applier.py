"""Hold judged entries in the inbox, apply them in batches, then acknowledge them.

While the database is away, the applier waits and the inbox fills; a full inbox stops the reading.
"""

import asyncio
import logging
import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from consumers.event_log import log_batch
from consumers.room import Room
from consumers.tasks import together
from service import tracing
from service.config import Config
from service.core.batch import Outcome
from service.core.envelope import Place
from service.core.order_event import Judged, OrderEvent, Reason, Refusal
from service.db.engine import DATABASE_AWAY, in_transaction, refused_data
from service.db.ingest.ingest import ingest
from service.db.ingest.owners import OwnerChangedError
from service.streams import redis_client

log = logging.getLogger(__name__)

Batch = Sequence[Judged]

LANES = 2
"""How many transactions a worker runs at the same time."""
_BATCHES_AHEAD = 1
"""How many batches per lane and stream are read and judged while another one is applied."""
_LONGEST_PAUSE = 5.0
_REPLAN_EVERY = 1024


class Part(NamedTuple):
    """The entries of a batch that are in one lane."""

    entries: Batch
    weight: int
    """The bytes of the room to give back for them: their share of the batch, by number."""


Lane = asyncio.Queue[Part]


class Inbox:
    """Judged entries that wait to be applied, in lanes, split by customer.

    Two batches that name the same customer wait for each other's locks, and two batches of a
    thousand entries nearly always have a customer in common. Batches of different lanes hardly ever
    do, so both run in Postgres at the same time. Reading waits while the lanes are full or the room
    is taken, so a worker's memory stays flat.
    """

    def __init__(self, config: Config) -> None:
        """Create empty lanes, and an empty room for what is read, waits or is being applied."""
        ahead = _BATCHES_AHEAD * len(config.orders_streams)
        self.lanes = tuple(Lane(ahead) for _ in range(LANES))
        self.room = Room(config.max_held_bytes)
        self._most_entries = config.batch_size // LANES
        self._most_bytes = config.page_bytes
        self._lanes_of_orders = dict[str, int]()
        """The lanes of orders that wait or are being applied. An event that moves such an order to
        another customer goes the same way: beside the other one, its whole batch would have to
        start again."""

    async def put(self, batch: Batch, weight: int) -> None:
        """Add a batch. All entries of one customer go to the same lane, unless an order moves.

        The caller has taken its weight in the room. It is given back when the batch is applied.
        """
        parts: list[list[Judged]] = [[] for _ in self.lanes]
        for judged in batch:
            parts[self._lane_of(judged.verdict)].append(judged)
        remaining = weight
        try:
            for lane, part in zip(self.lanes, parts, strict=True):
                if part:
                    share = weight * len(part) // len(batch)
                    await lane.put(Part(part, share))
                    remaining -= share
        finally:
            self.room.give_back(remaining)

    async def take(self, lane: Lane) -> list[Part]:
        """Wait for a part in a lane; return it with those behind it, enough for one transaction.

        The caller calls `done` when they are applied.
        """
        taken = [await lane.get()]
        entries, weight = len(taken[0].entries), taken[0].weight
        while entries < self._most_entries and weight < self._most_bytes and not lane.empty():
            taken.append(lane.get_nowait())
            entries += len(taken[-1].entries)
            weight += taken[-1].weight
        return taken

    def done(self, lane: Lane, parts: Sequence[Part]) -> None:
        """Record that parts of a lane are applied, and give back their weight."""
        for part in parts:
            for _, verdict in part.entries:
                if isinstance(verdict, OrderEvent):
                    self._lanes_of_orders.pop(verdict.order_id, None)
            lane.task_done()
            self.room.give_back(part.weight)

    async def join(self) -> None:
        """Wait until every entry that was put in has been applied."""
        for lane in self.lanes:
            await lane.join()

    def _lane_of(self, verdict: OrderEvent | Refusal) -> int:
        if not isinstance(verdict, OrderEvent):
            return 0
        lane = self._lanes_of_orders.get(verdict.order_id)
        if lane is None:
            customer = verdict.customer
            named = customer.identifiers[0] if customer else verdict.order_id
            lane = self._lanes_of_orders[verdict.order_id] = hash(named) % LANES
        return lane


class Applier:
    """Applies batches of the inbox until it is cancelled."""

    def __init__(self, config: Config, engine: AsyncEngine, redis: Redis, inbox: Inbox) -> None:
        """Create the applier. Nothing runs until `run` is called."""
        self._engine = engine
        self._redis = redis
        self._stream = config.orders_stream
        self._names = {stream.partition: stream.name for stream in config.orders_streams}
        self._group = config.orders_group
        self._inbox = inbox
        self.being_applied: set[Place] = set()
        """The entries that are being applied now."""
        self._batches = 0
        self._repeats_expected = False
        """True if most of the last batch was applied before, as when a stream is read again."""
        self.waiting_since: float | None = None
        """Since when the database has been away, in monotonic seconds. None while it answers."""

    async def run(self) -> None:
        """Apply each lane's batches in turn.

        Raises errors that neither an event's data nor an unreachable server explains: they are
        bugs of this service.
        """
        await together(*(self._serve(lane) for lane in self._inbox.lanes))

    async def reaches_database(self) -> bool:
        """Return True if the database answers."""
        try:
            async with self._engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except DATABASE_AWAY:
            return False
        return True

    async def _serve(self, lane: Lane) -> None:
        while True:
            parts = await self._inbox.take(lane)
            try:
                await self.apply(list(chain.from_iterable(part.entries for part in parts)))
            finally:
                self._inbox.done(lane, parts)
            del parts  # do not hold them while waiting for the next ones

    async def apply(self, batch: Batch) -> None:
        """Commit a batch, then acknowledge it. Does not return before it is committed."""
        places = [entry.place for entry, _ in batch]
        self.being_applied.update(places)
        with tracing.applying(batch, self._stream) as traceparents:
            await self._commit(batch, traceparents)
        log_batch(batch)
        ids = defaultdict[int | None, list[str]](list)
        for partition, id_ in places:
            ids[partition].append(id_)
        await asyncio.gather(
            *(self._acknowledge(partition, each) for partition, each in ids.items())
        )
        self.being_applied.difference_update(places)

    async def _acknowledge(self, partition: int | None, ids: Sequence[str]) -> None:
        try:
            await self._redis.xack(self._names[partition], self._group, *ids)
        except redis_client.REDIS_ERRORS as error:
            # The entries stay pending. When they are reclaimed, they are counted as duplicates.
            log.warning("entries not acknowledged: %d (%s)", len(ids), error)

    async def _ingest(
        self, connection: AsyncConnection, batch: Batch, traceparents: Mapping[str, str]
    ) -> None:
        """Ingest a batch, with new query plans whenever the tables may have doubled.

        A plan made for empty tables reads whole tables. While they grow, such a plan makes every
        batch slower, and the server's own statistics come a minute too late for an import.
        """
        self._batches += 1
        if self._batches.bit_count() == 1 or self._batches % _REPLAN_EVERY == 0:
            await connection.execute(text("DISCARD PLANS"))
        counted = await ingest(
            connection, batch, traceparents=traceparents, repeats_expected=self._repeats_expected
        )
        self._repeats_expected = 2 * counted[Outcome.DUPLICATE] > len(batch)

    async def _commit(self, batch: Batch, traceparents: Mapping[str, str]) -> None:
        """Commit a batch. Waits as long as the database is away."""
        pause = 0.1
        while True:
            try:
                await in_transaction(
                    self._engine, self._ingest, batch, traceparents, retry_on=(OwnerChangedError,)
                )
            except DATABASE_AWAY as error:
                if refused_data(error):
                    await self._isolate(batch, traceparents, error)
                    return
                if self.waiting_since is None:
                    self.waiting_since = time.monotonic()
                log.warning("the database is away, waiting: %s", _first_line(error))
                await asyncio.sleep(pause * random.uniform(0.5, 1))
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                self.waiting_since = None
                return

    async def _isolate(
        self, batch: Batch, traceparents: Mapping[str, str], error: BaseException
    ) -> None:
        """Find the entries that the database refuses, by halving; make only those dead letters."""
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._commit(batch[:middle], traceparents)
            await self._commit(batch[middle:], traceparents)
            return
        ((entry, _),) = batch
        log.error("entry %s passed the contract and was refused by the database", entry.id)
        message = f"the database refused it: {_first_line(error)}"
        await self._commit([Judged(entry, Refusal(Reason.NOT_APPLICABLE, message))], {})


def _first_line(error: BaseException) -> str:
    original = error.orig if isinstance(error, DBAPIError) else error
    # The other lines of a database error may quote the row, and with it a person's data.
    return f"{type(original).__name__}: {original}".splitlines()[0]
