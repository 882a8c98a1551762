"""The web application."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from service import tracing
from service.config import Config
from service.db.engine import IDLE_SECONDS, create_engine
from service.db.statistics.key_figures import MedianCache
from service.http import dashboard, docs, health, openapi, problems
from service.http.api import (
    activity,
    csv_export,
    customer_details,
    customer_interactions,
    customer_routes,
    dead_letter_replay,
    dead_letters,
    rule_changes,
    rule_settings,
    statistics,
    unattributed,
)
from service.http.auth.credentials import Access, announce
from service.http.auth.guard import Guard
from service.http.auth.limits import BodyLimit, Clock, Deadline
from service.http.middleware.request_log import RequestLog
from service.http.middleware.request_spans import RequestSpans
from service.http.replica import Replica
from service.http.state import WebState
from service.streams import redis_client


def create_app(config: Config, clock: Clock = time.monotonic) -> FastAPI:
    """Make the application; it connects when its lifespan begins."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = create_engine(
            config.database_url or "", application="crm web", idle_seconds=IDLE_SECONDS
        )
        read_url = config.database_read_url
        replica = create_engine(read_url, application="crm web") if read_url else None
        state = WebState(
            config=config,
            engine=engine,
            redis=redis_client.configured(config, retries=1),  # a probe must not wait
            medians=MedianCache(),
            access=Access(config, engine, clock),
            replica=Replica(replica, config.database_read_lag_seconds, clock),
        )
        app.state.crm = state
        await announce(state.access)
        yield
        await state.access.touches.close()
        await state.redis.aclose()
        await state.engine.dispose()
        if replica:
            await replica.dispose()
        await asyncio.to_thread(tracing.flush)

    app = FastAPI(
        title="Recovery Essentials CRM",
        version=version("recovery-essentials-crm"),
        lifespan=lifespan,
        description=docs.ABOUT,
        # Their pages load scripts from elsewhere; ours needs none.
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    # The last is the outermost.
    app.add_middleware(Deadline, seconds=config.request_seconds)
    app.add_middleware(BodyLimit, largest=config.max_body_bytes)
    app.add_middleware(Guard)
    app.add_middleware(RequestLog)
    if tracing.on():
        app.add_middleware(RequestSpans)
    problems.install(app)
    app.include_router(docs.router)
    app.include_router(health.router)
    app.include_router(statistics.router)
    app.include_router(csv_export.router)  # before /customers/{id}, which would take it for an id
    app.include_router(customer_routes.router)
    app.include_router(customer_details.router)
    app.include_router(customer_interactions.router)
    app.include_router(unattributed.router)
    app.include_router(rule_settings.router)
    app.include_router(rule_changes.router)
    app.include_router(dead_letters.router)
    app.include_router(dead_letter_replay.router)
    app.include_router(activity.router)
    dashboard.install(app)
    openapi.install(app)
    return app
