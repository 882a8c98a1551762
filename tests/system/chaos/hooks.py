"""Two systems that get webhooks: one that faults hurt, and one that must not notice.

They check each signature, drop events that they have seen (by id), and record whatever the contract
forbids: a hole in a customer's sequences, another order, one id with two contents.
"""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import Enum
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from tests.processes import HOST, free_port

_SLOW_SECONDS = 3.0
_END_SECONDS = 0.1
"""Time for requests to end when an endpoint closes. aiohttp takes 0 for no limit."""


class Mode(Enum):
    """What an endpoint does with what it gets."""

    TAKES = "takes it"
    FAILS = "takes it, and answers 500"
    SLOW = "takes it, and answers late"
    HANGS = "never answers"


class Endpoint:
    """A server that gets events, and what it knows from them."""

    def __init__(self) -> None:
        """Take everything."""
        self.mode = Mode.TAKES
        self.segments: dict[str, str] = {}
        self.sequences: dict[str, int] = {}
        self.removed: set[str] = set()
        self.came = 0
        self.repeats = 0
        self.wrong: list[str] = []
        self.id = 0
        self._port = free_port()
        self._secret = ""
        self._contents: dict[str, bytes] = {}
        self._site: web.TCPSite | None = None
        app = web.Application()
        app.router.add_post("/hook", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_END_SECONDS)

    @contextlib.asynccontextmanager
    async def running(
        self, crm: Callable[..., Awaitable[tuple[int, str]]], name: str
    ) -> AsyncIterator[None]:
        """Register with the service, and serve until the block ends."""
        url = f"http://{HOST}:{self._port}/hook"
        status, output = await crm(
            "hooks", "add-endpoint", url, "--allow-private", "--description", name
        )
        assert status == 0, output
        number, self._secret = (
            output.split()[1],
            next(word for word in output.split() if word.startswith("whsec_")),
        )
        self.id = int(number)
        await self._runner.setup()
        await self.open()
        try:
            yield
        finally:
            await self._runner.cleanup()

    async def open(self) -> None:
        """Accept connections."""
        self._site = web.TCPSite(self._runner, HOST, self._port, reuse_address=True)
        await self._site.start()

    async def close(self) -> None:
        """Refuse connections, and end those that there are."""
        if self._site is not None:
            await self._site.stop()
            server: Any = self._runner.server
            await server.shutdown(_END_SECONDS)

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.mode is Mode.HANGS:
            await asyncio.Event().wait()
        try:
            Webhook(self._secret).verify(body, dict(request.headers))
        except WebhookVerificationError as error:
            self.wrong.append(f"a signature is wrong: {error}")
        self._take(request.headers["webhook-id"], body)
        if self.mode is Mode.SLOW:
            await asyncio.sleep(_SLOW_SECONDS)
        return web.Response(status=500 if self.mode is Mode.FAILS else 204)

    def _take(self, id_: str, body: bytes) -> None:
        document = json.loads(body)
        data, content = document["data"], hashlib.sha256(body).digest()
        customer = data["customerId"]
        known = self._contents.setdefault(id_, content)
        if id_ != document["id"] or known != content:
            self.wrong.append(f"{id_} is not always the same")
        self.came += 1
        if document["type"] == "customer-removed":
            self.removed.add(customer)
            return
        before, sequence = self.sequences.get(customer, 0), data["sequence"]
        if sequence <= before:
            self.repeats += 1
            return
        if sequence > before + 1:
            self.wrong.append(f"{customer}: after {before} came {sequence}")
        self.sequences[customer] = sequence
        self.segments[customer] = data["segment"]


class Hooks:
    """Both endpoints."""

    def __init__(self) -> None:
        """Create them. They serve within `running`."""
        self.hurt = Endpoint()
        self.steady = Endpoint()

    @contextlib.asynccontextmanager
    async def running(self, crm: Callable[..., Awaitable[tuple[int, str]]]) -> AsyncIterator[None]:
        """Register and serve both until the block ends."""
        async with self.hurt.running(crm, "hurt"), self.steady.running(crm, "steady"):
            yield
