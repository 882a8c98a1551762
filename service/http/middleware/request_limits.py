"""Limit the size of a request's body, and the time until its answer begins."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.core.numbers import whole_number
from service.http.middleware.answer_start import on_start
from service.http.problems import ProblemError


class BodyLimit:
    """Refuses bodies larger than ``largest`` bytes, whether their length is announced or not."""

    def __init__(self, app: ASGIApp, largest: int) -> None:
        """Wrap an application."""
        self._app = app
        self._largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raise at once if the announced length is too large, else when too much has arrived."""
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            self._check(received)
            return message

        if scope["type"] == "http":
            announced = dict(scope["headers"]).get(b"content-length", b"")
            self._check(whole_number(announced.decode("latin-1"), len(announced)) or 0)
        await self._app(scope, limited, send)

    def _check(self, size: int) -> None:
        if size > self._largest:
            raise body_too_large(self._largest)


def body_too_large(largest: int) -> HTTPException:
    """Return the error for a body of more than ``largest`` bytes.

    It is no ProblemError: FastAPI passes on an HTTPException that is raised while it reads a body,
    but answers 400 to any other error.
    """
    return HTTPException(
        413, f"The body is larger than {largest:,} bytes. Send it in smaller parts."
    )


class Deadline:
    """Stops a request, with an error, if its answer does not begin within ``seconds``.

    An answer that has begun may take as long as it needs: exports and event streams do.
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

        async def arriving() -> Message:
            nonlocal waiting, arrived
            waiting = True
            message = await receive()
            waiting, arrived = False, not message.get("more_body", False)
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
