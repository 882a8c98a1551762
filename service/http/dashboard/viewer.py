"""What pages may be seen and forms sent by whom: `service.http.auth.guard`, for pages."""

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Request, Security
from fastapi.security import SecurityScopes

from service.core.scopes import Actor, Scope
from service.http.auth.guard import CSRF_HEADER, admitted, refuse_unproven
from service.http.problems import ProblemError, invalid

_RIGHTS = {
    Scope.READ: "look at customers",
    Scope.WRITE: "change customers",
    Scope.EXPORT: "export customers",
    Scope.ADMIN: "administer",
}


def csrf_token(request: Request) -> str:
    """Give what a form must send as `csrf`, or a script as `X-CSRF-Token`; empty: nothing."""
    return admitted(request.scope).csrf


async def form(request: Request) -> Mapping[str, str]:
    """Read a form's fields, the last of each name. Raises a problem for what is no text."""
    fields: dict[str, str] = {}
    for name, value in (await request.form(max_files=0)).multi_items():
        if not isinstance(value, str) or not _is_text(value):
            raise invalid(name, "this is no text")
        fields[name] = value
    return fields


async def _actor(request: Request, needed: SecurityScopes) -> Actor:
    who = admitted(request.scope)
    if who.database_away:
        raise who.database_away
    if who.actor is None:
        raise _sign_in_first(request)
    if who.csrf and request.method not in {"GET", "HEAD"}:
        sent = request.headers.get(CSRF_HEADER)
        refuse_unproven(request, sent or (await form(request)).get("csrf"))
    for scope in needed.scopes:
        if scope not in who.actor.scopes:
            detail = f"Your account has no right to {_RIGHTS[Scope(scope)]}. An admin can give it."
            raise ProblemError(403, "Not allowed", detail)
    return who.actor


def _sign_in_first(request: Request) -> ProblemError:
    where = "/sign-in"
    if request.method in {"GET", "HEAD"}:  # what a form sent is gone by the time they come back
        asked = f"{request.url.path}?{request.url.query}".removesuffix("?")
        where += f"?next={quote(asked, safe='/')}"
    return ProblemError(303, "Sign in", "Sign in first.", headers={"Location": where})


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return "\0" not in value


def _require(scope: Scope) -> Any:
    return Security(_actor, scopes=[scope.value])


Form = Annotated[Mapping[str, str], Depends(form)]
Viewer = Annotated[Actor, _require(Scope.READ)]
Editor = Annotated[Actor, _require(Scope.WRITE)]
Exporter = Annotated[Actor, _require(Scope.EXPORT)]
Admin = Annotated[Actor, _require(Scope.ADMIN)]
