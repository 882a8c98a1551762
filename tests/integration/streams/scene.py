"""A group that reads, applies and acknowledges when the test says so, and checks for losses."""

from typing import Any

from service.core.envelope import Entry
from service.core.stream_ids import parse
from service.db.operations import losses
from service.db.operations.losses import CheckResult, RecordedLoss
from service.streams import groups
from tests.conftest import Service
from tests.events import fields
from tests.reading import deliver
from tests.wait import until

CONSUMER = "reader"


class Scene:
    """The orders stream between a publisher and one reader."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.stream = service.config.orders_stream
        self.group = service.config.orders_group
        self.redis: Any = service.redis
        self._published = 0

    async def begin(self) -> None:
        await groups.ensure_group(self.service.redis, self.stream, self.group)
        await self.check()

    async def publish(self, count: int = 1) -> list[str]:
        ids = []
        for _ in range(count):
            self._published += 1
            order = fields(f"ORD-{self._published}", email=f"c{self._published % 7}@x.org")
            ids.append(await self.service.publish(order))
        return ids

    async def read(self, count: int) -> list[Entry]:
        """Read entries, so that they are pending."""
        return await deliver(self.service.redis, self.stream, self.group, CONSUMER, count=count)

    async def acknowledge(self, entries: list[Entry]) -> None:
        if entries:
            await self.redis.xack(self.stream, self.group, *(entry.id for entry in entries))

    async def consume(self, count: int) -> list[Entry]:
        """Read, apply and acknowledge entries."""
        entries = await self.read(count)
        if entries:
            await self.service.ingest(*entries)
        await self.acknowledge(entries)
        return entries

    async def trim(self, left: int) -> None:
        """Trim like a publisher that does not know which entries were read."""
        await self.redis.xtrim(self.stream, maxlen=left, approximate=False)

    async def check(self) -> CheckResult:
        async with self.service.engine.begin() as connection:
            results = await losses.check_and_record(
                connection,
                self.service.redis,
                self.service.config.orders_streams,
                self.group,
            )
        return results[self.stream]

    async def losses(self) -> list[RecordedLoss]:
        async with self.service.engine.connect() as connection:
            return list(await losses.recorded_losses(connection))


def covers(loss: RecordedLoss, *ids: str) -> bool:
    """Return whether the range of a loss contains these ids."""
    return all(parse(loss.after_id) < parse(id_) <= parse(loss.until_id) for id_ in ids)


async def all_checked(service: Service) -> None:
    """Wait until a check has found everything applied."""

    async def checked() -> bool:
        raw: Any = service.redis
        if not await raw.exists(service.config.orders_stream):
            return False
        info = await raw.xinfo_stream(service.config.orders_stream)
        acknowledged = await service.rows("SELECT added FROM sightings WHERE settled_id = last_id")
        return acknowledged == [{"added": info["entries-added"]}]

    await until(checked)
