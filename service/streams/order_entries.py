"""Add entries to the streams of orders, for shops that call by HTTP."""

from typing import Any

from redis.asyncio import Redis

from service.core.envelope import CANONICAL_FIELD


async def add(redis: Redis, stream: str, document: bytes) -> None:
    """Add an event, and return once Redis has taken it.

    If an answer is lost, the client sends the command again, and the entry may be there twice. Then
    the second one is a duplicate, because it has the same event id.
    """
    raw: Any = redis
    await raw.xadd(stream, {CANONICAL_FIELD: document})
