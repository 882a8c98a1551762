"""Order management: publishers that repeat an entry until Redis has it, and keep all events."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

from redis.exceptions import OutOfMemoryError, RedisError

from consumers.tasks import end
from service.core.envelope import KEPT_BYTES
from tests.system.chaos.servers import plain_client
from tests.system.chaos.shop import HOT, PROBES, Ledger, Ref, Shop, bad

PUBLISHERS = 3
STREAM = "orders"
_WINDOW = 30
_PAGE = 500
_HEAT = 5
_LARGE_PAGE = 10
_AGAIN_SECONDS = 0.2
Fields = dict[bytes, bytes]


class Publishers:
    """Publish a shop's events over several clients: shuffled, some twice, some late, some bad."""

    def __init__(self, shop: Shop, url: str, per_second: float) -> None:
        """Create the publishers. Nothing is published until `publishing` is entered."""
        self.shop = shop
        self.ledger = Ledger()
        self.refused = 0
        """Entries that Redis refused for lack of memory; each was sent again until accepted."""
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
        """Publish during the block; at its end all late events are published, too."""
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
        """Yield events, shuffled among a few families at a time."""
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

    def _fields(self, ref: Ref, padding: int = 0) -> Fields:
        document = self.shop.document(ref)
        if padding:
            document = {**document, "data": {**document["data"], "gift": "x" * padding}}
        return {b"data": json.dumps(document).encode()}

    async def _send(self, client: Any, refs: Sequence[Ref], padding: int = 0) -> list[bytes]:
        for ref in refs:
            self.ledger.note(ref)
        ids = await self._add(client, [self._fields(ref, padding) for ref in refs])
        self.ledger.recent.update(dict.fromkeys(refs, True))
        return ids

    async def _add(self, client: Any, entries: Sequence[Fields]) -> list[bytes]:
        """XADD until Redis confirms: at least once, like any publisher that keeps its events.

        Return the ids of the entries that were confirmed.
        """
        while True:
            pipeline = client.pipeline(transaction=False)
            for fields in entries:
                pipeline.xadd(STREAM, fields)
            try:
                ids: list[bytes] = await pipeline.execute()
            except OutOfMemoryError:
                self.refused += 1
            except (RedisError, OSError):
                pass
            else:
                self.ledger.entries += len(entries)
                return ids
            await asyncio.sleep(_AGAIN_SECONDS)

    async def send(self, refs: Iterable[Ref]) -> None:
        """Publish these events now, page by page."""
        page: list[Ref] = []
        for ref in refs:
            page.append(ref)
            if len(page) == _PAGE:
                await self._send(self._client, page)
                page = []
        if page:
            await self._send(self._client, page)

    async def republish(self) -> None:
        """Publish again all events that may not have been applied when Redis lost them."""
        again = list(self.ledger.recent)
        self.ledger.repeated += len(again)
        for first in range(0, len(again), _PAGE):
            page = [self._fields(ref) for ref in again[first : first + _PAGE]]
            await self._add(self._client, page)
        for number in tuple(self.ledger.bad):
            await self._add(self._client, [bad(number)])

    async def heat(self, customers: int) -> None:
        """Publish a few events each of many customers, so that batches compete for their rows."""
        refs = [
            Ref(number, place) for number in range(HOT, HOT + customers) for place in range(_HEAT)
        ]
        self._rng.shuffle(refs)
        await self.send(refs)

    async def probe(self) -> str:
        """Publish the only order of a new customer; return the customer's e-mail."""
        ref = Ref(PROBES + self._probes, 0)
        self._probes += 1
        await self.send([ref])
        return f"probe{ref.family}@x.org"

    async def backlog(self, entries: int) -> None:
        """Publish a number of the next events as fast as possible."""
        await self.send(next(self._next) for _ in range(entries))

    async def large(self, client: Any, entries: int, padding: int) -> list[bytes]:
        """Publish a number of the next events, so many bytes larger; return the entries' ids."""
        ids: list[bytes] = []
        for _ in range(entries // _LARGE_PAGE):
            refs = [next(self._next) for _ in range(_LARGE_PAGE)]
            ids += await self._send(client, refs, padding)
        return ids

    async def oversize(self, client: Any, size: int) -> bytes:
        """Publish an entry that is too large to be read; return its id."""
        number = len(self.ledger.oversize)
        entry = {b"data": b"%d " % number + b"x" * size}
        self.ledger.oversize.add(entry[b"data"][: KEPT_BYTES - len(b"data")])
        (id_,) = await self._add(client, [entry])
        return id_

    def applied(self, refs: Iterable[Ref]) -> None:
        """Record that these events have taken effect, so that a loss in Redis no longer matters."""
        for ref in refs:
            self.ledger.recent.pop(ref, None)
