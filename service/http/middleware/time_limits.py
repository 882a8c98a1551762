"""Limit the time until an answer begins, and how slowly a client may read it."""

import asyncio
import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.body_limits import is_upload
from service.http.middleware.answer_start import on_start
from service.http.problems import ProblemError

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0
"""How long an answer may wait in all for a client that reads nothing."""
SLOWEST_BYTES_PER_SECOND = 16_384
"""Each second's worth of this that a client takes gives it back a second, up to the limit."""
ABORT = "crm.abort"
"""Where the server puts a function into the scope that cuts the connection at once."""


class SlowReaderError(Exception):
    """A client read so slowly that its connection was cut, in the middle of the answer."""


class ReadingPace:
    """Cuts the connection of a client that reads an answer too slowly.

    Such a client would hold what the answer needs, such as a database connection, for hours. An
    answer that was cut has no proper HTTP end, so the client can tell that a part is missing.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on. Sending raises SlowReaderError when the client's time is used up."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        clock, patience = asyncio.get_running_loop().time, PATIENCE_SECONDS

        async def sending(message: Message) -> None:
            nonlocal patience
            began = clock()
            try:
                async with asyncio.timeout(patience):
                    await send(message)
            except TimeoutError:
                log.warning("a client read too slowly: its connection was cut")
                scope.get(ABORT, _nothing)()
                raise SlowReaderError from None
            earned = len(message.get("body", b"")) / SLOWEST_BYTES_PER_SECOND
            patience = min(PATIENCE_SECONDS, patience - (clock() - began) + earned)

        await self._app(scope, receive, sending)


def _nothing() -> None:
    """Without a server of ours there is no connection to cut."""


class Deadline:
    """Stops a request, with an error, if its answer does not begin within ``seconds``.

    A file that arrives at `SLOWEST_BYTES_PER_SECOND` or faster gets the time it needs. An answer
    that has begun may take as long as it needs: exports and event streams do. Then only
    `ReadingPace` watches the client.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        """Wrap an application."""
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raise a problem when time is up: 408 while the body is still missing, else 503."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        waiting = arrived = False
        clock = asyncio.get_running_loop().time

        async def arriving() -> Message:
            nonlocal waiting, arrived
            waiting = True
            message = await receive()
            waiting, arrived = False, not message.get("more_body", False)
            if is_upload(scope) and (due := deadline.when()):
                earned = len(message.get("body", b"")) / SLOWEST_BYTES_PER_SECOND
                deadline.reschedule(min(due + earned, clock() + self._seconds))
            return message

        try:
            async with asyncio.timeout(self._seconds) as deadline:
                starting = on_start(send, lambda _: deadline.reschedule(None))
                await self._app(scope, arriving, starting)
        except TimeoutError:
            if not deadline.expired():
                raise
            if waiting and not arrived:
                detail = (
                    f"The body of the request did not arrive within {self._seconds:g} s. "
                    "Send it again, over a faster connection or in smaller parts."
                )
                headers = {"Connection": "close"}
                raise ProblemError(408, "Request Timeout", detail, headers=headers) from None
            detail = f"The answer took longer than {self._seconds:g} s. Try again later."
            raise ProblemError(503, "Took too long", detail, headers={"Retry-After": "5"}) from None
