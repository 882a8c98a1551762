"""Publish outboxes on their streams: one relay at a time, in order, nothing missing.

The relay holds an advisory lock on the same connection that it works on. If that connection dies,
the relay's work fails and another replica takes over. So it does if the relay does nothing for
`LEASE_SECONDS`: it hangs, or it waits for an answer that was lost. Entry ids are explicit and rise
(``<number>-0``), so an event that is in the stream cannot get in twice, however often it is sent.
Before adding, Redis itself compares its last id with the one that we expect.

* If the stream has less, Redis was wiped or rolled back. Then the missing events are published
  again, from the place to which the stream was last trimmed.
* If it has more, the relay sorts what is there (`service.db.out_stream_tail`). Nothing of it is
  believed. What this service cannot have written is recorded and removed. What it may have written
  is recorded, too: unknown segment changes are kept for `crm recover`, and only the customers
  concerned wait for that; unknown removals are removed.

The streams do not wait for each other: if Redis refuses one of them, the other goes on.
"""

import asyncio
import logging
import random
from collections.abc import Sequence

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from consumers.event_log import log_published
from service import tracing
from service.config import Config
from service.core.customer_ids import customer_ref
from service.core.foreign_kinds import ForeignKind
from service.core.published_event import MOST_NUMBER
from service.core.stream_ids import StreamId, write
from service.db import out_stream_tail, outbox
from service.db.operations import foreign_entries
from service.db.operations.foreign_entries import MOST_APART, Noticed
from service.db.operations.out_streams import out_streams
from service.db.out_stream_tail import OutStream, Tail
from service.db.outbox import OutboxEvent
from service.streams import out_stream, redis_client

log = logging.getLogger(__name__)

_PAGE = 1000
_POLL_SECONDS = 1.0
_STEP_SECONDS = outbox.LEASE_SECONDS - 2 * _POLL_SECONDS
"""The longest time of a page. Clients would wait for a lost answer for a minute, and Redis's client
tries again five times."""
_GATHER_SECONDS = 0.01
"""The pause before a page that will not be full. Numbering an event leaves a dead entry in the
outbox's index, which every later query steps over until no transaction can see it: many small pages
cost far more than few large ones."""


class Relay:
    """Publishes while this worker leads; otherwise waits for its turn."""

    def __init__(self, engine: AsyncEngine, redis: Redis, config: Config) -> None:
        """Create the relay. Nothing runs until `run` is called."""
        self._engine = engine
        self._redis = redis
        self._streams = out_streams(config)
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
        await driver.add_listener(outbox.CHANNEL, self._notified)
        self.leading = True
        log.info("this worker relays now")
        try:
            leading = [
                _Leading(
                    connection,
                    self._redis,
                    stream,
                    (await stream.outbox.state(connection)).published,
                )
                for stream in self._streams
            ]
            while True:
                self._news.clear()
                more = False
                for each in leading:
                    step.reschedule(asyncio.get_running_loop().time() + _STEP_SECONDS)
                    more |= await each.publish()
                if not more:
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
    """The work on one stream of a relay that holds the lock, and how far it has come."""

    def __init__(
        self, connection: AsyncConnection, redis: Redis, stream: OutStream, published: int
    ) -> None:
        self._connection = connection
        self._redis = redis
        self._stream = stream
        self._name = stream.name
        self._outbox = stream.outbox
        self._position = published
        """The publish number up to which the stream is known."""
        self._expected: StreamId = (published, 0)
        """The last id that the stream should have."""
        self._refused = False
        """Whether Redis refused this stream the last time."""

    async def publish(self) -> bool:
        """Publish one page; return whether there may be more.

        There is no more while Redis refuses this stream: our user has no right to it, or somebody
        has put something else in its place.
        """
        try:
            more = await self._publish()
        except ResponseError as error:
            if not (isinstance(error, NoPermissionError) or "WRONGTYPE" in str(error)):
                raise
            if not self._refused:
                log.warning("%s cannot be published: %s", self._name, redis_client.described(error))
            self._refused = True
            return False
        self._refused = False
        return more

    async def _publish(self) -> bool:
        began = tracing.now()
        events = await self._next_page()
        last = await self._add(events)
        if last < self._expected:
            await self._go_back(last)
            events = await self._next_page()
            last = await self._add(events)
        if last > self._expected:
            await self._settle()
            return True
        if last < self._expected:  # Redis was wiped once more, this moment
            return True
        if not events:
            return False
        await self._outbox.mark_published(self._connection, events[-1].number)
        self._position = events[-1].number
        self._expected = (self._position, 0)
        tracing.published([event.traceparent for event in events], self._name, began)
        log_published(events)
        return len(events) == _PAGE

    async def _next_page(self) -> Sequence[OutboxEvent]:
        return await self._outbox.next_page(self._connection, self._position, _PAGE)

    async def _add(self, events: Sequence[OutboxEvent]) -> StreamId:
        added = ((event.number, event.body) for event in events)
        return await out_stream.add(self._redis, self._name, self._expected, added)

    async def _go_back(self, last: StreamId) -> None:
        """Return to the place from which Redis lost events."""
        log.error(
            "%s ends at %s, but %s was there: publishing again what Redis lost",
            self._name,
            write(last),
            write(self._expected),
        )
        trimmed = (await self._outbox.state(self._connection)).trimmed
        self._position, self._expected = max(last[0], trimmed), last
        await self._outbox.mark_published(self._connection, self._position)

    async def _settle(self) -> None:
        """Sort what the stream has beyond our last entry, and make room to go on."""
        tail = await self._read_tail((self._position, 0))
        while tail.read_to is not None:
            await self._record(tail)
            self._position = await out_stream_tail.take_in(
                self._connection, self._outbox, tail, self._position
            )
            tail = await self._read_tail(tail.read_to)
        self._expected = tail.last
        number = tail.last[0]
        if number <= self._position:
            return
        # The last id was moved, or its entry was deleted by whoever added it.
        if number <= MOST_NUMBER:
            await self._outbox.renumber_beyond(self._connection, self._position, number)
            self._position = number
            return
        # No id that is left would be one of ours.
        place = (self._position, 0)
        await self._note(
            ForeignKind.FOREIGN, [Noticed(tail.last, "its last id left no room for more", b"")], 0
        )
        if await out_stream.start_over(self._redis, self._name, tail.last, place):
            self._expected = place

    async def _read_tail(self, after: StreamId) -> Tail:
        return await out_stream_tail.read_tail(
            self._connection, self._redis, self._stream, self._position, after
        )

    async def _record(self, tail: Tail) -> None:
        """Record what is not known to be ours, and remove what cannot be, or is not kept."""
        foreign = [Noticed(each.entry.id, each.reason, each.entry.sample) for each in tail.foreign]
        unknown = [
            Noticed(
                (each.number, 0),
                f"this database never published it about {customer_ref(each.event.customer_id)}: "
                "it was restored, or somebody has forged it",
                each.body[: out_stream.SAMPLE_BYTES],
            )
            for each in tail.unknown
        ]
        await self._note(
            ForeignKind.FOREIGN, [each for each in foreign if each.reason != outbox.REPEATED]
        )
        removed = foreign
        if self._outbox.keep is None:
            # Nothing else tells a person which ones there were.
            removed = [*foreign, *unknown]
            for each in unknown[:MOST_APART]:
                await self._note(ForeignKind.UNKNOWN, [each], apart=True)
            unknown = unknown[MOST_APART:]
        await self._note(ForeignKind.UNKNOWN, unknown)
        await out_stream.remove(self._redis, self._name, [each.id for each in removed])

    async def _note(
        self,
        kind: ForeignKind,
        noticed: Sequence[Noticed],
        entries: int | None = None,
        *,
        apart: bool = False,
    ) -> None:
        """Record entries, and log the first of a row of them. ``entries``: how many to count."""
        if await foreign_entries.record(
            self._connection, self._name, kind, noticed, entries=entries, apart=apart
        ):
            log.error(
                _MESSAGES[kind],
                *(self._name, write(noticed[0].id), noticed[0].reason, len(noticed)),
                self._outbox.on_unknown if kind is ForeignKind.UNKNOWN else _GOES_ON,
            )


_MESSAGES = {
    ForeignKind.FOREIGN: "somebody else wrote to %s: entry %s (%s), %d in all. %s",
    ForeignKind.UNKNOWN: "%s has entries that this database does not know: entry %s (%s), %d in "
    "all. %s",
}
_GOES_ON = "Such entries are removed, and the relay goes on. See `crm foreign`"
