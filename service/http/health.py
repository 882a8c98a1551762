"""``/livez``, ``/readyz`` and ``/metrics`` of the web process."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import PlainTextResponse, Response

from service import metrics
from service.db import migrate
from service.db.engine import DATABASE_AWAY
from service.db.installation import OtherCurrencyError, check_currency
from service.http.auth.guard import Scraper
from service.http.json_response import Json
from service.http.problems import example
from service.http.state import WebState, state_of
from service.server_trouble import why_away
from service.streams import groups, redis_client

router = APIRouter(tags=["operations"])

_INFORMATION_ONLY = {"worker", "replica"}
_DATABASE_SECONDS = 2.0
"""How long a probe waits for a database that hangs."""
QUIET_SECONDS = 30.0
"""Workers read every second. If none has read for this long, no worker is running."""


@router.head("/livez", include_in_schema=False)
@router.get("/livez", responses=example({"status": "ok"}))
async def livez() -> dict[str, str]:
    """Answer as long as the process serves requests."""
    return {"status": "ok"}


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    responses=example({"status": "ok", "parts": {"database": "ok", "redis": "ok"}})
    | {503: {"description": "At least one part is not ready; see `parts`."}},
)
async def readyz(request: Request) -> Response:
    """Report whether requests can be answered, and which part is not ready.

    ``worker`` and ``replica`` are information only: a web process serves without them, so they
    never turn the answer into a 503.
    """
    state = state_of(request)
    database, redis = await asyncio.gather(_database(state), _redis(state))
    parts = {**database, **redis, **_replica(state)}
    ready = all(status == "ok" for part, status in parts.items() if part not in _INFORMATION_ONLY)
    body: dict[str, Any] = {"status": "ok" if ready else "not ready", "parts": parts}
    return Json(body, status_code=200 if ready else 503)


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses=example("crm_lag_entries 0.0", "text/plain"),
)
async def prometheus(request: Request, _: Scraper) -> Response:
    """Return the metrics of the whole service in Prometheus's text format."""
    state = state_of(request)
    web_metrics = (state.requests, *await state.replica.measured())
    body = await metrics.render(state.config, state.engine, state.redis, *web_metrics)
    return Response(body, media_type=CONTENT_TYPE_LATEST)


async def _database(state: WebState) -> dict[str, str]:
    try:
        async with asyncio.timeout(_DATABASE_SECONDS), state.engine.connect() as connection:
            lacking = await migrate.behind(connection)
            if lacking is None:  # it may have been away when this process started
                await check_currency(connection, state.config.store_currency)
    except OtherCurrencyError as error:
        return {"database": f"not ready: {error}", "schema": "ok"}
    except DATABASE_AWAY as error:
        return {"database": f"not ready: {why_away(error)}", "schema": "unknown"}
    return {"database": "ok", "schema": f"not ready: {lacking}" if lacking else "ok"}


async def _redis(state: WebState) -> dict[str, str]:
    try:
        backlogs = await groups.prompt_backlogs(state.redis, state.config)
    except redis_client.REDIS_ERRORS as error:
        return {"redis": f"not ready: {why_away(error)}", "worker": "unknown"}
    quiet = groups.add_up(backlogs).quietest_seconds
    if quiet is None:
        return {"redis": "ok", "worker": "not ready: no worker has joined the consumer group"}
    if quiet > QUIET_SECONDS:
        return {"redis": "ok", "worker": f"not ready: no worker has read for {quiet:.0f} s"}
    return {"redis": "ok", "worker": "ok"}


def _replica(state: WebState) -> dict[str, str]:
    """Return the result of the last read, so that a replica that hangs does not delay probes."""
    if state.replica.engine is None:
        return {}
    trouble = state.replica.trouble
    return {"replica": f"not used: {trouble}" if trouble else "ok"}
