"""What every request and every answer gets: an id, safe headers, one line in the log."""

import logging
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.core.customer_ids import customer_number
from service.http import problems
from service.http.auth.guard import admitted

log = logging.getLogger("service.http.requests")

LOCAL_MODE = "local-without-sign-in"

# Routes that know better set their own.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CLIENT_GONE = 499
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class RequestLog:
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
        began, status, waited = time.perf_counter(), 0, None
        known = scope.setdefault("state", {})

        async def sending(message: Message) -> None:
            nonlocal status, waited
            if message["type"] == "http.response.start":
                status, waited = message["status"], time.perf_counter() - began
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers["X-Request-ID"] = request_id
                if scope["app"].state.crm.access.open:
                    headers["X-CRM-Mode"] = LOCAL_MODE
                if (lag := known.get("replica_lag")) is not None:
                    headers["X-CRM-Replica-Lag-Seconds"] = f"{lag:.3f}"
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
            line = {
                "method": scope["method"],
                "route": getattr(scope.get("route"), "path", "(no route)"),
                "status": status or _CLIENT_GONE,
                "milliseconds": round((time.perf_counter() - began) * 1000, 1),
                "actor": getattr(admitted(scope).actor, "ref", "-"),
                "requestId": request_id,
            }
            log.info("%s %s %d %.1f ms %s %s", *line.values(), extra=line | _customer(scope))
            scope["app"].state.crm.requests.labels(
                _method(scope), line["route"], line["status"]
            ).observe(time.perf_counter() - began if waited is None else waited)


def _customer(scope: Scope) -> dict[str, str]:
    """Tell which customer a request is about: by an id of ours, and nothing else from its path."""
    id_ = str(scope.get("path_params", {}).get("id", ""))
    return {} if customer_number(id_) is None else {"customerId": id_}


def _method(scope: Scope) -> str:
    """Give the method, unless the client made one up: each would be a series of its own."""
    return scope["method"] if scope["method"] in _METHODS else "other"
