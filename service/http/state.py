"""The state of a web process: connections and caches. Nothing here has to outlive the process."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from prometheus_client import Histogram
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.types import Scope

from service.config import Config
from service.db.statistics.key_figures import MedianCache
from service.http.activity_feed import Feed
from service.http.budgets import Budgets
from service.http.credential_cache import CredentialCache
from service.http.hook_registry import HookRegistry
from service.http.import_runner import ImportRunner
from service.http.problems import ProblemPage
from service.http.rate_limits import Buckets
from service.http.replica import Replica
from service.http.seal import InstallationSeal
from service.http.sign_in_limits import SignInLimits
from service.metrics import measured_requests

_REPLICA_LAG = "crm.replica_lag"


@dataclass(kw_only=True)
class WebState:
    """What the requests of one process share, from its start to its stop."""

    config: Config
    engine: AsyncEngine
    replica: Replica
    redis: Redis
    medians: MedianCache
    feed: Feed
    problem_page: ProblemPage
    credentials: CredentialCache
    seal: InstallationSeal
    hooks: HookRegistry
    imports: ImportRunner
    request_rate: Buckets
    """Limits how often each caller may send requests."""
    wrong_keys: Buckets
    """Limits how often each address may send a wrong API key."""
    sign_ins: SignInLimits
    budgets: Budgets = field(default_factory=Budgets)
    """Limits how much slow work each caller may have under way."""
    requests: Histogram = field(default_factory=measured_requests)
    """How long requests took. The request log measures it, ``/metrics`` shows it."""


def put_state(app: Starlette, state: WebState) -> None:
    """Store the state in the application, where `web_state` and `state_of` find it."""
    app.state.web = state


def web_state(app: Starlette) -> WebState:
    """Return the state of an application that has started."""
    state: WebState = app.state.web
    return state


def state_of(request: HTTPConnection) -> WebState:
    """Return the state of the process that answers the request."""
    return web_state(request.app)


def replica_lag(scope: Scope) -> float | None:
    """Return how many seconds the replica was behind, or None if this request did not use it."""
    lag: float | None = scope.get(_REPLICA_LAG)
    return lag


@asynccontextmanager
async def snapshot(request: HTTPConnection) -> AsyncIterator[AsyncConnection]:
    """Read in one snapshot, so that figures of several statements agree with each other."""
    async with state_of(request).engine.connect() as pooled:
        yield await pooled.execution_options(isolation_level="REPEATABLE READ")


@asynccontextmanager
async def replica_snapshot(request: HTTPConnection) -> AsyncIterator[AsyncConnection]:
    """Read in one snapshot of the read replica, or of the primary if no replica can be used.

    For lists and figures, which may be a little behind. Use `snapshot` for what somebody may just
    have saved: a customer, the settings, permissions.
    """
    async with AsyncExitStack() as stack:
        replica = await state_of(request).replica.snapshot(stack)
        if replica is None:
            yield await stack.enter_async_context(snapshot(request))
        else:
            request.scope[_REPLICA_LAG] = replica.lag
            yield replica.connection


async def replica_engine(request: HTTPConnection) -> AsyncEngine:
    """Return the pool that `replica_snapshot` would read from."""
    state = state_of(request)
    async with AsyncExitStack() as stack:
        replica = await state.replica.snapshot(stack)
    if replica is None or state.replica.engine is None:
        return state.engine
    request.scope[_REPLICA_LAG] = replica.lag
    return state.replica.engine
