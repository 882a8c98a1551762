"""The web application."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache
from importlib.metadata import version

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute

from service import tracing
from service.config import Config
from service.db.engine import IDLE_SECONDS, create_engine
from service.db.statistics.key_figures import MedianCache
from service.http import dashboard, docs, health, openapi
from service.http.activity_feed import Feed
from service.http.api import (
    activity,
    bulk_changes,
    csv_export,
    customer_details,
    customer_erasure,
    customer_interactions,
    customer_outlook,
    customer_routes,
    customer_search,
    dead_letter_removal,
    dead_letter_replay,
    dead_letters,
    duplicates,
    endpoints,
    hooks,
    identifiers,
    identity,
    imports,
    insight,
    order_conflicts,
    own_fields,
    rule_changes,
    rule_settings,
    statistics,
    tags,
    unattributed,
    views,
    work_lists,
)
from service.http.auth.guard import Guard
from service.http.auth.local_mode import warn_at_start
from service.http.credential_cache import CredentialCache
from service.http.dashboard.render import compile_first_pages, problem_page
from service.http.hook_registry import HookRegistry
from service.http.hooks import route as hooks_route
from service.http.import_runner import ImportRunner
from service.http.middleware import error_answers
from service.http.middleware.input_limits import BodyLimit, HeadLimit
from service.http.middleware.page_heads import PageHeads
from service.http.middleware.request_log import RequestLog
from service.http.middleware.request_spans import RequestSpans
from service.http.middleware.time_limits import Deadline, ReadingPace
from service.http.rate_limits import Buckets, Clock
from service.http.replica import Replica
from service.http.seal import InstallationSeal
from service.http.sign_in_limits import SignInLimits
from service.http.state import WebState, put_state
from service.streams import redis_client

WRONG_KEYS_PER_SECOND, WRONG_KEYS_AT_ONCE = 0.2, 20.0
"""The rate and the burst of `WebState.wrong_keys`."""

# FastAPI tries routes in this order: export and duplicates before /customers/{id}, which would take
# their paths.
_ROUTERS = (
    docs.router,
    health.router,
    statistics.router,
    csv_export.router,
    duplicates.router,
    customer_search.router,
    customer_routes.router,
    customer_erasure.router,
    customer_details.router,
    customer_interactions.router,
    customer_outlook.router,
    identity.router,
    identifiers.router,
    insight.router,
    tags.router,
    own_fields.router,
    views.router,
    bulk_changes.router,
    work_lists.router,
    order_conflicts.router,
    unattributed.router,
    rule_settings.router,
    rule_changes.router,
    dead_letters.router,
    dead_letter_replay.router,
    dead_letter_removal.router,
    endpoints.router,
    imports.router,
    activity.router,
    hooks.router,
    hooks_route.router,
)


def create_app(
    config: Config,
    clock: Clock = time.monotonic,
    stopping: Callable[[], bool] = lambda: False,
) -> FastAPI:
    """Build the application. It connects to the servers when its lifespan begins.

    Live streams end as soon as ``stopping`` returns true.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _connected(config, clock, stopping) as state:
            put_state(app, state)
            await warn_at_start(state.credentials)
            yield
            await state.credentials.close()
            await state.hooks.close()
        await asyncio.to_thread(tracing.flush)

    app = FastAPI(
        title="Recovery Essentials CRM",
        version=version("recovery-essentials-crm"),
        lifespan=lifespan,
        description=docs.ABOUT,
        # FastAPI's own pages load scripts from other servers. `docs` replaces them.
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    # Each middleware wraps those before it, so a request meets the last one first.
    app.add_middleware(Deadline, seconds=config.request_seconds)
    app.add_middleware(
        BodyLimit, largest=config.max_body_bytes, largest_file=config.max_import_bytes
    )
    app.add_middleware(Guard)
    app.add_middleware(HeadLimit)
    app.add_middleware(PageHeads)
    app.add_middleware(ReadingPace)
    app.add_middleware(RequestLog)
    if tracing.on():
        app.add_middleware(RequestSpans)
    error_answers.install(app)
    app.router.routes.extend(_routes())
    openapi.install(app)
    return app


@cache
def _routes() -> Sequence[BaseRoute]:
    """Return all routes, the same ones for each application of this process.

    FastAPI completes a route when it first looks at it. For all of them, that takes a third of a
    second, which nearly every test of the API would wait for.
    """
    every = APIRouter()
    for router in (*_ROUTERS, *dashboard.ROUTERS):
        every.include_router(router)
    return every.routes


def prepare(app: FastAPI) -> None:
    """Do now what the first requests would wait for: half a second in all."""
    # FastAPI completes a router when it first looks there for a path. Nobody has this one.
    nowhere = {"type": "http", "method": "GET", "path": "/.nowhere", "root_path": "", "headers": []}
    for route in app.routes:
        route.matches(nowhere)
    compile_first_pages()


@asynccontextmanager
async def _connected(
    config: Config, clock: Clock, stopping: Callable[[], bool]
) -> AsyncIterator[WebState]:
    """Yield the state of a web process; close its connections afterwards."""
    engine = create_engine(
        config.database_url or "", application="crm web", idle_seconds=IDLE_SECONDS
    )
    read_url = config.database_read_url
    read_engine = create_engine(read_url, application="crm web") if read_url else None
    seal = InstallationSeal(engine)
    each_caller = config.rate_limit_per_second, config.rate_limit_burst
    state = WebState(
        config=config,
        engine=engine,
        replica=Replica(read_engine, engine, config.database_read_lag_seconds, clock),
        redis=redis_client.configured(config, retries=1),  # probes must get an answer soon
        medians=MedianCache(),
        feed=Feed(engine, stopping),
        problem_page=problem_page,
        credentials=CredentialCache(engine, clock),
        seal=seal,
        hooks=HookRegistry(engine, seal, Buckets(*each_caller, clock), clock),
        imports=ImportRunner(config, engine),
        request_rate=Buckets(*each_caller, clock),
        wrong_keys=Buckets(WRONG_KEYS_PER_SECOND, WRONG_KEYS_AT_ONCE, clock),
        sign_ins=SignInLimits(clock),
    )
    importing = asyncio.create_task(state.imports.run())
    yield state
    importing.cancel()
    with suppress(asyncio.CancelledError):
        await importing
    await state.redis.aclose()
    await engine.dispose()
    if read_engine:
        await read_engine.dispose()
