"""Publish segment changes on the out-stream: one relay at a time, in order, nothing missing.

The relay holds an advisory lock on the same connection that it works on. If that connection dies,
the relay's work fails and another replica takes over. So it does if the relay does nothing for
`LEASE_SECONDS`: it hangs, or it waits for an answer that was lost. Entry ids are explicit and rise
(``<number>-0``), so a change that is in the stream cannot get in twice, however often it is sent.
Before adding, Redis itself compares its last id with the one that we expect.

* If the stream has less, Redis was wiped or rolled back. Then the missing changes are published
  again, from the place to which the stream was last trimmed.
* If it has more, the relay sorts what is there (`service.db.segments.unknown_changes`). Nothing of
  it is believed. What this service cannot have written is recorded and removed. What it may have
  written is kept for `crm recover`, and only the customers concerned wait for that.
"""

import asyncio
import logging
import random
from collections.abc import Sequence

from redis.asyncio import Redis
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from consumers.event_log import log_published
from service import tracing
from service.core.foreign_kinds import ForeignKind
from service.core.published_change import MOST_NUMBER
from service.core.stream_ids import StreamId, write
from service.db.operations import foreign_entries
from service.db.operations.foreign_entries import Noticed
from service.db.segments import outbox, unknown_changes
from service.db.segments.assign import CHANNEL
from service.db.segments.unknown_changes import Tail
from service.streams import out_stream, redis_client

log = logging.getLogger(__name__)

_PAGE = 1000
_POLL_SECONDS = 1.0
_STEP_SECONDS = outbox.LEASE_SECONDS - 2 * _POLL_SECONDS
"""The longest time of a page. Clients would wait for a lost answer for a minute, and Redis's client
tries again five times."""
_GATHER_SECONDS = 0.02
"""The pause between two pages. Numbering a change leaves a dead entry in the outbox's index, which
every later query steps over until no transaction can see it: many small pages cost far more than
few large ones."""


class Relay:
    """Publishes while this worker leads; otherwise waits for its turn."""

    def __init__(self, engine: AsyncEngine, redis: Redis, stream: str) -> None:
        """Create the relay. Nothing runs until `run` is called."""
        self._engine = engine
        self._redis = redis
        self._stream = stream
        self._news = asyncio.Event()
        self.leading = False

    async def run(self) -> None:
        """Lead whenever no other relay does. Failures are logged, and then tried again."""
        while True:
            try:
                async with asyncio.timeout(_STEP_SECONDS) as step, self._engine.connect() as pooled:
                    connection = await pooled.execution_options(isolation_level="AUTOCOMMIT")
                    if await outbox.lead(connection):
                        await self._lead(connection, step)
            except (DBAPIError, PoolTimeoutError, *redis_client.REDIS_ERRORS) as error:
                log.warning("the relay pauses: %s", redis_client.described(error))
            await asyncio.sleep(_POLL_SECONDS * random.uniform(0.5, 1))

    async def _lead(self, connection: AsyncConnection, step: asyncio.Timeout) -> None:
        driver = (await connection.get_raw_connection()).driver_connection
        if driver is None:
            return
        await driver.add_listener(CHANNEL, self._notified)
        self.leading = True
        log.info("this worker relays now")
        try:
            published = (await outbox.state(connection)).published
            leading = _Leading(connection, self._redis, self._stream, published)
            while True:
                step.reschedule(asyncio.get_running_loop().time() + _STEP_SECONDS)
                self._news.clear()
                if not await leading.publish():
                    await self._wait_for_news()
                await asyncio.sleep(_GATHER_SECONDS)
        finally:
            self.leading = False
            # The lock goes with the connection, so the connection must not go back to the pool.
            await connection.invalidate()

    def _notified(self, *_: object) -> None:
        self._news.set()

    async def _wait_for_news(self) -> None:
        """Wait for a notification, but not for long: nothing notifies us if Redis was wiped."""
        try:
            async with asyncio.timeout(_POLL_SECONDS):
                await self._news.wait()
        except TimeoutError:
            pass


class _Leading:
    """The work of a relay that holds the lock, and how far it has come."""

    def __init__(
        self, connection: AsyncConnection, redis: Redis, stream: str, published: int
    ) -> None:
        self._connection = connection
        self._redis = redis
        self._stream = stream
        self._position = published
        """The publish number up to which the stream is known."""
        self._expected: StreamId = (published, 0)
        """The last id that the stream should have."""

    async def publish(self) -> bool:
        """Publish one page; return whether there may be more."""
        began = tracing.now()
        changes = await self._next_changes()
        last = await self._add(changes)
        if last < self._expected:
            await self._go_back(last)
            changes = await self._next_changes()
            last = await self._add(changes)
        if last > self._expected:
            await self._settle()
            return True
        if last < self._expected:  # Redis was wiped once more, this moment
            return True
        if not changes:
            return False
        await outbox.mark_published(self._connection, changes[-1].number)
        self._position = changes[-1].number
        self._expected = (self._position, 0)
        tracing.published([change.traceparent for change in changes], self._stream, began)
        log_published(changes)
        return True

    async def _next_changes(self) -> Sequence[outbox.OutboxChange]:
        return await outbox.next_changes(self._connection, self._position, _PAGE)

    async def _add(self, changes: Sequence[outbox.OutboxChange]) -> StreamId:
        added = ((change.number, change.body) for change in changes)
        return await out_stream.add(self._redis, self._stream, self._expected, added)

    async def _go_back(self, last: StreamId) -> None:
        """Return to the place from which Redis lost changes."""
        log.error(
            "%s ends at %s, but %s was there: publishing again what Redis lost",
            self._stream,
            write(last),
            write(self._expected),
        )
        trimmed = (await outbox.state(self._connection)).trimmed
        self._position, self._expected = max(last[0], trimmed), last
        await outbox.mark_published(self._connection, self._position)

    async def _settle(self) -> None:
        """Sort what the stream has beyond our last entry, and make room to go on."""
        tail = await self._read_tail((self._position, 0))
        while tail.read_to is not None:
            await self._record(tail)
            self._position = await unknown_changes.take_in(self._connection, tail, self._position)
            tail = await self._read_tail(tail.read_to)
        self._expected = tail.last
        number = tail.last[0]
        if number <= self._position:
            return
        # The last id was moved, or its entry was deleted by whoever added it.
        if number <= MOST_NUMBER:
            await outbox.renumber_beyond(self._connection, self._position, number)
            self._position = number
            return
        # No id that is left would be one of ours.
        place = (self._position, 0)
        await self._note(
            ForeignKind.FOREIGN, [Noticed(tail.last, "its last id left no room for more", b"")], 0
        )
        if await out_stream.start_over(self._redis, self._stream, tail.last, place):
            self._expected = place

    async def _read_tail(self, after: StreamId) -> Tail:
        return await unknown_changes.read_tail(
            self._connection, self._redis, self._stream, self._position, after
        )

    async def _record(self, tail: Tail) -> None:
        """Record what is not known to be ours, and remove what cannot be."""
        foreign = [Noticed(each.entry.id, each.reason, each.entry.sample) for each in tail.foreign]
        unknown = [
            Noticed(
                (number, 0),
                "this database never published it: it was restored, or somebody has forged it",
                body[: out_stream.SAMPLE_BYTES],
            )
            for number, _, body in tail.unknown
        ]
        await self._note(ForeignKind.FOREIGN, foreign)
        await self._note(ForeignKind.UNKNOWN, unknown)
        await out_stream.remove(self._redis, self._stream, [each.id for each in foreign])

    async def _note(
        self, kind: ForeignKind, noticed: Sequence[Noticed], entries: int | None = None
    ) -> None:
        """Record entries, and log the first of a row of them. ``entries``: how many to count."""
        if await foreign_entries.record(
            self._connection, self._stream, kind, noticed, entries=entries
        ):
            log.error(
                _MESSAGES[kind], self._stream, write(noticed[0].id), noticed[0].reason, len(noticed)
            )


_MESSAGES = {
    ForeignKind.FOREIGN: "somebody else wrote to %s: entry %s (%s), %d in all. Such entries are "
    "removed, and the relay goes on. See `crm foreign`",
    ForeignKind.UNKNOWN: "%s has changes that this database does not know: entry %s (%s), %d in "
    "all. Changes of these customers wait, the others are published. Run `crm recover`",
}
