"""Order management: several publishers that try until an entry is in, and forget nothing."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

from redis.exceptions import OutOfMemoryError, RedisError

from consumers.tasks import end
from tests.system.chaos.servers import plain_client
from tests.system.chaos.shop import HOT, PROBES, Ledger, Ref, Shop, bad

PUBLISHERS = 3
STREAM = "orders"
_WINDOW = 30
_PAGE = 500
_HEAT = 5
_AGAIN_SECONDS = 0.2
Fields = dict[bytes, bytes]


class Publishers:
    """Publish a shop's events: shuffled, some twice, some late, some bad, over several clients."""

    def __init__(self, shop: Shop, url: str, per_second: float) -> None:
        """Declare them; nothing is published before `publishing`."""
        self.shop = shop
        self.ledger = Ledger()
        self.refused = 0
        """Entries that Redis refused for want of memory; each was sent again until accepted."""
        self._rng = random.Random(shop.seed)
        self._url = url
        self._pause = PUBLISHERS / per_second
        self._next = self._dealt()
        self._late: list[Ref] = []
        self._stopping = False
        self._probes = 0
        self._client = plain_client(url)

    @contextlib.asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        """Publish during the block; afterwards the late ones, too, are in."""
        tasks = [asyncio.create_task(self._publish()) for _ in range(PUBLISHERS)]
        try:
            yield
            self._stopping = True
            await asyncio.gather(*tasks)
        finally:
            await end(tasks)
        await self.send(self._late)
        self._late.clear()

    async def close(self) -> None:
        await self._client.aclose()

    def _dealt(self) -> Iterator[Ref]:
        """Deal the events of some families at a time, shuffled."""
        first = 0
        while True:
            window = [
                Ref(number, place)
                for number in range(first, first + _WINDOW)
                for place in range(len(self.shop.family(number)))
            ]
            self._rng.shuffle(window)
            yield from window
            first += _WINDOW

    async def _publish(self) -> None:
        client = plain_client(self._url)
        try:
            while not self._stopping:
                await self._publish_next(client)
                await asyncio.sleep(self._pause * self._rng.uniform(0.5, 1.5))
        finally:
            await client.aclose()

    async def _publish_next(self, client: Any) -> None:
        kind = self._rng.random()
        if kind < 0.02:
            number = len(self.ledger.bad)
            self.ledger.bad.add(number)
            await self._add(client, [bad(number)])
        elif kind < 0.05 and self.ledger.sent:
            self.ledger.repeated += 1
            await self._add(client, [self._fields(self._rng.choice(self.ledger.sent))])
        elif kind < 0.07:
            self.ledger.late += 1
            self._late.append(next(self._next))
        elif kind < 0.09 and self._late:
            await self._send(client, [self._late.pop(0)])
        else:
            await self._send(client, [next(self._next)])

    def _fields(self, ref: Ref) -> Fields:
        return {b"data": json.dumps(self.shop.document(ref)).encode()}

    async def _send(self, client: Any, refs: Sequence[Ref]) -> None:
        for ref in refs:
            self.ledger.note(ref)
        await self._add(client, [self._fields(ref) for ref in refs])
        self.ledger.recent.update(dict.fromkeys(refs, True))

    async def _add(self, client: Any, entries: Sequence[Fields]) -> None:
        """XADD until it is in: at least once, like any publisher that keeps what it sends."""
        while True:
            pipeline = client.pipeline(transaction=False)
            for fields in entries:
                pipeline.xadd(STREAM, fields)
            try:
                await pipeline.execute()
            except OutOfMemoryError:
                self.refused += 1
            except (RedisError, OSError):
                pass
            else:
                self.ledger.entries += len(entries)
                return
            await asyncio.sleep(_AGAIN_SECONDS)

    async def send(self, refs: Iterable[Ref]) -> None:
        """Publish these now, a page at a time."""
        page: list[Ref] = []
        for ref in refs:
            page.append(ref)
            if len(page) == _PAGE:
                await self._send(self._client, page)
                page = []
        if page:
            await self._send(self._client, page)

    async def republish(self) -> None:
        """Publish again what may not have been applied when Redis lost it."""
        again = list(self.ledger.recent)
        self.ledger.repeated += len(again)
        for first in range(0, len(again), _PAGE):
            page = [self._fields(ref) for ref in again[first : first + _PAGE]]
            await self._add(self._client, page)
        for number in tuple(self.ledger.bad):
            await self._add(self._client, [bad(number)])

    async def heat(self, customers: int) -> None:
        """Publish some events of each of so many customers, for batches to fight over."""
        refs = [
            Ref(number, place) for number in range(HOT, HOT + customers) for place in range(_HEAT)
        ]
        self._rng.shuffle(refs)
        await self.send(refs)

    async def probe(self) -> str:
        """Publish the only order of a new customer; give their e-mail."""
        ref = Ref(PROBES + self._probes, 0)
        self._probes += 1
        await self.send([ref])
        return f"probe{ref.family}@x.org"

    async def backlog(self, entries: int) -> None:
        """Publish so many of the next events as fast as can be."""
        await self.send(next(self._next) for _ in range(entries))

    def applied(self, refs: Iterable[Ref]) -> None:
        """Hear that these events have taken effect: no loss in Redis matters to them now."""
        for ref in refs:
            self.ledger.recent.pop(ref, None)
