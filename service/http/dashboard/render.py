"""Pages: templates, the headers that every page has, and what all templates know."""

import gzip
import hashlib
import re
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, RedirectResponse, Response

from service.core.customer_ids import customer_ref
from service.core.scopes import LOCAL, Actor, Scope
from service.core.segment_rules import Segment
from service.http.auth.caller import caller_of
from service.http.dashboard.formats import formats_of
from service.http.dashboard.viewer import csrf_token
from service.http.problems import Problem, ProblemError
from service.http.state import state_of

_FOLDER = Path(__file__).parent / "static"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FILES = {path.name: path.read_bytes() for path in sorted(_FOLDER.iterdir())}
_COMPRESSED = {name: gzip.compress(body, mtime=0) for name, body in _FILES.items()}
_VERSIONS = {name: hashlib.sha256(body).hexdigest()[:12] for name, body in _FILES.items()}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    # Without a referrer browsers send forms with `Origin: null`, even to where they came from.
    "Referrer-Policy": "same-origin",
}
_SAID = "crm_said"
_WORDS = {
    "created": "Customer created.",
    "saved": "Changes saved.",
    "unchanged": "Nothing was changed.",
    "deleted": "Customer deleted. Their orders stay, without a name.",
    "noted": "Noted.",
    "removed": "Interaction removed.",
    "rules-saved": "Settings saved. Customers are being judged by them now.",
    "replayed": "Replayed: the entry is applied.",
    "refused": "Replayed, and refused again: it stays a dead letter.",
    "discarded": "Dead letter discarded.",
    "signed-out": "You are signed out.",
}
"""What a page says once after something was done. The cookie names it; it never carries text."""

_environment = Environment(
    loader=PackageLoader("service.http.dashboard"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.globals |= {"Segment": Segment, "Scope": Scope}

router = APIRouter(include_in_schema=False)


@router.get("/static/{name}")
async def static(request: Request, name: str) -> Response:
    """Give a file of the dashboard. Its address changes with what is in it.

    Pages themselves are not compressed: what they reflect beside a secret could be guessed by
    their length (BREACH, https://breachattack.com).
    """
    body = _FILES.get(name)
    if body is None:
        raise ProblemError(404, "Not found", "There is no such file.")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        body, headers["Content-Encoding"] = _COMPRESSED[name], "gzip"
    return Response(body, media_type=_TYPES[Path(name).suffix], headers=headers)


def asset(name: str) -> str:
    """Write the address of a static file."""
    return f"/static/{name}?v={_VERSIONS[name]}"


def coded(words: str) -> Markup:
    """Show what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(words))))  # noqa: S704  escaped


_environment.globals["asset"] = asset
_environment.filters["coded"] = coded
_environment.filters["customer_ref"] = customer_ref


def page(
    request: Request,
    actor: Actor | None,
    template: str,
    *,
    status: int = 200,
    **known: Any,
) -> Response:
    """Render a page for whoever asks; every address gives a whole one, dialogs too."""
    state = state_of(request)
    said = request.cookies.get(_SAID, "")
    body = _environment.get_template(template).render(
        path=request.url.path,
        actor=actor,
        may=lambda scope: actor is not None and scope in actor.scopes,
        local=actor is LOCAL,
        csrf=csrf_token(request),
        f=formats_of(request, state.config.store_currency),
        said=_WORDS.get(said, ""),
        **known,
    )
    response = HTMLResponse(body, status_code=status, headers=_HEADERS)
    if said:
        response.delete_cookie(_SAID, httponly=True, samesite="strict")
    return response


def done(where: str, said: str) -> Response:
    """Lead to a page that says once that something was done; ``said`` is a key of the words."""
    assert said in _WORDS  # noqa: S101  names are written in this package only
    response = RedirectResponse(where, status_code=303)
    response.set_cookie(_SAID, said, max_age=30, httponly=True, samesite="strict")
    return response


def local_path(address: str, otherwise: str = "/") -> str:
    """Give an address of this site that a form or link named; anything else becomes another."""
    fine = address.startswith("/") and not address.startswith(("//", "/\\"))
    return address if fine and "\\" not in address and address.isprintable() else otherwise


def problem_page(request: Request, problem: Problem, headers: dict[str, str]) -> Response:
    """Show a problem to somebody who looks at pages."""
    actor = caller_of(request.scope).actor
    response = page(request, actor, "problem.html", status=problem.status, problem=problem)
    response.headers.update(headers)
    return response
