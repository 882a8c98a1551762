"""Take over entries that any worker has read and none has acknowledged.

A worker that was killed leaves such entries in the group's pending list; so do lost
acknowledgements and some clean stops. The reclaimer takes them over once they have been idle for
longer than any batch takes. FastStream reads new entries only
(https://github.com/ag2ai/faststream/issues/2197).
"""

import asyncio
import logging
from collections.abc import Sequence

from redis.asyncio import Redis

from consumers.applier import Applier, Inbox
from consumers.orders import judge_all
from service.config import Config
from service.core.envelope import Entry
from service.core.order_event import Judged, Reason, Refusal
from service.core.partitions import OrdersStream
from service.streams import groups, redis_client
from service.streams.redis_client import Script

log = logging.getLogger(__name__)

_PAGE = 500
_SUSPECT_DELIVERIES = 3
"""An entry delivered more often is applied alone, so that it cannot harm its neighbours."""
MOST_DELIVERIES = 10
"""An entry delivered more often becomes a dead letter: every worker that tried it has died."""

# Deleting a consumer drops its pending entries. Between a check and a deletion in two commands, the
# consumer could be given entries; a script is one step.
_REMOVE_IF_EMPTY = Script("""
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
if #redis.call('XPENDING', stream, group, '-', '+', 1, consumer) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer)
  return 1
end
return 0
""")


class Reclaimer:
    """Searches the group's pending list again and again for entries to take over."""

    def __init__(
        self, config: Config, redis: Redis, consumer: str, inbox: Inbox, applier: Applier
    ) -> None:
        """Create the reclaimer. Nothing runs until `run` is called."""
        self._config = config
        self._redis = redis
        self._consumer = consumer
        self._inbox = inbox
        self._applier = applier
        self._streams = config.orders_streams
        self._group = config.orders_group

    async def run(self) -> None:
        """Reclaim now, and then every quarter of the idle limit."""
        while True:
            for stream in self._streams:
                try:
                    await self.reclaim(stream)
                    await self._remove_dead_consumers(stream.name)
                except redis_client.REDIS_ERRORS as error:
                    log.warning("could not look for entries pending in %s: %s", stream.name, error)
            await asyncio.sleep(self._config.reclaim_idle_seconds / 4)

    async def reclaim(self, stream: OrdersStream) -> int:
        """Put entries that have been idle for too long into the inbox; return how many."""
        name, partition = stream
        idle = int(self._config.reclaim_idle_seconds * 1000)
        after: str | None = None
        taken = 0
        # While the database is away nothing can be applied, so nothing is taken over either.
        while self._applier.waiting_since is None:
            pending = await groups.pending(
                self._redis, name, self._group, after=after, idle_ms=idle, count=_PAGE
            )
            busy = self._applier.being_applied
            deliveries = {id_: times for id_, times in pending if (partition, id_) not in busy}
            if deliveries:
                entries = await groups.claim(
                    self._redis, name, self._group, self._consumer, idle, list(deliveries)
                )
                taken += len(entries)
                await self._put_into_inbox(
                    [
                        (entry._replace(partition=partition), deliveries[entry.id] + 1)
                        for entry in entries
                    ]
                )
            if len(pending) < _PAGE:
                break
            after = pending[-1].id
        if taken:
            log.info("took over entries of %s that were never acknowledged: %d", name, taken)
        return taken

    async def _put_into_inbox(self, entries: Sequence[tuple[Entry, int]]) -> None:
        """Put entries into the inbox; an entry that may have killed a worker goes in alone."""
        harmless = [entry for entry, deliveries in entries if deliveries <= _SUSPECT_DELIVERIES]
        if harmless:
            await self._inbox.put(judge_all(harmless, self._config))
        for entry, deliveries in entries:
            if deliveries > MOST_DELIVERIES:
                message = f"delivered {deliveries} times and never finished; see the workers' logs"
                refusal = Refusal(Reason.TOO_MANY_DELIVERIES, message)
                await self._inbox.put([Judged(entry, refusal)])
            elif deliveries > _SUSPECT_DELIVERIES:
                await self._inbox.put(judge_all([entry], self._config))

    async def reclaim_own(self) -> None:
        """Put the entries that this consumer has read and not acknowledged into the inbox.

        A stopping worker needs this: FastStream may drop a batch between reading and handling it.
        """
        for name, partition in self._streams:
            after = "0"
            while entries := await groups.own_pending(
                self._redis, name, self._group, self._consumer, after=after, count=_PAGE
            ):
                after = entries[-1].id
                placed = [entry._replace(partition=partition) for entry in entries]
                await self._inbox.put(judge_all(placed, self._config))

    async def remove_consumer(self, name: str) -> bool:
        """Remove a consumer from the group of each stream, unless it has pending entries there."""
        return all([await self._remove(stream.name, name) for stream in self._streams])

    async def _remove(self, stream: str, consumer: str) -> bool:
        return bool(await _REMOVE_IF_EMPTY(self._redis, stream, self._group, consumer))

    async def _remove_dead_consumers(self, stream: str) -> None:
        for member in await groups.consumers(self._redis, stream, self._group):
            long_gone = member.idle_seconds > 4 * self._config.reclaim_idle_seconds
            if (
                long_gone
                and member.name != self._consumer
                and await self._remove(stream, member.name)
            ):
                log.info("removed consumer %s from %s, idle and empty", member.name, stream)
