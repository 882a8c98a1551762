"""Answer `HEAD` for pages, as monitors and link checkers ask."""

from starlette.types import ASGIApp, Receive, Scope, Send

_API = "/api/"


class PageHeads:
    """Answers `HEAD` with what `GET` would answer, without the body.

    The API says itself which methods an address has: a `HEAD` of an export would read a million
    rows to throw them away.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask for the page instead. The server, which sees `HEAD`, sends no body."""
        is_head = scope["type"] == "http" and scope["method"] == "HEAD"
        if is_head and not scope["path"].startswith(_API):
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)
