"""Publish segment changes on the out-stream: one relay at a time, in order, nothing missing.

The relay holds an advisory lock on the same connection that it works on. If that connection dies,
the relay's work fails and another replica takes over. Entry ids are explicit and rise
(``<number>-0``), so a change that is in the stream cannot get in twice, however often it is sent.
Before adding, Redis itself compares its last id with the one that we expect. If the stream has
less, Redis was wiped or rolled back. Then the missing changes are published again, from the place
to which the stream was last trimmed.
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
from service.core.envelope import FASTSTREAM_FIELD
from service.db.segments import outbox, recover
from service.db.segments.assign import CHANNEL
from service.streams import redis_client
from service.streams.redis_client import Script

log = logging.getLogger(__name__)

_PAGE = 1000
_POLL_SECONDS = 1.0
_GATHER_SECONDS = 0.02
"""The pause between two pages. Numbering a change leaves a dead entry in the outbox's index, which
every later query steps over until no transaction can see it: many small pages cost far more than
few large ones."""
# Returns the stream's last number before anything was added. Adds nothing if that is less than
# `expected` (Redis lost entries) or more than `numbered` (somebody else writes to the stream).
_ADD = Script("""
local stream, field = KEYS[1], ARGV[1]
local expected, numbered = tonumber(ARGV[2]), tonumber(ARGV[3])
local first_change = 4  -- from here on, ARGV holds a number and a body in turn

local last = 0
local info = redis.pcall('XINFO', 'STREAM', stream)
if not info.err then
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = tonumber(string.match(info[i + 1], '^%d+')) end
  end
end
if last < expected or last > numbered then return last end
for i = first_change, #ARGV, 2 do
  local number, body = ARGV[i], ARGV[i + 1]
  if tonumber(number) > last then
    redis.call('XADD', stream, number .. '-0', field, body)
  end
end
return last
""")


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
                async with self._engine.connect() as pooled:
                    connection = await pooled.execution_options(isolation_level="AUTOCOMMIT")
                    if await outbox.lead(connection):
                        await self._lead(connection)
            except (DBAPIError, PoolTimeoutError, *redis_client.REDIS_ERRORS) as error:
                log.warning("the relay pauses: %s", type(error).__name__)
            await asyncio.sleep(_POLL_SECONDS * random.uniform(0.5, 1))

    async def _lead(self, connection: AsyncConnection) -> None:
        driver = (await connection.get_raw_connection()).driver_connection
        if driver is None:
            return
        await driver.add_listener(CHANNEL, self._notified)
        self.leading = True
        log.info("this worker relays now")
        try:
            position = (await outbox.state(connection)).published
            while True:
                self._news.clear()
                position, more = await self._publish(connection, position)
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

    async def _publish(self, connection: AsyncConnection, position: int) -> tuple[int, bool]:
        """Publish one page; return the stream's last number and whether there may be more."""
        began = tracing.now()
        changes = await outbox.next_changes(connection, position, _PAGE)
        numbered, _, trimmed = await outbox.state(connection)
        last = await self._add_to_stream(position, numbered, changes)
        if last < position:
            log.error(
                "%s ends at %d, but %d was there: publishing again what Redis lost",
                self._stream,
                last,
                position,
            )
            remaining, position = last, max(last, trimmed)
            await outbox.mark_published(connection, position)
            changes = await outbox.next_changes(connection, position, _PAGE)
            last = await self._add_to_stream(remaining, numbered, changes)
            if last != remaining:
                return position, True
        if last > numbered:
            log.error(
                "%s ends at %d, but only %d was ever numbered here: somebody else writes to it, "
                "or this database is older than Redis; continuing above",
                self._stream,
                last,
                numbered,
            )
            taken = await recover.restore_changes(self._engine, self._redis, self._stream)
            log.warning("took back changes that this database had forgotten: %d", taken)
            return (await outbox.state(connection)).published, True
        if not changes:
            return position, False
        await outbox.mark_published(connection, changes[-1].number)
        tracing.published([change.traceparent for change in changes], self._stream, began)
        log_published(changes)
        return changes[-1].number, True

    async def _add_to_stream(
        self, position: int, numbered: int, changes: Sequence[outbox.OutboxChange]
    ) -> int:
        # The field where FastStream looks; plain JSON there is read by any client, too.
        arguments: list[int | bytes] = [FASTSTREAM_FIELD, position, numbered]
        for change in changes:
            arguments += (change.number, change.body)
        return int(await _ADD(self._redis, self._stream, *arguments))
