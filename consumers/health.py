"""``/livez``, ``/readyz`` and ``/metrics`` of a worker, for its orchestrator."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service import streams
from service.http import metrics

if TYPE_CHECKING:
    from consumers.worker import Worker

_QUIET_SECONDS = 15.0
"""A healthy subscriber asks Redis for entries every second."""


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
    parts = {"database": "ok", "redis": "ok", "subscriber": "ok"}
    if worker.applier.waiting_since is not None:
        parts["database"] = "not ready: away, waiting for it"
    try:
        members = await streams.consumers(
            worker.redis, worker.config.orders_stream, worker.config.orders_group
        )
    except streams.REDIS_ERRORS as error:
        return {**parts, "redis": f"not ready: {type(error).__name__}", "subscriber": "unknown"}
    own = next((member for member in members if member.name == worker.name), None)
    if own is None:
        parts["subscriber"] = "not ready: not in the consumer group"
    elif own.idle_seconds > _QUIET_SECONDS:
        parts["subscriber"] = f"not ready: has not read for {own.idle_seconds:.0f} s"
    return parts
