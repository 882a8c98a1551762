"""Serve ``/livez``, ``/readyz`` and ``/metrics`` of a worker, for its orchestrator."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service import metrics
from service.config import Config
from service.db import migrate
from service.db.engine import DATABASE_AWAY
from service.server_trouble import why_away
from service.streams import groups, redis_client

_QUIET_SECONDS = 15.0
"""A healthy subscriber asks Redis for entries every second."""
_TIMEOUT_SECONDS = 2.0
"""How long a server that hangs may keep a probe waiting."""


@dataclass(frozen=True)
class Probed:
    """The parts of a worker that its probes look at."""

    config: Config
    engine: AsyncEngine
    redis: Redis
    consumer: str
    """The worker's name in the consumer group."""
    waits_for_database: Callable[[], bool]
    """Returns True while the worker waits for a database that is away."""


async def serve_health(worker: Probed) -> None:
    """Serve until cancelled. Does nothing if the configuration names no port."""
    config = worker.config
    if not config.worker_port:
        return

    async def livez(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        parts = await _parts(worker)
        ready = all(status == "ok" for status in parts.values())
        body: dict[str, Any] = {"status": "ok" if ready else "not ready", "parts": parts}
        return JSONResponse(body, status_code=200 if ready else 503)

    async def prometheus(_: Request) -> Response:
        body = await metrics.render(config, worker.engine, worker.redis)
        return Response(body, media_type=CONTENT_TYPE_LATEST)

    app = Starlette(
        routes=[Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", prometheus)]
    )
    server = _Server(
        uvicorn.Config(
            app,
            host=config.http_host,
            port=config.worker_port,
            log_config=None,
            access_log=False,
            lifespan="off",
        )
    )
    await server.serve()


class _Server(uvicorn.Server):
    """A server that leaves signals to the worker, because the worker must drain first.

    uvicorn has no option for that: https://github.com/Kludex/uvicorn/pull/402 was closed unmerged.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signal."""
        yield


async def _parts(worker: Probed) -> dict[str, str]:
    database, redis = await asyncio.gather(_database(worker), _redis(worker))
    return {"database": database, **redis}


async def _database(worker: Probed) -> str:
    if worker.waits_for_database():
        return "not ready: away, waiting for it"
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS), worker.engine.connect() as connection:
            lacking = await migrate.behind(connection)
    except DATABASE_AWAY as error:
        return f"not ready: {why_away(error)}"
    return f"not ready: {lacking}" if lacking else "ok"


async def _redis(worker: Probed) -> dict[str, str]:
    names = [stream.name for stream in worker.config.orders_streams]
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            faults = await asyncio.gather(*(_reading_fault(worker, name) for name in names))
    except redis_client.REDIS_ERRORS as error:
        return {"redis": f"not ready: {why_away(error)}", "subscriber": "unknown"}
    wrong = [f"{name}: {fault}" for name, fault in zip(names, faults, strict=True) if fault]
    return {"redis": "ok", "subscriber": f"not ready: {'; '.join(wrong)}" if wrong else "ok"}


async def _reading_fault(worker: Probed, stream: str) -> str | None:
    """Return why a stream is not being read. None if it is."""
    try:
        members = await groups.consumers(worker.redis, stream, worker.config.orders_group)
    except ResponseError as error:
        if redis_client.is_away(error):
            raise
        return str(error)
    own = next((member for member in members if member.name == worker.consumer), None)
    if own is None:
        return "not in the consumer group"
    if own.idle_seconds > _QUIET_SECONDS:
        return f"has not read for {own.idle_seconds:.0f} s"
    return None
