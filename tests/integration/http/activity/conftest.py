"""A web server inside the test process, on a real socket, because a stream needs one."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from service.http.activity_feed import Feed
from service.http.app import create_app
from service.http.server import connection
from service.http.state import web_state
from tests.conftest import Service
from tests.integration.http.conftest import client
from tests.processes import HOST, free_port
from tests.wait import until

URL = "/api/v1/activity"
SECONDS = 20


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class Streaming:
    """A web server and a client of its streams."""

    app: FastAPI
    http: httpx.AsyncClient

    @property
    def feed(self) -> Feed:
        return web_state(self.app).feed

    @contextlib.asynccontextmanager
    async def stream(self, last_id: bytes | None = None) -> AsyncIterator["Stream"]:
        """Open a stream and wait until it is live."""
        path = f"{URL}/stream"
        headers = [] if last_id is None else [(b"Last-Event-ID", last_id)]
        async with self.http.stream("GET", path, headers=headers) as response:
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            stream = Stream(response.aiter_lines())
            assert await stream.frame() == {"retry": "2000"}

            async def primed() -> bool:
                return self.feed._fresh

            await until(primed)
            yield stream

    async def nobody_listens(self) -> None:
        """Wait until the server has ended every stream and stopped polling."""

        async def none() -> bool:
            return self.feed.listeners == 0 and not self.feed.polling

        await until(none)


@dataclass
class Stream:
    """The frames of a stream, parsed as a browser does."""

    lines: AsyncIterator[str]

    async def frame(self) -> dict[str, str]:
        """Return the next frame by field names; a comment has the empty name."""
        found: dict[str, str] = {}
        async with asyncio.timeout(SECONDS):
            async for line in self.lines:
                if not line:
                    return found
                name, _, value = line.partition(":")
                found[name] = value.strip()
        raise EOFError

    async def item(self) -> dict[str, Any]:
        """Return the next item, and check that its id is that of the frame."""
        frame = await self.frame()
        item: dict[str, Any] = json.loads(frame["data"])
        assert item["id"] == frame["id"]
        return item

    async def items(self, number: int) -> list[dict[str, Any]]:
        return [await self.item() for _ in range(number)]


@contextlib.asynccontextmanager
async def serving(service: Service) -> AsyncIterator[Streaming]:
    """Serve on a port of its own until the block ends."""
    app, port = create_app(service.web_config, stopping=lambda: server.should_exit), free_port()
    server = _Server(
        uvicorn.Config(
            app,
            host=HOST,
            port=port,
            http=connection(30),
            log_config=None,
            access_log=False,
            ws="none",
        )
    )
    task = asyncio.create_task(server.serve())

    async def started() -> bool:
        return server.started

    try:
        await until(started)
        base = f"http://{HOST}:{port}"
        async with httpx.AsyncClient(base_url=base, timeout=SECONDS, trust_env=False) as http:
            yield Streaming(app, http)
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def streaming(service: Service) -> AsyncIterator[Streaming]:
    async with serving(service) as found:
        yield found


@pytest.fixture
async def web(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with client(service) as http:
        yield http
