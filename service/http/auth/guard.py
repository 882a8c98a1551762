"""Steps 2 and 3: the checks of every request, and those that a route asks for."""

import hmac
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote, urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer, SecurityScopes
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as ASGIScope

from service.core.scopes import LOCAL, Actor, Scope
from service.db.engine import DATABASE_AWAY
from service.http.auth.caller import (
    Caller,
    caller_of,
    identify,
    limited_as,
    remember_caller,
    unauthorized,
)
from service.http.auth.cookies import device_token
from service.http.auth.local_mode import is_loopback
from service.http.budgets import Work
from service.http.forms import read_form
from service.http.problems import ProblemError, database_unavailable, log_database_error
from service.http.rate_limits import address_of, too_many
from service.http.state import WebState, state_of
from service.http.uploads import Upload

UNGUARDED = frozenset({"/livez", "/readyz"})
"""Orchestrators ask these. They have no credential, and must always get an answer."""

CSRF_HEADER = "X-CSRF-Token"

_UNLIMITED = frozenset({"/metrics"})
_TO_SIGN_IN = ("/sign-in", "/static/")
_HOOKS = "/hooks/"
"""Webhooks. Their signatures say who sends them; an API key or a session would say nothing."""
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """Step 2: identify callers before the body is read, and limit how often they may ask.

    It refuses wrong credentials. The routes decide whether a credential is needed, and with which
    scope.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Store the caller with the request, or raise a problem."""
        if scope["type"] == "http" and scope["path"] not in UNGUARDED:
            request = HTTPConnection(scope)
            state = state_of(request)
            bucket = address_of(scope)
            try:
                signed = scope["path"].startswith(_HOOKS)
                caller = Caller() if signed else await identify(request, state)
                bucket = await _bucket(request, caller, state)
            except DATABASE_AWAY as error:
                log_database_error(error)
                caller = Caller(identified=False)
            remember_caller(scope, caller)
            if scope["path"] not in _UNLIMITED and (wait := state.request_rate.take(bucket)):
                raise too_many(wait)
            refuse_other_origins(request, strict=bool(caller.csrf))
        await self._app(scope, receive, send)


async def _bucket(request: HTTPConnection, caller: Caller, state: WebState) -> str:
    """Return the name of the bucket that a request takes a token from.

    Strangers have two for each address. So a program that sends too many requests without a key
    does not keep the people at its address from signing in. A browser in which somebody has signed
    in before has one of its own.
    """
    if caller.actor and caller.actor is not LOCAL:
        return caller.actor.ref
    address = address_of(request.scope)
    if not request.scope["path"].startswith(_TO_SIGN_IN):
        return address
    token = device_token(request)
    if token and await state.credentials.find_device(token):
        return f"device {token.digest.hex()}"
    return f"sign-in {address}"


def refuse_other_origins(request: HTTPConnection, *, strict: bool) -> None:
    """Refuse a change that a page of another origin makes a browser send.

    ``strict`` also refuses a request that does not say where it comes from. Browsers always do;
    programs with an API key do not.
    """
    if request.scope["method"] in _READING:
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is None and origin is not None:
        same = urlsplit(origin).netloc == request.headers.get("host")
    else:
        same = site in {"same-origin", "none"} or (site is None and not strict)
    if not same:
        detail = (
            "Pages of other origins may not change anything here. Send this from a page of this "
            "service, or from a program with an API key."
        )
        raise ProblemError(403, "Forbidden", detail)


# --- Step 3, of the API

_BEARER = HTTPBearer(scheme_name="bearer", auto_error=False, description="An API key, `crm_…`.")
_HEADER = APIKeyHeader(name="X-API-Key", scheme_name="header", auto_error=False)


async def _api_actor(
    request: Request,
    needed: SecurityScopes,
    _bearer: Annotated[object, Security(_BEARER)],  # these two are for the OpenAPI document
    _header: Annotated[object, Security(_HEADER)],
) -> Actor:
    """Return the actor of an API request, or raise a problem."""
    caller = identified_caller(request)
    if caller.actor is None:
        raise unauthorized(await state_of(request).credentials.access())
    _check_csrf_token(request, caller, request.headers.get(CSRF_HEADER))
    if lacking := _lacking_scope(caller.actor, needed.scopes):
        raise lacks_scope(lacking)
    return caller.actor


def lacks_scope(scope: Scope) -> ProblemError:
    """Return the problem for a caller without a scope that the route needs."""
    detail = f"This needs a credential with the scope `{scope}`, and yours does not have it."
    return ProblemError(403, "Forbidden", detail)


def require(scope: Scope) -> Any:
    """Return a dependency for API routes: the actor, who must have this scope."""
    return Security(_api_actor, scopes=[scope.value])


async def _scraper(request: Request) -> None:
    """Let readers in; while the database is away, let anybody on this machine in.

    Nobody can be identified then, but `crm_up 0` tells Prometheus more than an error does. On other
    addresses, strangers could read the metrics.
    """
    config = state_of(request).config
    if caller_of(request.scope).identified or not is_loopback(config.http_host):
        await _api_actor(request, SecurityScopes([Scope.READ.value]), None, None)


Reader = Annotated[Actor, require(Scope.READ)]
Writer = Annotated[Actor, require(Scope.WRITE)]
Exporter = Annotated[Actor, require(Scope.EXPORT)]
Eraser = Annotated[Actor, require(Scope.ERASE)]
Admin = Annotated[Actor, require(Scope.ADMIN)]
Scraper = Annotated[None, Security(_scraper)]

# --- Step 3, of the dashboard's pages

_RIGHTS = {
    Scope.READ: "look at customers",
    Scope.WRITE: "change customers",
    Scope.EXPORT: "export customers",
    Scope.ERASE: "delete customers",
    Scope.ADMIN: "administer",
}


async def _page_actor(request: Request, needed: SecurityScopes) -> Actor:
    """Return the actor who is signed in. Others get the sign-in page or a problem."""
    caller = identified_caller(request)
    if caller.actor is None:
        raise _sign_in_first(request)
    if caller.csrf and request.method not in _READING:
        sent = request.headers.get(CSRF_HEADER) or (await read_form(request)).get("csrf")
        _check_csrf_token(request, caller, sent)
    _check_page_scopes(caller.actor, needed.scopes)
    return caller.actor


def _check_page_scopes(actor: Actor, needed: Sequence[str]) -> None:
    if lacking := _lacking_scope(actor, needed):
        detail = f"Your account may not {_RIGHTS[lacking]}. An admin can allow it."
        raise ProblemError(403, "Not allowed", detail)


def require_on_page(scope: Scope) -> Any:
    """Return a dependency for pages: the actor who is signed in, who must have this scope."""
    return Security(_page_actor, scopes=[scope.value])


class SentFile(NamedTuple):
    """A form with a file that somebody with the scope `write` sends, and who they are."""

    actor: Actor
    upload: Upload


async def _page_upload(request: Request) -> SentFile:
    """Open a form with a file. The token must stand before the file, which is not stored else."""
    caller = identified_caller(request)
    if caller.actor is None:
        raise _sign_in_first(request)
    upload, refusal = None, None
    try:
        upload = await Upload.opened(request)
    except ProblemError as error:  # whoever has no token does not learn what is wrong with the form
        refusal = error
    sent = request.headers.get(CSRF_HEADER) or (upload.text("csrf") if upload else None)
    _check_csrf_token(request, caller, sent)
    _check_page_scopes(caller.actor, [Scope.WRITE.value])
    if upload is None:
        raise refusal or AssertionError
    return SentFile(caller.actor, upload)


PageUpload = Annotated[SentFile, Depends(_page_upload)]


def _sign_in_first(request: Request) -> ProblemError:
    """Return the redirect to the sign-in page, which leads back to the page that was asked for.

    After a form was sent, it leads back to the page with the form. The browser's tab keeps what was
    typed, and that page's script puts it back.
    """
    location = "/sign-in"
    page = urlsplit(str(request.url))
    if request.method not in {"GET", "HEAD"}:
        page = urlsplit(request.headers.get("referer", ""))
        if page.netloc != request.headers.get("host"):
            page = urlsplit("")
    if page.path:
        address = f"{page.path}?{page.query}".removesuffix("?")
        location += f"?next={quote(address, safe='/')}"
    return ProblemError(303, "Sign in", "Sign in first.", headers={"Location": location})


# --- Checks of both kinds of route


def within(work: Work) -> Any:
    """Return a dependency: the route is such work, and counts until its answer is sent.

    Raises a problem, before the route does anything, if the caller has no room for more.
    """

    async def running(request: Request) -> AsyncIterator[None]:
        with state_of(request).budgets.spend(work, limited_as(request.scope)):
            yield

    return Depends(running)


def identified_caller(request: Request) -> Caller:
    """Return the caller. Raises the problem 503 if the database could not say who it is."""
    caller = caller_of(request.scope)
    if not caller.identified:
        raise database_unavailable()
    return caller


def _check_csrf_token(request: Request, caller: Caller, sent: str | None) -> None:
    """Refuse a change with a session cookie but without the token that only our pages know.

    A change with an API key needs no token, because browsers never add a key on their own.
    """
    if request.method in _READING or not caller.csrf:
        return
    if not hmac.compare_digest((sent or "").encode(), caller.csrf.encode()):
        detail = "This page is older than your sign-in. Load it again, and repeat what you did."
        raise ProblemError(403, "Forbidden", detail)


def _lacking_scope(actor: Actor, needed: Sequence[str]) -> Scope | None:
    """Return the first needed scope that the actor does not have, or None if they have all."""
    return next((Scope(scope) for scope in needed if scope not in actor.scopes), None)
