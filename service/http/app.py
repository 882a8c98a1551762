"""The web application."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from service import clients, tracing
from service.config import Config
from service.db.engine import IDLE_SECONDS, create_engine
from service.db.statistics import MedianCache
from service.http import (
    activity,
    customer,
    customers,
    dashboard,
    dead_letters,
    docs,
    document,
    export,
    health,
    orders,
    problems,
    settings,
    statistics,
)
from service.http.access import Guard
from service.http.credentials import Access, announce
from service.http.edge import Edge
from service.http.limits import BodyLimit, Clock, Deadline
from service.http.replica import Replica
from service.http.state import State
from service.http.traced import Traced


def create_app(config: Config, clock: Clock = time.monotonic) -> FastAPI:
    """Make the application; it connects when its lifespan begins."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = create_engine(
            config.database_url or "", application="crm web", idle_seconds=IDLE_SECONDS
        )
        read_url = config.database_read_url
        replica = create_engine(read_url, application="crm web") if read_url else None
        state = State(
            config=config,
            engine=engine,
            redis=clients.configured(config, retries=1),  # a probe must not wait
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
    app.add_middleware(Edge)
    if tracing.on():
        app.add_middleware(Traced)
    problems.install(app)
    app.include_router(docs.router)
    app.include_router(health.router)
    app.include_router(statistics.router)
    app.include_router(export.router)  # before /customers/{id}, which would take it for an id
    app.include_router(customers.router)
    app.include_router(customer.router)
    app.include_router(orders.router)
    app.include_router(settings.router)
    app.include_router(dead_letters.router)
    app.include_router(activity.router)
    dashboard.install(app)
    document.install(app)
    return app
