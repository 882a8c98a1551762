"""Take over entries that any worker has read and none has acknowledged.

A worker that was killed leaves such entries in the group's pending list; so do lost
acknowledgements and some clean stops. The reclaimer takes them over once they have been idle for
longer than any batch takes. FastStream reads new entries only
(https://github.com/ag2ai/faststream/issues/2197).

One entry may be what killed the worker, and the others are innocent. So entries that were delivered
a few times become suspects. A worker tries suspects one by one, and holds no other entry meanwhile.
It claims them under a consumer name of its own. If it dies, that name shows that the entry was
alone, and only such deliveries count when an entry is given up.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

from redis.asyncio import Redis

from consumers.applier import Applier, Inbox
from consumers.orders import judge_all
from service.config import Config
from service.core.envelope import ENTRY_BYTES
from service.core.order_event import Judged, Reason, Refusal
from service.core.partitions import OrdersStream
from service.streams import entries, groups, redis_client
from service.streams.entries import Limits, Member
from service.streams.groups import Pending
from service.streams.redis_client import Script

log = logging.getLogger(__name__)

_PAGE = 500
"""Pending ids to look at together."""
_MOST_TOGETHER = 3
"""An entry delivered this often is a suspect: from now on it is delivered alone."""
MOST_DELIVERIES = 10
"""An entry delivered this often becomes a dead letter: a worker died of it again and again."""
ALONE = "-alone"
"""The end of the names of consumers that try suspects."""

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
            # Suspects come first: if one kills this worker, few other entries are disturbed.
            for step in (self.try_suspects, self.reclaim, self._remove_dead_consumers):
                for stream in self._streams:
                    try:
                        await step(stream)
                    except redis_client.REDIS_ERRORS as error:
                        log.warning(
                            "could not look for entries pending in %s: %s", stream.name, error
                        )
            await asyncio.sleep(self._config.reclaim_idle_seconds / 4)

    async def reclaim(self, stream: OrdersStream) -> int:
        """Put entries that have been idle for too long into the inbox; return how many."""
        taken = 0
        async for page in self._idle(stream):
            deliveries = [
                (each.id, each.deliveries + 1) for each in page if each.deliveries < _MOST_TOGETHER
            ]
            while deliveries:
                found, tried = await self._claim_into_inbox(stream, deliveries)
                deliveries = deliveries[tried:]
                taken += found
        if taken:
            log.info("took over entries of %s that were never acknowledged: %d", stream.name, taken)
        return taken

    async def _claim_into_inbox(
        self, stream: OrdersStream, deliveries: Sequence[tuple[str, int]]
    ) -> tuple[int, int]:
        """Claim as many entries as there is room for; return how many came, and were tried."""
        taken = await self._take_room()
        kept = 0
        try:
            claimed = await self._claim(stream, self._consumer, deliveries, taken)
            kept = claimed.weight
        finally:
            self._inbox.room.give_back(taken - kept)
        await self._inbox.put(judge_all(claimed.entries, self._config), kept)
        return len(claimed.entries), claimed.tried

    async def try_suspects(self, stream: OrdersStream) -> None:
        """Apply the idle suspects of a stream one by one, while this worker holds nothing else."""
        async for page in self._idle(stream):
            suspects = [each for each in page if each.deliveries >= _MOST_TOGETHER]
            if not suspects:
                continue
            # A worker that waits for the database looks as if it had died of the entry it tries.
            if not await self._applier.reaches_database():
                return
            async with self._inbox.room.all_of_it():
                for suspect in suspects:
                    await self._try(stream, suspect)
            await self._remove(stream.name, self._consumer + ALONE)

    async def _try(self, stream: OrdersStream, suspect: Pending) -> None:
        before = suspect.deliveries
        if not suspect.consumer.endswith(ALONE):
            before = _MOST_TOGETHER  # it was in company, and the others may have been to blame
        deliveries = before + 1
        claimed = await self._claim(
            stream, self._consumer + ALONE, [(suspect.id, deliveries)], self._config.page_bytes
        )
        if not claimed.entries:
            return  # it was acknowledged meanwhile, or another worker tries it
        if deliveries > MOST_DELIVERIES:
            message = f"delivered {deliveries} times and never finished; see the workers' logs"
            refusal = Refusal(Reason.TOO_MANY_DELIVERIES, message)
            await self._applier.apply([Judged(claimed.entries[0], refusal)])
        else:
            await self._applier.apply(judge_all(claimed.entries, self._config))

    async def _idle(self, stream: OrdersStream) -> AsyncIterator[list[Pending]]:
        """Yield the entries that nobody has worked on for too long, page by page."""
        idle, after = self._idle_ms, None
        # While the database is away nothing can be applied, so nothing is taken over either.
        while self._applier.waiting_since is None:
            page = await groups.pending(
                self._redis, stream.name, self._group, after=after, idle_ms=idle, count=_PAGE
            )
            busy = self._applier.being_applied
            yield [each for each in page if (stream.partition, each.id) not in busy]
            if len(page) < _PAGE:
                return
            after = page[-1].id

    @property
    def _idle_ms(self) -> int:
        return int(self._config.reclaim_idle_seconds * 1000)

    async def _claim(
        self,
        stream: OrdersStream,
        consumer: str,
        deliveries: Sequence[tuple[str, int]],
        most_bytes: int,
    ) -> entries.Claimed:
        return await entries.claim(
            self._redis,
            Member(stream, self._group, consumer),
            self._idle_ms,
            deliveries,
            self._limits(most_bytes),
        )

    def _limits(self, most_bytes: int) -> Limits:
        config = self._config
        return Limits(config.batch_size, most_bytes, config.max_event_bytes)

    async def _take_room(self) -> int:
        least = self._config.max_event_bytes + ENTRY_BYTES
        return await self._inbox.room.take(least, max(least, self._config.page_bytes))

    async def reclaim_own(self) -> None:
        """Put the entries that this worker has read and not acknowledged into the inbox.

        A stopping worker needs this: FastStream may drop a batch between reading and handling it.
        """
        for stream in self._streams:
            for consumer in (self._consumer, self._consumer + ALONE):
                after = "0"
                while (page := await self._read_own(stream, consumer, after)).entries:
                    after = page.entries[-1].id
                    await self._inbox.put(judge_all(page.entries, self._config), page.weight)

    async def _read_own(self, stream: OrdersStream, consumer: str, after: str) -> entries.Page:
        taken = await self._take_room()
        kept = 0
        try:
            member = Member(stream, self._group, consumer)
            page = await entries.read(self._redis, member, self._limits(taken), after=after)
            kept = page.weight
        finally:
            self._inbox.room.give_back(taken - kept)
        return page

    async def remove_consumer(self, name: str) -> bool:
        """Remove a worker from the group of each stream, unless it has pending entries there."""
        return all(
            [
                await self._remove(stream.name, consumer)
                for stream in self._streams
                for consumer in (name, name + ALONE)
            ]
        )

    async def _remove(self, stream: str, consumer: str | bytes) -> bool:
        return bool(await _REMOVE_IF_EMPTY(self._redis, stream, self._group, consumer))

    async def _remove_dead_consumers(self, stream: OrdersStream) -> None:
        for member in await groups.consumers(self._redis, stream.name, self._group):
            long_gone = member.idle_seconds > 4 * self._config.reclaim_idle_seconds
            if (
                long_gone
                and member.name != self._consumer
                and await self._remove(stream.name, member.raw_name)
            ):
                log.info("removed consumer %s from %s, idle and empty", member.name, stream.name)
