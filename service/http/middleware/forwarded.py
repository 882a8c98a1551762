"""Take a client's address and scheme from a proxy that is trusted; say so if one is not.

A proxy that is not trusted goes unnoticed otherwise: cookies lose `Secure`, and all clients share
the proxy's address, so that one stranger's failed sign-ins lock everybody out.
"""

import ipaddress
import logging

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

log = logging.getLogger(__name__)

VARIABLE = "FORWARDED_ALLOW_IPS"
DEFAULT = "127.0.0.1"
_HEADERS = ("x-forwarded-for", "x-forwarded-proto")
_MOST_SOURCES = 100
"""Networks that are named in the log. Anybody can send these headers."""
_PREFIX = {4: 24, 6: 48}
"""Bits of an address that are logged. A whole address may be that of a person."""


class Forwarded:
    """Wraps the application in uvicorn's reader of these headers, and watches who sends them."""

    def __init__(self, app: ASGIApp, trusted: str) -> None:
        """Trust these addresses and networks, separated by commas. ``*`` is everybody."""
        self._app = ProxyHeadersMiddleware(app, trusted_hosts=trusted)  # type: ignore[arg-type]
        self._named: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with the client's address and scheme if its sender is trusted."""
        if scope["type"] == "http":
            self._watch(scope)
        await self._app(scope, receive, send)  # type: ignore[arg-type]

    def _watch(self, scope: Scope) -> None:
        peer = scope["client"][0] if scope.get("client") else ""
        headers = Headers(scope=scope)
        if peer in self._app.trusted_hosts or not any(name in headers for name in _HEADERS):
            return
        source = _network(peer)
        if source in self._named or len(self._named) >= _MOST_SOURCES:
            return
        self._named.add(source)
        log.warning(
            "X-Forwarded headers from %s are ignored, because it is not in %s. If that is your "
            "proxy, add it: until then all its clients count as one, and cookies are not Secure",
            source,
            VARIABLE,
        )


def _network(peer: str) -> str:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return "an unknown address"
    return str(ipaddress.ip_network((address, _PREFIX[address.version]), strict=False))
