"""Apply batches, one a lane at a time, wait out a database that is away, then acknowledge."""

import asyncio
import logging
import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from consumers.event_log import tell_of
from consumers.inbox import LANES, Batch, Inbox, Lane
from service import tracing
from service.config import Config
from service.core.batch import Outcome
from service.core.envelope import Place
from service.core.order_event import Judged, Reason, Refusal
from service.db.engine import DATABASE_AWAY, in_transaction, refused_data
from service.db.ingest.ingest import ingest
from service.db.ingest.owners import OwnerChangedError
from service.streams import redis_client

log = logging.getLogger(__name__)

_LONGEST_WAIT = 5.0
_REPLAN_EVERY = 1024


class Applier:
    """Takes batches from the inbox until it is cancelled."""

    def __init__(self, config: Config, engine: AsyncEngine, redis: Redis, inbox: Inbox) -> None:
        """Declare it; `run` does the work."""
        self._engine = engine
        self._redis = redis
        self._stream = config.orders_stream
        self._names = {stream.partition: stream.name for stream in config.orders_streams}
        self._group = config.orders_group
        self._most = config.batch_size // LANES
        self._inbox = inbox
        self.in_hand: set[Place] = set()
        """Entries being applied."""
        self._batches = 0
        self._repeats_expected = False
        """Most of the last batch was applied already: somebody sends, or reads, it all again."""
        self.waiting_since: float | None = None
        """When the database was first found away (monotonic seconds); None: it is there."""

    async def run(self) -> None:
        """Apply what comes. An error that is nobody's data and not the world's is raised."""
        async with asyncio.TaskGroup() as group:
            for lane in self._inbox.lanes:
                group.create_task(self._serve(lane))

    async def _serve(self, lane: Lane) -> None:
        while True:
            batches = await self._inbox.take(lane, self._most)
            try:
                await self.apply(list(chain.from_iterable(batches)))
            finally:
                for _ in batches:
                    lane.task_done()

    async def apply(self, batch: Batch) -> None:
        """Commit a batch, then acknowledge it. Does not return before it is committed."""
        places = [entry.place for entry, _ in batch]
        self.in_hand.update(places)
        with tracing.applying(batch, self._stream) as traceparents:
            await self._commit(batch, traceparents)
        tell_of(batch)
        ids = defaultdict[int | None, list[str]](list)
        for partition, id_ in places:
            ids[partition].append(id_)
        await asyncio.gather(*(self._acknowledge(*of_stream) for of_stream in ids.items()))
        self.in_hand.difference_update(places)

    async def _acknowledge(self, partition: int | None, ids: Sequence[str]) -> None:
        try:
            await self._redis.xack(self._names[partition], self._group, *ids)
        except redis_client.REDIS_ERRORS as error:
            # They stay pending, are reclaimed later, and found to be duplicates.
            log.warning("%d entries not acknowledged: %s", len(ids), error)

    async def _ingest(
        self, connection: AsyncConnection, batch: Batch, traceparents: Mapping[str, str]
    ) -> None:
        """Ingest, with a new plan whenever the tables may have doubled.

        A plan made for empty tables reads them whole; kept while they grow, it is ruinous, and
        the server's own statistics come a minute too late for an import.
        """
        self._batches += 1
        if self._batches.bit_count() == 1 or self._batches % _REPLAN_EVERY == 0:
            await connection.execute(text("DISCARD PLANS"))
        counted = await ingest(
            connection, batch, traceparents=traceparents, repeats_expected=self._repeats_expected
        )
        self._repeats_expected = 2 * counted[Outcome.DUPLICATE] > len(batch)

    async def _commit(self, batch: Batch, traceparents: Mapping[str, str]) -> None:
        pause = 0.1
        while True:
            try:
                await in_transaction(
                    self._engine,
                    lambda connection: self._ingest(connection, batch, traceparents),
                    again=(OwnerChangedError,),
                )
            except DATABASE_AWAY as error:
                if refused_data(error):
                    await self._isolate(batch, traceparents, error)
                    return
                if self.waiting_since is None:
                    self.waiting_since = time.monotonic()
                log.warning("the database is away, waiting: %s", _first_line(error))
                await asyncio.sleep(pause * random.uniform(0.5, 1))
                pause = min(pause * 2, _LONGEST_WAIT)
            else:
                self.waiting_since = None
                return

    async def _isolate(
        self, batch: Batch, traceparents: Mapping[str, str], error: BaseException
    ) -> None:
        """Find the entries whose data the database refuses, by halves, and bury those only."""
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
    # The detail lines of a database error may quote the row, and so a person.
    return f"{type(original).__name__}: {original}".splitlines()[0]
