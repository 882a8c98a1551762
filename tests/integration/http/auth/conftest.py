"""A web application with a clock that tests advance, and one extra route per scope."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from starlette.responses import StreamingResponse

from service.core.scopes import Scope
from service.core.tokens import ApiKey
from service.db.accounts import api_keys
from service.http.app import create_app
from service.http.auth.guard import Admin, Eraser, Exporter, Reader, Writer
from service.http.credential_cache import REMEMBERED
from service.http.state import WebState, web_state
from tests.conftest import Service

EVERYWHERE = "0.0.0.0"  # noqa: S104  as configured, by mistake or on purpose
STATISTICS = "/api/v1/statistics"
PROBES = {scope: f"/probe/{scope}" for scope in Scope}


def routes_by_scope(
    prefix: str, actors: Mapping[Scope, Any], posted: Collection[Scope] = ()
) -> APIRouter:
    """Return a router with a route per scope, which answers with the name of the actor."""
    router = APIRouter(prefix=prefix)
    for scope, actor_type in actors.items():

        async def name(actor: Any) -> str:
            return str(actor.name)

        name.__annotations__["actor"] = actor_type  # FastAPI reads it at run time
        router.add_api_route(f"/{scope}", name, methods=["POST" if scope in posted else "GET"])
    return router


probes = routes_by_scope(
    "/probe",
    {
        Scope.READ: Reader,
        Scope.WRITE: Writer,
        Scope.EXPORT: Exporter,
        Scope.ERASE: Eraser,
        Scope.ADMIN: Admin,
    },
    posted={Scope.WRITE},
)


@probes.post("/body")
async def _body(request: Request) -> int:
    return len(await request.body())


@probes.post("/json")
async def _json(body: dict[str, Any]) -> int:
    return len(body)


@probes.get("/fail/{email}")
async def _fail(email: str) -> str:
    raise ValueError(email)


@probes.get("/hang")
async def _hang() -> str:
    await asyncio.Event().wait()
    return ""


@probes.get("/stream")
async def _stream() -> StreamingResponse:
    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b"x"
            await asyncio.sleep(0.2)

    return StreamingResponse(slowly())


class Key:
    """An API key with its secret text."""

    def __init__(self, key: ApiKey) -> None:
        self.id = key.id
        self.text = key.reveal()
        self.headers = {"Authorization": f"Bearer {self.text}"}


@dataclass
class Web:
    """An application, its client and its clock."""

    http: httpx.AsyncClient
    app: FastAPI
    service: Service
    time: list[float] = field(default_factory=lambda: [1000.0])

    @property
    def state(self) -> WebState:
        return web_state(self.app)

    def wait(self, seconds: float = REMEMBERED + 0.1) -> None:
        """Advance the clock; without an argument, past the lifetime of every cache."""
        self.time[0] += seconds

    async def key(self, *scopes: Scope, name: str = "test", expires: datetime | None = None) -> Key:
        """Create a key, and advance the clock until the application knows it."""
        async with self.service.engine.begin() as connection:
            made = await api_keys.create_key(
                connection, name, scopes, expires_at=expires, actor="test"
            )
        self.wait()
        return Key(made)

    async def probe(self, scope: Scope, **more: Any) -> httpx.Response:
        """Ask the route that needs this scope."""
        method = "POST" if scope is Scope.WRITE else "GET"
        return await self.http.request(method, PROBES[scope], **more)


@asynccontextmanager
async def serve(
    service: Service,
    client: tuple[str, int] = ("127.0.0.1", 1),
    stopping: Callable[[], bool] = lambda: False,
    **changed: Any,
) -> AsyncIterator[Web]:
    """Start an application with the service's configuration and these changes."""
    time = [1000.0]
    config = service.web_config.model_copy(update=changed)
    app = create_app(config, clock=lambda: time[0], stopping=stopping)
    app.include_router(probes)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, client=client)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            yield Web(http, app, service, time)


@pytest.fixture
async def web(empty_service: Service) -> AsyncIterator[Web]:
    """Return an application for which no credential exists yet."""
    async with serve(empty_service) as web:
        yield web


def assert_problem(response: httpx.Response, status: int, *words: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status
    for word in words:
        assert word in response.json()["detail"]


def tampered(key: str) -> Sequence[str]:
    """Return texts that look like the key and are not."""
    head, secret = key[:13], key[13:]
    return (
        "",
        "crm",
        "crm__",
        "crm_abcdefgh",
        head + secret[:-1],
        head + secret + "a",
        head + ("b" if secret[0] == "a" else "a") + secret[1:],
        "crm_aaaaaaaa_" + secret,
        key.upper(),
        key + " " + key,
        "ü" * 56,
    )
