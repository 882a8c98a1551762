"""What a web process holds: its pools and two caches, no state that a replica would miss."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from prometheus_client import Histogram
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from starlette.requests import Request

from service.config import Config
from service.db.statistics.key_figures import MedianCache
from service.http.auth.credentials import Access
from service.http.replica import Replica
from service.metrics import measured_requests


@dataclass
class WebState:
    """Made at start, closed at stop."""

    config: Config
    engine: AsyncEngine
    redis: Redis
    medians: MedianCache
    access: Access
    replica: Replica
    requests: Histogram = field(default_factory=measured_requests)
    """How long each took. The request log observes it, ``/metrics`` shows it."""


def state_of(request: Request) -> WebState:
    """Get at the process's state."""
    state: WebState = request.app.state.crm
    return state


@asynccontextmanager
async def snapshot(request: Request) -> AsyncIterator[AsyncConnection]:
    """Read in one snapshot, so that figures of several statements agree with each other."""
    async with state_of(request).engine.connect() as pooled:
        yield await pooled.execution_options(isolation_level="REPEATABLE READ")


@asynccontextmanager
async def aged_snapshot(request: Request) -> AsyncIterator[AsyncConnection]:
    """Read lists and figures in one snapshot, of the read replica if there is one that answers.

    Not for what somebody may just have saved: one customer, settings, who may do what.
    """
    async with AsyncExitStack() as stack:
        aged = await state_of(request).replica.snapshot(stack)
        if aged is None:
            yield await stack.enter_async_context(snapshot(request))
        else:
            request.state.replica_lag = aged.lag
            yield aged.connection


async def aged_engine(request: Request) -> AsyncEngine:
    """Give the pool that `aged_snapshot` would read from."""
    state = state_of(request)
    async with AsyncExitStack() as stack:
        aged = await state.replica.snapshot(stack)
    if aged is None or state.replica.engine is None:
        return state.engine
    request.state.replica_lag = aged.lag
    return state.replica.engine
