"""An independent consumer of the out-stream, written from the contract with plain redis-py.

It reads in a consumer group, drops entries that it has seen (by `sequence`) and records holes.
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
GROUP = "analytics"
_PAGE = 500


class Hole(NamedTuple):
    """Changes of a customer that were skipped."""

    customer: str
    after: int
    came: int


class Analytics:
    """The segments that a consumer derives from the out-stream."""

    def __init__(self, url: str) -> None:
        """Remember the URL of the Redis to read from."""
        self.segments: dict[str, str] = {}
        self.sequences: dict[str, int] = {}
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
        own: str | None = "0"  # entries that were delivered but may never have arrived
        while True:
            try:
                answer = await client.xreadgroup(
                    GROUP, "one", {STREAM: own or ">"}, count=_PAGE, block=500
                )
                entries = answer[0][1] if answer else []
                for id_, fields in entries:
                    if fields:
                        self._take(fields)
                    own = own and id_.decode()
                if entries:
                    await client.xack(STREAM, GROUP, *(id_ for id_, _ in entries))
                else:
                    own = None
            except ResponseError as error:
                own = "0"
                if "NOGROUP" in str(error):
                    await self._join(client)
                else:
                    await asyncio.sleep(0.2)
            except (RedisError, OSError):
                own = "0"
                await asyncio.sleep(0.2)

    async def _join(self, client: Any) -> None:
        """Create the group at the beginning of the stream."""
        with contextlib.suppress(RedisError, OSError):
            await client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
            self.restarts += 1

    def _take(self, fields: dict[bytes, bytes]) -> None:
        """Take a change; skip an entry that has not the form of the contract."""
        try:
            document = json.loads(fields[b"__data__"])
            data = document["data"]
            customer, sequence = data["customerId"], data["sequence"]
        except (KeyError, TypeError, ValueError):
            self.distrusted += 1
            return
        if document.get("id") != f"{customer}:{sequence}":
            self.distrusted += 1
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
