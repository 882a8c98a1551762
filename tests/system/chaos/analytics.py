"""An independent consumer of the out-stream: what the contract tells, over plain redis-py.

It reads in a consumer group, drops what it has seen by `sequence`, notices holes, and after any
error reads its own pending entries again before it goes on.
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
    """A customer's change that was skipped."""

    customer: str
    after: int
    came: int


class Analytics:
    """Where the out-stream leads."""

    def __init__(self, url: str) -> None:
        """Take the Redis to read from."""
        self.segments: dict[str, str] = {}
        self.sequences: dict[str, int] = {}
        self.holes: list[Hole] = []
        self.seen = 0
        self.repeats = 0
        """Entries dropped by their sequence."""
        self.restarts = 0
        """Times that the group was gone, and everything was read from the beginning."""
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
        own: str | None = "0"  # what was delivered and perhaps never came
        while True:
            try:
                answer = await client.xreadgroup(
                    GROUP, "one", {STREAM: own or ">"}, count=_PAGE, block=500
                )
                entries = answer[0][1] if answer else []
                for id_, fields in entries:
                    if fields:
                        self._take(json.loads(fields[b"__data__"]))
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
        """Begin at the stream's beginning, wherever Redis says that is now."""
        with contextlib.suppress(RedisError, OSError):
            await client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
            self.restarts += 1

    def _take(self, document: dict[str, Any]) -> None:
        data = document["data"]
        customer, sequence = data["customerId"], data["sequence"]
        before = self.sequences.get(customer, 0)
        if sequence <= before:
            self.repeats += 1
            return
        if sequence > before + 1:
            self.holes.append(Hole(customer, before, sequence))
        self.seen += 1
        self.sequences[customer] = sequence
        self.segments[customer] = data["segment"]
