"""The two cookies of a browser: one for its session, one to know the browser again."""

from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import Response

from service.core.tokens import CookieToken
from service.db.accounts.devices import LASTS

_SESSION, _DEVICE = "crm-session", "crm-device"


def session_token(request: HTTPConnection) -> CookieToken | None:
    """Return the token of the browser's session, or None without one."""
    return _token(request, _SESSION)


def device_token(request: HTTPConnection) -> CookieToken | None:
    """Return the token by which the browser is known again, or None without one."""
    return _token(request, _DEVICE)


def set_session_cookie(request: HTTPConnection, response: Response, token: CookieToken) -> None:
    """Make the browser send the token from now on, until the browser is closed."""
    response.set_cookie(value=token.reveal(), **_cookie(request, _SESSION))


def set_device_cookie(request: HTTPConnection, response: Response, token: CookieToken) -> None:
    """Make the browser send the token for as long as it is known."""
    seconds = int(LASTS.total_seconds())
    response.set_cookie(value=token.reveal(), max_age=seconds, **_cookie(request, _DEVICE))


def delete_session_cookie(request: HTTPConnection, response: Response) -> None:
    """Make the browser forget its session. It is known again at the next sign-in."""
    response.delete_cookie(**_cookie(request, _SESSION))


def _token(request: HTTPConnection, name: str) -> CookieToken | None:
    secret = request.cookies.get(_cookie(request, name)["key"])
    return CookieToken(secret) if secret else None


def _cookie(request: HTTPConnection, name: str) -> dict[str, Any]:
    # Browsers take `__Host-` cookies only with Secure, Path=/ and no Domain, so that no
    # neighbouring host can set this one. They take Secure only over https.
    secure = request.scope["scheme"] == "https"
    return {
        "key": f"__Host-{name}" if secure else name,
        "secure": secure,
        "httponly": True,
        "samesite": "strict",
    }
