"""Give each request an id and a line in the log, and its answer the headers for safety."""

import logging
import re
import secrets
import time

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.core.customer_ids import customer_number
from service.http.auth.caller import caller_of
from service.http.middleware.answer_start import on_start
from service.http.middleware.error_answers import answer
from service.http.state import replica_lag, state_of

log = logging.getLogger("service.http.requests")

LOCAL_MODE = "local-without-sign-in"

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Every answer has these. A header that the route itself sets is not replaced."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CLIENT_GONE = 499
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class RequestLog:
    """Wraps all other middlewares except the trace, so that every answer passes through it."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, answer its errors, and log it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        state = state_of(request)
        sent_id = request.headers.get("x-request-id", "")
        request_id = sent_id if _REQUEST_ID.fullmatch(sent_id) else secrets.token_hex(8)
        began, status, waited = time.perf_counter(), 0, None

        def begin(message: Message) -> None:
            nonlocal status, waited
            status, waited = message["status"], time.perf_counter() - began
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers["X-Request-ID"] = request_id
            if state.credentials.local_mode:
                headers["X-CRM-Mode"] = LOCAL_MODE
            if (lag := replica_lag(scope)) is not None:
                headers["X-CRM-Replica-Lag-Seconds"] = f"{lag:.3f}"

        sending = on_start(send, begin)
        try:
            await self._app(scope, receive, sending)
        except ClientDisconnect:
            status = _CLIENT_GONE
        except Exception as error:
            if status:  # an answer has begun: the server must cut the connection
                raise
            response = await answer(request, error)
            await response(scope, receive, sending)
        finally:
            # The path and the query are not logged as sent: they may hold an e-mail address.
            line = {
                "method": scope["method"],
                "route": getattr(scope.get("route"), "path", "(no route)"),
                "status": status or _CLIENT_GONE,
                "milliseconds": round((time.perf_counter() - began) * 1000, 1),
                "actor": getattr(caller_of(scope).actor, "ref", "-"),
                "requestId": request_id,
            }
            log.info("%s %s %d %.1f ms %s %s", *line.values(), extra=line | _customer(scope))
            state.requests.labels(_method(scope), line["route"], line["status"]).observe(
                time.perf_counter() - began if waited is None else waited
            )


def _customer(scope: Scope) -> dict[str, str]:
    """Return the customer in the path, for the log. Other texts may be personal data."""
    id_ = str(scope.get("path_params", {}).get("id", ""))
    return {} if customer_number(id_) is None else {"customerId": id_}


def _method(scope: Scope) -> str:
    """Return the method; "other" if a client made it up, since each adds a time series."""
    return scope["method"] if scope["method"] in _METHODS else "other"
