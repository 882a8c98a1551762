"""Read entries of a stream as some consumer does, without a worker."""

from redis.asyncio import Redis

from service.core.envelope import Entry
from service.core.partitions import OrdersStream
from service.streams import entries
from service.streams.entries import Limits, Member


async def deliver(
    redis: Redis, stream: str, group: str, consumer: str, *, count: int
) -> list[Entry]:
    """Read new entries, so that they are pending for the consumer."""
    member = Member(OrdersStream(stream, None), group, consumer)
    return (await entries.read(redis, member, Limits(count))).entries
