"""An independent consumer of both out-streams, written from the contract with plain redis-py.

It reads in a consumer group, drops entries that it has seen (by `sequence`) and records holes. A
customer who is gone stays gone: it ignores later changes of them.
After any error it reads its own pending entries again before it goes on.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from redis.exceptions import RedisError, ResponseError

from consumers.tasks import end
from tests.system.chaos.servers import plain_client

STREAM = "customer-segment-changed"
REMOVALS = "customer-removed"
GROUP = "analytics"
_PAGE = 500


class Hole(NamedTuple):
    """Changes of a customer that were skipped."""

    customer: str
    after: int
    came: int


class Analytics:
    """The segments that a consumer derives from the out-streams."""

    def __init__(self, url: str) -> None:
        """Remember the URL of the Redis to read from."""
        self.segments: dict[str, str] = {}
        self.sequences: dict[str, int] = {}
        self.removed: set[str] = set()
        self.holes: list[Hole] = []
        self.seen = 0
        self.repeats = 0
        """Entries dropped because their sequence was known."""
        self.distrusted = 0
        """Entries that somebody else wrote."""
        self.restarts = 0
        """How often the group was gone, so that everything was read from the beginning."""
        self._url = url

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Read during the block."""
        task = asyncio.create_task(self._read())
        try:
            yield
            assert not task.done(), "the consumer of the out-stream has died"
        finally:
            await end([task])

    async def _read(self) -> None:
        client = plain_client(self._url)
        own = dict.fromkeys((STREAM, REMOVALS), "0")
        """By stream, after which of the entries to go on that were delivered, but may never have
        arrived. A stream is left out once there are no more of them."""
        while True:
            try:
                wanted = own or dict.fromkeys((STREAM, REMOVALS), ">")
                answer = await client.xreadgroup(GROUP, "one", wanted, count=_PAGE, block=500)
                read = {name.decode(): entries for name, entries in answer or ()}
                for stream, entries in read.items():
                    for _, fields in entries:
                        if fields:
                            self._take(fields, is_removal=stream == REMOVALS)
                    if entries:
                        await client.xack(stream, GROUP, *(id_ for id_, _ in entries))
                own = {stream: read[stream][-1][0].decode() for stream in own if read.get(stream)}
            except ResponseError as error:
                own = dict.fromkeys((STREAM, REMOVALS), "0")
                if "NOGROUP" in str(error):
                    await self._join(client)
                else:
                    await asyncio.sleep(0.2)
            except (RedisError, OSError):
                own = dict.fromkeys((STREAM, REMOVALS), "0")
                await asyncio.sleep(0.2)

    async def _join(self, client: Any) -> None:
        """Create the groups at the beginning of the streams, where they are missing."""
        for stream in (STREAM, REMOVALS):
            with contextlib.suppress(RedisError, OSError):
                await client.xgroup_create(stream, GROUP, id="0", mkstream=True)
                self.restarts += stream == STREAM

    def _take(self, fields: dict[bytes, bytes], *, is_removal: bool) -> None:
        """Take a change or a removal; skip an entry that has not the form of the contract."""
        try:
            document = json.loads(fields[b"__data__"])
            data = document["data"]
            customer = data["customerId"]
            sequence = 0 if is_removal else data["sequence"]
        except (KeyError, TypeError, ValueError):
            self.distrusted += 1
            return
        if document.get("id") != f"{customer}:{'removed' if is_removal else sequence}":
            self.distrusted += 1
            return
        if is_removal:
            self.removed.add(customer)
            return
        before = self.sequences.get(customer, 0)
        if sequence <= before:
            self.repeats += 1
            return
        if sequence > before + 1:
            self.holes.append(Hole(customer, before, sequence))
        self.seen += 1
        self.sequences[customer] = sequence
        self.segments[customer] = data["segment"]
