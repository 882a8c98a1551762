"""The web application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from service import streams
from service.config import Config
from service.db.engine import create_engine
from service.db.statistics import MedianCache
from service.http import customer, customers, health, problems, statistics
from service.http.state import State


def create_app(config: Config) -> FastAPI:
    """Make the application; it connects when its lifespan begins."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        state = State(
            config=config,
            engine=create_engine(config.database_url or "", application="crm web"),
            redis=streams.connect(config.redis_url or ""),
            medians=MedianCache(),
        )
        app.state.crm = state
        yield
        await state.redis.aclose()
        await state.engine.dispose()

    app = FastAPI(
        title="Recovery Essentials CRM",
        version=version("recovery-essentials-crm"),
        lifespan=lifespan,
        # Their pages load scripts from elsewhere; issue 3 serves them from here.
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    problems.install(app)
    app.include_router(health.router)
    app.include_router(statistics.router)
    app.include_router(customers.router)
    app.include_router(customer.router)
    return app
