"""``/livez``, ``/readyz`` and ``/metrics`` of a worker, for its orchestrator."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from redis.exceptions import ResponseError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service import metrics
from service.db import migrate
from service.db.engine import DATABASE_AWAY
from service.streams import groups, redis_client

if TYPE_CHECKING:
    from consumers.worker import Worker

_QUIET_SECONDS = 15.0
"""A healthy subscriber asks Redis for entries every second."""
_PATIENCE = 2.0
"""How long a server that hangs may keep a probe waiting."""


async def serve_health(worker: "Worker") -> None:
    """Serve until cancelled; does nothing when the configuration names no port."""
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
    """Leaves the signals to the worker, which has to drain first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def _parts(worker: "Worker") -> dict[str, str]:
    database, redis = await asyncio.gather(_database(worker), _redis(worker))
    return {"database": database, **redis}


async def _database(worker: "Worker") -> str:
    if worker.applier.waiting_since is not None:
        return "not ready: away, waiting for it"
    try:
        async with asyncio.timeout(_PATIENCE), worker.engine.connect() as connection:
            lacking = await migrate.lacking(connection)
    except DATABASE_AWAY as error:
        return f"not ready: {type(error).__name__}"
    return f"not ready: {lacking}" if lacking else "ok"


async def _redis(worker: "Worker") -> dict[str, str]:
    names = [stream.name for stream in worker.config.orders_streams]
    try:
        async with asyncio.timeout(_PATIENCE):
            found = await asyncio.gather(*(_subscriber(worker, name) for name in names))
    except redis_client.REDIS_ERRORS as error:
        return {"redis": f"not ready: {type(error).__name__}", "subscriber": "unknown"}
    wrong = [f"{name}: {is_}" for name, is_ in zip(names, found, strict=True) if is_]
    return {"redis": "ok", "subscriber": f"not ready: {'; '.join(wrong)}" if wrong else "ok"}


async def _subscriber(worker: "Worker", stream: str) -> str | None:
    """Say what is wrong with the reading of a stream."""
    try:
        members = await groups.consumers(worker.redis, stream, worker.config.orders_group)
    except ResponseError as error:
        if redis_client.is_away(error):
            raise
        return str(error)
    own = next((member for member in members if member.name == worker.name), None)
    if own is None:
        return "not in the consumer group"
    if own.idle_seconds > _QUIET_SECONDS:
        return f"has not read for {own.idle_seconds:.0f} s"
    return None
