"""The sessions that browsers' cookies name."""

import asyncio
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import HTTPConnection
from starlette.responses import Response

from service.core.scopes import Actor
from service.core.tokens import SessionToken
from service.db.accounts import sessions
from service.db.accounts.users import User
from service.http.auth.limits import Clock
from service.http.auth.lookup_cache import Remembered, Touches

BACKGROUND_HEADER = "X-Background"
"""Sent by a script that looks for news by itself, which does not keep a session from idling."""

SIGN_INS_AT_ONCE = 2
"""As many as there are threads that compare passwords."""


class SignedIn(NamedTuple):
    """Whoever's session a cookie named."""

    actor: Actor
    csrf: str
    """What shows that a change was sent by a page of ours."""


class Sessions:
    """Sessions looked up lately."""

    def __init__(self, engine: AsyncEngine, clock: Clock, touches: Touches) -> None:
        """Know none yet."""
        self._engine = engine
        self._touches = touches
        self._users: Remembered[User | None] = Remembered(clock)
        self.sign_ins = asyncio.Semaphore(SIGN_INS_AT_ONCE)

    async def identify(self, asked: HTTPConnection) -> SignedIn | None:
        """Give whose session it is, and keep that it is in use. Raises what DATABASE_AWAY lists."""
        token = token_of(asked)
        if token is None:
            return None
        key = _key(token)
        user = await self._users.get(key, lambda: self._find(token))
        if user is None:
            return None
        if not _by_itself(asked):
            self._touches.touch(key, lambda: self._touch(token))
        return SignedIn(user.actor, token.csrf)

    async def end(self, token: SessionToken) -> None:
        """End it, here at once, in other processes within REMEMBERED seconds."""
        async with self._engine.begin() as connection:
            await sessions.end(connection, token)
        self._users.forget(_key(token))

    async def _find(self, token: SessionToken) -> User | None:
        async with self._engine.connect() as connection:
            return await sessions.find(connection, token)

    async def _touch(self, token: SessionToken) -> None:
        async with self._engine.begin() as connection:
            await sessions.touch(connection, token)


def token_of(asked: HTTPConnection) -> SessionToken | None:
    """Read the cookie."""
    secret = asked.cookies.get(_cookie(asked)["key"])
    return SessionToken(secret) if secret else None


def give_token(asked: HTTPConnection, response: Response, token: SessionToken) -> None:
    """Have the browser send the token from now on, until it is closed."""
    response.set_cookie(value=token.reveal(), **_cookie(asked))


def take_token(asked: HTTPConnection, response: Response) -> None:
    """Have the browser send it no more."""
    response.delete_cookie(**_cookie(asked))


def _cookie(asked: HTTPConnection) -> dict[str, Any]:
    # The prefix holds browsers to Secure, Path=/ and no Domain: no neighbour can set this cookie.
    secure = asked.scope["scheme"] == "https"
    return {
        "key": "__Host-crm-session" if secure else "crm-session",
        "secure": secure,
        "httponly": True,
        "samesite": "strict",
    }


def _by_itself(asked: HTTPConnection) -> bool:
    headers = asked.headers
    return BACKGROUND_HEADER in headers or "text/event-stream" in headers.get("accept", "")


def _key(token: SessionToken) -> str:
    return f"session:{token.digest.hex()}"
