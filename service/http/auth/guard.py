"""Which credential a request carries, and whether it allows what is asked."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer, SecurityScopes
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as ASGIScope

from service.core.scopes import LOCAL, Actor, Scope
from service.db.engine import DATABASE_AWAY
from service.http.auth.credentials import Access, is_loopback
from service.http.auth.limits import address_of, too_many
from service.http.problems import ProblemError
from service.http.state import WebState, state_of

UNGUARDED = frozenset({"/livez", "/readyz"})
"""For orchestrators, which have no credential and must always get an answer."""

CSRF_HEADER = "X-CSRF-Token"

_UNLIMITED = frozenset({"/metrics"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_ADMITTED = "crm.admitted"


@dataclass(frozen=True)
class Admitted:
    """What is known of whoever asks."""

    actor: Actor | None = None
    """None: they carry no credential, and one is needed."""
    csrf: str = ""
    """What a change must carry, when it was a browser's cookie that said who it is."""
    database_away: Exception | None = None
    """Why it could not be found out who they are."""


def admitted(scope: ASGIScope) -> Admitted:
    """Get at what the guard found out; nobody, where it does not stand."""
    found: Admitted = scope.get(_ADMITTED) or Admitted()
    return found


class Guard:
    """Finds out who asks, before anything of the request is read, and limits how often.

    A credential that does not open is refused here. Whether one is needed, and which scopes, the
    routes say.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application whose ``state.crm`` is set."""
        self._app = app

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Leave the answer in the scope, or raise a problem."""
        if scope["type"] == "http" and scope["path"] not in UNGUARDED:
            state: WebState = scope["app"].state.crm
            asked = HTTPConnection(scope)
            try:
                scope[_ADMITTED] = await identify(asked, state.access)
            except DATABASE_AWAY as error:
                scope[_ADMITTED] = Admitted(database_away=error)
            _limit(scope, state.access)
            refuse_forgery(asked, sure=bool(admitted(scope).csrf))
        await self._app(scope, receive, send)


async def identify(asked: HTTPConnection, access: Access) -> Admitted:
    """Find out who asks. Raises a problem for a credential that does not open."""
    presented = _presented(asked.headers)
    if presented is not None:
        actor = await access.actor(presented)
        if actor is None:
            if wait := access.attempts.take(address_of(asked.scope)):
                raise too_many(wait)
            raise unauthorized()
        return Admitted(actor)
    if await access.configured():
        signed_in = await access.sessions.identify(asked)
        return Admitted(*signed_in) if signed_in else Admitted()
    client = asked.client.host if asked.client else ""
    if not (access.on_loopback and is_loopback(client)):
        return Admitted()
    if not _names_this_machine(asked.headers.get("host", "")):
        # A page from elsewhere whose name was made to resolve to 127.0.0.1 (DNS rebinding).
        detail = "While no credential exists, the service answers to localhost and 127.0.0.1 only."
        raise ProblemError(403, "Forbidden", detail)
    return Admitted(LOCAL)


async def still_allowed(asked: HTTPConnection, scope: Scope) -> bool:
    """Tell whether whoever began a request that lasts may still have what the scope allows."""
    state: WebState = asked.scope["app"].state.crm
    try:
        actor = (await identify(asked, state.access)).actor
    except ProblemError:
        return False
    except DATABASE_AWAY:
        return True  # nothing new comes from it meanwhile, and it is asked again
    return actor is not None and scope in actor.scopes


def _presented(headers: Mapping[str, str]) -> str | None:
    if (key := headers.get("x-api-key")) is not None:
        return key.strip()
    if (header := headers.get("authorization")) is None:
        return None
    kind, _, value = header.partition(" ")
    return value.strip() if kind.lower() == "bearer" else ""


def _names_this_machine(host: str) -> bool:
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


def _limit(scope: ASGIScope, access: Access) -> None:
    actor = admitted(scope).actor
    caller = actor.ref if actor and actor is not LOCAL else address_of(scope)
    if scope["path"] not in _UNLIMITED and (wait := access.requests.take(caller)):
        raise too_many(wait)


def refuse_forgery(asked: HTTPConnection, *, sure: bool) -> None:
    """Refuse what a page of another origin makes a browser send.

    ``sure``: also what does not say where it comes from, as every browser does.
    """
    if asked.scope["method"] in _READING:
        return
    site, origin = asked.headers.get("sec-fetch-site"), asked.headers.get("origin")
    if site is None and origin is not None:
        same = urlsplit(origin).netloc == asked.headers.get("host")
    else:
        same = site in {"same-origin", "none"} or (site is None and not sure)
    if not same:
        raise ProblemError(403, "Forbidden", "Pages of other origins may not change anything here.")


def refuse_unproven(request: Request, proof: str | None) -> None:
    """Refuse a change with a browser's cookie, unless ``proof`` shows that a page of ours sent it.

    Whoever makes a dependency that gives the actor calls this.
    """
    expected = admitted(request.scope).csrf
    if request.method in _READING or not expected:
        return
    if not hmac.compare_digest((proof or "").encode(), expected.encode()):
        detail = "This page is older than your sign-in. Load it again, and repeat what you did."
        raise ProblemError(403, "Forbidden", detail)


def unauthorized() -> ProblemError:
    """Refuse who is not known: the same words, whatever is wrong with the credential."""
    return ProblemError(
        401,
        "Unauthorized",
        "This needs a valid API key, as `Authorization: Bearer crm_…` or as `X-API-Key`.",
        headers={"WWW-Authenticate": "Bearer"},
    )


_BEARER = HTTPBearer(scheme_name="bearer", auto_error=False, description="An API key, `crm_…`.")
_HEADER = APIKeyHeader(name="X-API-Key", scheme_name="header", auto_error=False)


async def _actor(
    request: Request,
    needed: SecurityScopes,
    _bearer: Annotated[object, Security(_BEARER)],  # these two are for the OpenAPI document
    _header: Annotated[object, Security(_HEADER)],
) -> Actor:
    who = admitted(request.scope)
    if who.database_away:
        raise who.database_away
    if who.actor is None:
        raise unauthorized()
    refuse_unproven(request, request.headers.get(CSRF_HEADER))
    for scope in needed.scopes:
        if scope not in who.actor.scopes:
            detail = f"This needs a credential with the scope `{scope}`, which yours has not."
            raise ProblemError(403, "Forbidden", detail)
    return who.actor


def require(scope: Scope) -> Any:
    """Make a dependency that gives the request's actor, or refuses the request."""
    return Security(_actor, scopes=[scope.value])


async def _scraper(request: Request) -> None:
    access = state_of(request).access
    # `crm_up` 0 tells more than no answer; on other addresses somebody unknown might read it.
    if not (admitted(request.scope).database_away and access.on_loopback):
        needed = SecurityScopes([Scope.READ.value])
        await _actor(request, needed, None, None)


Reader = Annotated[Actor, require(Scope.READ)]
Writer = Annotated[Actor, require(Scope.WRITE)]
Exporter = Annotated[Actor, require(Scope.EXPORT)]
Admin = Annotated[Actor, require(Scope.ADMIN)]
Scraper = Annotated[None, Security(_scraper)]
