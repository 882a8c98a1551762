"""Dependencies of pages: the permission that a page needs, and the form that was sent to it."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import Depends, Request

from service.core.scopes import Actor, Scope
from service.http.auth.caller import caller_of
from service.http.auth.guard import require_on_page
from service.http.forms import read_form


def csrf_token(request: Request) -> str:
    """Return the token that forms send as `csrf` and scripts as `X-CSRF-Token`.

    It is empty if the caller needs none.
    """
    return caller_of(request.scope).csrf


Form = Annotated[Mapping[str, str], Depends(read_form)]
Viewer = Annotated[Actor, require_on_page(Scope.READ)]
Editor = Annotated[Actor, require_on_page(Scope.WRITE)]
Exporter = Annotated[Actor, require_on_page(Scope.EXPORT)]
Eraser = Annotated[Actor, require_on_page(Scope.ERASE)]
Admin = Annotated[Actor, require_on_page(Scope.ADMIN)]
