"""Step 1: who sends a request. An API key, a session's cookie, or being on this machine says so."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import HTTPConnection
from starlette.types import Scope as ASGIScope

from service.core.scopes import LOCAL, Actor, Scope
from service.core.tokens import ApiKey
from service.db.engine import DATABASE_AWAY
from service.http.auth.local_mode import from_this_machine
from service.http.auth.session_cookies import session_token
from service.http.problems import ProblemError
from service.http.rate_limits import address_of, too_many
from service.http.state import WebState, state_of

BACKGROUND_HEADER = "X-Background"
"""A script sends it with requests that nobody asked for, which do not keep a session alive."""

_CALLER = "crm.caller"
_NO_HASH = bytes(32)


@dataclass(frozen=True)
class Caller:
    """What is known about the sender of a request."""

    actor: Actor | None = None
    """None: they sent no credential, and one is needed."""
    csrf: str = ""
    """What a change must carry, if a browser's cookie says who it is; else empty."""
    identified: bool = True
    """False: the database did not answer, so nobody knows who it is."""


def caller_of(scope: ASGIScope) -> Caller:
    """Return what the guard found out; nobody, for a request that it does not look at."""
    caller: Caller = scope.get(_CALLER) or Caller()
    return caller


def remember_caller(scope: ASGIScope, caller: Caller) -> None:
    """Keep the caller with the request, for `caller_of`."""
    scope[_CALLER] = caller


async def identify(request: HTTPConnection, state: WebState) -> Caller:
    """Return who sends the request.

    Raises ProblemError for a wrong API key, and what DATABASE_AWAY lists.
    """
    presented = _presented_key(request.headers)
    if presented is not None:
        actor = await _actor_of_key(presented, state)
        if actor is None:
            if wait := state.failed_attempts.take(address_of(request.scope)):
                raise too_many(wait)
            raise unauthorized()
        return Caller(actor)
    if not await state.credentials.any_exist():
        return Caller(LOCAL if from_this_machine(request, state.config) else None)
    if (token := session_token(request)) is None:
        return Caller()
    user = await state.credentials.find_user(token)
    if user is None:
        return Caller()
    if not _is_background(request):
        state.credentials.note_session_use(token)
    return Caller(user.actor, token.csrf)


async def still_allowed(request: HTTPConnection, scope: Scope) -> bool:
    """Return whether the caller of a request that lasts may still have what the scope allows."""
    try:
        actor = (await identify(request, state_of(request))).actor
    except ProblemError:
        return False
    except DATABASE_AWAY:
        return True  # while the database is away nothing new is sent; the next frame asks again
    return actor is not None and scope in actor.scopes


def unauthorized() -> ProblemError:
    """Return the refusal of an unknown caller: the same words, whatever is wrong with the key."""
    return ProblemError(
        401,
        "Unauthorized",
        "This needs a valid API key, as `Authorization: Bearer crm_…` or as `X-API-Key`.",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _presented_key(headers: Mapping[str, str]) -> str | None:
    """Return the text sent as an API key, or None if none was sent."""
    if (key := headers.get("x-api-key")) is not None:
        return key.strip()
    if (header := headers.get("authorization")) is None:
        return None
    kind, _, value = header.partition(" ")
    return value.strip() if kind.lower() == "bearer" else ""


async def _actor_of_key(presented: str, state: WebState) -> Actor | None:
    """Return who a key stands for, or None if it is not a valid one."""
    key = ApiKey.parse(presented)
    stored = await state.credentials.find_key(key.id) if key else None
    # Unknown keys are compared too, so that their refusal takes as long as that of wrong ones.
    expected = stored.secret_hash if stored else _NO_HASH
    right = hmac.compare_digest(key.digest if key else b"", expected)
    if not (stored and right and stored.valid):
        return None
    state.credentials.note_key_use(stored.id)
    return Actor(stored.name, stored.scopes, f"key:{stored.id}")


def _is_background(request: HTTPConnection) -> bool:
    headers = request.headers
    return BACKGROUND_HEADER in headers or "text/event-stream" in headers.get("accept", "")
