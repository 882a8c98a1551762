"""What a web process holds: two pools and two caches, no state that a replica would miss."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from starlette.requests import Request

from service.config import Config
from service.db.statistics import MedianCache
from service.http.credentials import Access


@dataclass
class State:
    """Made at start, closed at stop."""

    config: Config
    engine: AsyncEngine
    redis: Redis
    medians: MedianCache
    access: Access


def state_of(request: Request) -> State:
    """Get at the process's state."""
    state: State = request.app.state.crm
    return state


@asynccontextmanager
async def snapshot(request: Request) -> AsyncIterator[AsyncConnection]:
    """Read in one snapshot, so that figures of several statements agree with each other."""
    async with state_of(request).engine.connect() as pooled:
        yield await pooled.execution_options(isolation_level="REPEATABLE READ")
