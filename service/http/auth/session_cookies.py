"""The cookie that holds a browser's session."""

from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import Response

from service.core.tokens import SessionToken


def session_token(request: HTTPConnection) -> SessionToken | None:
    """Return the token in the request's cookie, or None without one."""
    secret = request.cookies.get(_cookie(request)["key"])
    return SessionToken(secret) if secret else None


def set_session_cookie(request: HTTPConnection, response: Response, token: SessionToken) -> None:
    """Make the browser send the token from now on, until the browser is closed."""
    response.set_cookie(value=token.reveal(), **_cookie(request))


def delete_session_cookie(request: HTTPConnection, response: Response) -> None:
    """Make the browser forget its token."""
    response.delete_cookie(**_cookie(request))


def _cookie(request: HTTPConnection) -> dict[str, Any]:
    # Browsers take `__Host-` cookies only with Secure, Path=/ and no Domain, so that no
    # neighbouring host can set this one. They take Secure only over https.
    secure = request.scope["scheme"] == "https"
    return {
        "key": "__Host-crm-session" if secure else "crm-session",
        "secure": secure,
        "httponly": True,
        "samesite": "strict",
    }
