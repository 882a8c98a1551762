"""What every request and every answer gets: an id, safe headers, one line in the log."""

import logging
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http import problems
from service.http.access import admitted

log = logging.getLogger("service.http.requests")

LOCAL_MODE = "local-without-sign-in"

# Routes that know better set their own.
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CLIENT_GONE = 499


class Edge:
    """The outermost of our middleware: nothing inside it is answered without it."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, answer what was raised, and write the line."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        began, status = time.perf_counter(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers["X-Request-ID"] = request_id
                if scope["app"].state.crm.access.open:
                    headers["X-CRM-Mode"] = LOCAL_MODE
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except ClientDisconnect:
            status = _CLIENT_GONE
        except Exception as error:
            if status:  # too late for another answer: the server must cut the connection
                raise
            response = await problems.answer(Request(scope), error)
            await response(scope, receive, sending)
        finally:
            # Never the path or the query as it came: there may be an e-mail in either.
            log.info(
                "%s %s %d %.1f ms %s %s",
                scope["method"],
                getattr(scope.get("route"), "path", "(no route)"),
                status or _CLIENT_GONE,
                (time.perf_counter() - began) * 1000,
                getattr(admitted(scope).actor, "ref", "-"),
                request_id,
            )
