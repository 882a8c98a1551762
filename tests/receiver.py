"""A system that gets our webhooks: a real HTTP server on loopback."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

from aiohttp import web

HOST = "127.0.0.1"


class Delivery(NamedTuple):
    """A request that came."""

    id: str
    headers: dict[str, str]
    """With names in lower case."""
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """Return the event."""
        document: dict[str, Any] = json.loads(self.body)
        return document


Answer = Callable[[Delivery], Awaitable[web.Response]]


async def accept(_: Delivery) -> web.Response:
    """Answer as an endpoint does that has taken the event."""
    return web.Response(status=204)


class Receiver:
    """What came, and what is answered."""

    def __init__(self) -> None:
        """Accept everything."""
        self.url = ""
        self.answer: Answer = accept
        self.attempts: list[Delivery] = []
        self.taken: list[Delivery] = []
        """The attempts that were answered with success."""
        self.at_once = 0
        """How many requests are being answered now."""
        self.most_at_once = 0

    @property
    def ids(self) -> list[str]:
        """Return the ids of the events that were taken, in their order."""
        return [each.id for each in self.taken]

    def sequences(self) -> dict[str, list[int]]:
        """Return by customer the sequences of the changes that were taken, in their order."""
        found: dict[str, list[int]] = {}
        for each in self.taken:
            data = each.document["data"]
            if "sequence" in data:
                found.setdefault(data["customerId"], []).append(data["sequence"])
        return found

    async def _handle(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        delivery = Delivery(headers.get("webhook-id", ""), headers, await request.read())
        self.attempts.append(delivery)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            answer = await self.answer(delivery)
        finally:
            self.at_once -= 1
        if 200 <= answer.status < 300:
            self.taken.append(delivery)
        return answer


@contextlib.asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None, host: str = HOST) -> AsyncIterator[Receiver]:
    """Run a receiver on a port of its own until the block ends."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver._handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0, ssl_context=tls)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    receiver.url = f"{'https' if tls else 'http'}://{host}:{port}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()


async def hang(_: Delivery) -> web.Response:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError
