"""A shop that publishes on partitions, and a wait for all of them to be read."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from redis.exceptions import RedisClusterException, RedisError

from service.core.partitions import partition_key, partition_of
from service.streams import groups, redis_client
from tests.conftest import Service
from tests.events import cloud_event
from tests.integration.worker.scene import totals
from tests.model import Document
from tests.system.cluster.nodes import disconnect
from tests.wait import until

PUBLISHERS = 3
_CUSTOMERS = 60
_PAUSE = 0.005
_AGAIN = 0.1
WRONG_PARTITION = 0.2
"""Share of events published on a random stream, as a faulty publisher does."""


class Sent(NamedTuple):
    """An event that Redis has accepted."""

    at: float
    stream: str
    document: Document


class Shop:
    """Publishes events of a few customers' orders: several per order, some in wrong partitions."""

    def __init__(self, service: Service, seed: int = 1) -> None:
        self._service = service
        self._rng = random.Random(seed)
        self._orders = 0
        self._versions: dict[str, int] = {}
        self.sent: list[Sent] = []
        self.refusals = 0
        """How often Redis did not accept an event at once."""

    def next(self) -> Document:
        """Make up an event of a new or a known order."""
        rng = self._rng
        if not self._versions or rng.random() < 0.5:
            self._orders += 1
            order = f"ORD-{self._orders}"
        else:
            order = rng.choice(list(self._versions))
        version = self._versions[order] = self._versions.get(order, 0) + 1
        customer = int(order.removeprefix("ORD-")) % _CUSTOMERS
        return cloud_event(
            order,
            event_id=f"{order}/{version}",
            version=version,
            email=f"c{customer}@example.org",
            total=f"{rng.randint(100, 9999) / 100:.2f}",
            status=rng.choice(["pending", "completed", "completed", "cancelled"]),
            created=datetime(2026, 11, 1, tzinfo=UTC),
            updated=datetime.now(UTC),
        )

    def stream_of(self, document: Document) -> str:
        """Choose the stream of an event, now and then a wrong one."""
        streams = self._service.config.orders_streams
        if self._rng.random() < WRONG_PARTITION:
            return self._rng.choice(streams).name
        key = partition_key(document["data"])
        return streams[1 + partition_of(key, len(streams) - 1)].name

    async def send(self, documents: Iterable[Document], redis: Any = None) -> None:
        """Publish events; try each again until Redis has accepted it."""
        for document in documents:
            await self._send(redis or self._service.redis, self.stream_of(document), document)

    async def put(self, stream: str, document: Document) -> None:
        """Publish an event on this stream, whatever its partition is."""
        await self._send(self._service.redis, stream, document)

    async def _send(self, redis: Any, stream: str, document: Document) -> None:
        while True:
            try:
                await redis.xadd(stream, {"data": json.dumps(document)})
            except (RedisError, RedisClusterException, OSError):
                self.refusals += 1
                await asyncio.sleep(_AGAIN)
            else:
                self.sent.append(Sent(time.monotonic(), stream, document))
                return

    async def send_again(self, since: float) -> int:
        """Publish again what Redis has accepted since a moment; return how many events."""
        again = [sent for sent in self.sent if sent.at >= since]
        for sent in again:
            await self._send(self._service.redis, sent.stream, sent.document)
        return len(again)

    @contextlib.asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        """Publish over several clients until the block ends."""
        stopping = asyncio.Event()
        config = self._service.config

        async def publish() -> None:
            # With the service's own retries, a client may bridge a failover on a slow machine. Then
            # no refusal would show that it met a dead master.
            redis = redis_client.configured(config, retries=1)
            try:
                while not stopping.is_set():
                    await self.send([self.next()], redis)
                    await asyncio.sleep(_PAUSE)
            finally:
                await disconnect(redis)

        async with asyncio.TaskGroup() as group:
            for _ in range(PUBLISHERS):
                group.create_task(publish())
            try:
                yield
            finally:
                stopping.set()

    async def more(self, events: int) -> None:
        """Wait until Redis has accepted that many more events."""
        expected = len(self.sent) + events

        async def accepted() -> bool:
            return len(self.sent) >= expected

        await until(accepted, 120)


async def all_read(service: Service, seconds: float = 120.0) -> None:
    """Wait until no stream has unread or pending entries, and what was read is counted."""

    async def done() -> bool:
        try:
            each = await groups.backlogs(
                service.redis, service.config.orders_streams, service.config.orders_group
            )
        except redis_client.REDIS_ERRORS:
            return False
        behind = groups.add_up(each)
        return behind.lag == 0 and behind.pending == 0 and (await totals(service)).read > 0

    await until(done, seconds, every=0.1)
