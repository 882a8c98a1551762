"""Step 1: identify the caller by an API key, a session cookie, or being on this machine."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import HTTPConnection
from starlette.types import Scope as ASGIScope

from service.core.scopes import LOCAL, Actor, Scope
from service.core.tokens import ApiKey
from service.db.accounts.access import Access
from service.db.engine import DATABASE_AWAY
from service.http.auth.cookies import session_token
from service.http.auth.local_mode import from_this_machine
from service.http.problems import ProblemError
from service.http.rate_limits import address_of, too_many
from service.http.state import WebState, state_of

BACKGROUND_HEADER = "X-Background"
"""Scripts send it when they refresh a page. Such requests do not keep a session alive."""

_CALLER = "crm.caller"
_NO_HASH = bytes(32)


@dataclass(frozen=True)
class Caller:
    """The sender of a request, as far as known."""

    actor: Actor | None = None
    """None if they sent no credential although one is needed."""
    csrf: str = ""
    """The token that a change must carry if a session cookie identified the caller; else empty."""
    identified: bool = True
    """False if the database did not answer, so that the caller is not known."""


def caller_of(scope: ASGIScope) -> Caller:
    """Return the caller that the guard found; an empty one for paths without a guard."""
    caller: Caller = scope.get(_CALLER) or Caller()
    return caller


def limited_as(scope: ASGIScope) -> str:
    """Return whose limits a request counts towards: its key or user, else its address."""
    actor = caller_of(scope).actor
    return actor.ref if actor and actor is not LOCAL else address_of(scope)


def remember_caller(scope: ASGIScope, caller: Caller) -> None:
    """Store the caller with the request, where `caller_of` finds it."""
    scope[_CALLER] = caller


async def identify(request: HTTPConnection, state: WebState) -> Caller:
    """Return the caller of a request.

    Raises ProblemError for a wrong API key, and what DATABASE_AWAY lists.
    """
    sent_key = _sent_key(request.headers)
    if sent_key is not None:
        actor = await _actor_of_key(sent_key, state)
        if actor is None:
            if wait := state.wrong_keys.take(address_of(request.scope)):
                raise too_many(wait)
            raise unauthorized(await state.credentials.access())
        return Caller(actor)
    if not (await state.credentials.access()).required:
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
    """Return whether the caller of a long request still has the scope."""
    try:
        actor = (await identify(request, state_of(request))).actor
    except ProblemError:
        return False
    except DATABASE_AWAY:
        return True  # while the database is away nothing new is sent; the next frame asks again
    return actor is not None and scope in actor.scopes


def unauthorized(access: Access | None = None) -> ProblemError:
    """Return the problem for an unknown caller. It does not say what is wrong with a key.

    If no credential is valid any more, it says how to get in again.
    """
    if access is None or access.possible:
        detail = (
            "This needs a valid API key, as `Authorization: Bearer crm_…` or as `X-API-Key`. "
            "`crm keys create` makes one."
        )
    else:
        detail = (
            "Nobody can get in: every user is disabled, and every API key is revoked, expired or "
            "gone. On the service's machine, run `crm users add EMAIL --role admin` or "
            "`crm keys create NAME --scope read`."
        )
    return ProblemError(401, "Unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def _sent_key(headers: Mapping[str, str]) -> str | None:
    """Return the text sent as an API key, or None if none was sent."""
    if (key := headers.get("x-api-key")) is not None:
        return key.strip()
    if (header := headers.get("authorization")) is None:
        return None
    kind, _, value = header.partition(" ")
    return value.strip() if kind.lower() == "bearer" else ""


async def _actor_of_key(sent_key: str, state: WebState) -> Actor | None:
    """Return the actor of an API key, or None if the key is not valid."""
    key = ApiKey.parse(sent_key)
    stored = await state.credentials.find_key(key.id) if key else None
    # Unknown keys are compared, too, so that refusing them takes as long as refusing wrong ones.
    expected = stored.secret_hash if stored else _NO_HASH
    matches = hmac.compare_digest(key.digest if key else b"", expected)
    if not (stored and matches and stored.valid):
        return None
    state.credentials.note_key_use(stored.id)
    return Actor(stored.name, stored.scopes, f"key:{stored.id}")


def _is_background(request: HTTPConnection) -> bool:
    headers = request.headers
    return BACKGROUND_HEADER in headers or "text/event-stream" in headers.get("accept", "")
