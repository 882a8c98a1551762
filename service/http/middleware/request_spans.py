"""A trace span around each request. `app` adds it only if tracing is on."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service import tracing
from service.http.middleware.answer_start import on_start


class RequestSpans:
    """The outermost middleware, so that everything a request does and logs is in its trace."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on in a span that names its route, never its path or query."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        with tracing.serving(method, Headers(scope=scope).get("traceparent")) as span:
            sending = on_start(
                send,
                lambda start: span.set_attribute("http.response.status_code", start["status"]),
            )
            await self._app(scope, receive, sending)
            if route := getattr(scope.get("route"), "path", None):
                span.update_name(f"{method} {route}")
                span.set_attribute("http.route", route)
