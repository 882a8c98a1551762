"""Render pages: the templates, the values that all of them get, and the headers of every page."""

import gzip
import hashlib
import re
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.meta import find_referenced_templates
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, RedirectResponse, Response

from service.core.counting import why_not_counted
from service.core.customer_ids import customer_ref
from service.core.scopes import LOCAL, Actor, Scope
from service.core.segment_rules import Segment
from service.http.auth.caller import caller_of
from service.http.dashboard import words
from service.http.dashboard.formats import formats_of
from service.http.dashboard.view import COLUMNS, COOKIE, PREDICTED, Theme, View
from service.http.dashboard.viewer import csrf_token
from service.http.problems import Problem, ProblemError

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
    # Without a referrer, browsers send `Origin: null` with forms, also to the same site.
    "Referrer-Policy": "same-origin",
}
_MESSAGE_COOKIE = "crm_said"
_MESSAGES = {
    "created": "Customer created.",
    "saved": "Changes saved.",
    "unchanged": "Nothing was changed.",
    "deleted": "Customer deleted. Their orders stay, without a name.",
    "merged": "Merged. This is the customer who stays.",
    "split": "Split into two customers.",
    "separated": "They stay two customers, and are no longer listed here.",
    "marked": "Marked as not a person. Its orders belong to nobody now.",
    "unmarked": "The mark is taken away. Its orders belong to a customer again.",
    "identifier-added": "Identifier added.",
    "identifier-removed": "Identifier removed. For an hour you can undo that, where it was.",
    "identifier-restored": "The identifier is back.",
    "assigned": "The order belongs to the customer now.",
    "unassigned": "The order is no longer assigned to the customer.",
    "view-saved": "View saved. A worker counts its customers in a moment.",
    "view-replaced": "View updated. A worker counts its customers in a moment.",
    "view-deleted": "View deleted. Its customers stay.",
    "tags-changed": "Tags changed.",
    "tag-renamed": "Tag renamed.",
    "tags-merged": "Tags merged.",
    "tag-deleted": "Tag deleted.",
    "field-added": "Field added. Edit a customer to fill it in.",
    "field-deleted": "Field deleted with all its values.",
    "bulk-done": "Done. You can undo it below.",
    "bulk-undone": "Undone.",
    "interaction-added": "Interaction added.",
    "interaction-removed": "Removed. For an hour you can undo that, where it was.",
    "interaction-restored": "It is back.",
    "loss-acknowledged": "Loss acknowledged.",
    "request-closed": "Request marked as done.",
    "shop-erased": "All customers of the shop are erased, and the request is done.",
    "foreign-acknowledged": "Acknowledged.",
    "endpoint-paused": "Paused. Nothing is sent until somebody resumes it.",
    "endpoint-resumed": "Resumed. What it has missed comes first.",
    "endpoint-replayed": "The events will be sent again.",
    "endpoint-removed": "Endpoint removed.",
    "segments-set": "The segments are set.",
    "rules-saved": "Settings saved. They are being applied now.",
    "replayed": "Retried: the entry is applied.",
    "refused": "Retried, and refused again. It stays a dead letter.",
    "discarded": "Dead letter discarded.",
    "letters-discarded": "Dead letters discarded.",
    "contacted": "Marked as contacted. Export whom to contact below.",
    "fit-wanted": "A worker fits the model anew within a minute.",
    "import-deleted": "The file is deleted. Nothing was imported.",
    "signed-out": "You are signed out.",
}
"""What a page says once after an action. The cookie holds the key, never the text."""

_INDENTATION = re.compile(r"\n +(?=<(?!/(textarea|pre|code)))")
"""The templates' indentation, which would be a tenth of a page. Texts of people are escaped, so no
line of theirs begins with ``<``, and what ends a text keeps the blanks before it."""

_LOADER = PackageLoader("service.http.dashboard")
_environment = Environment(
    loader=_LOADER,
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

router = APIRouter(include_in_schema=False)


@router.get("/static/{name}")
async def static(request: Request, name: str) -> Response:
    """Return a static file. Its address changes with its contents, so browsers may keep it.

    Pages themselves are not compressed: the length of a compressed page that reflects input beside
    a secret reveals the secret (BREACH, https://breachattack.com).
    """
    body = _FILES.get(name)
    if body is None:
        raise ProblemError(404, "Not found", "There is no such file.")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        body, headers["Content-Encoding"] = _COMPRESSED[name], "gzip"
    return Response(body, media_type=_TYPES[Path(name).suffix], headers=headers)


def asset(name: str) -> str:
    """Return the address of a static file."""
    return f"/static/{name}?v={_VERSIONS[name]}"


def coded(text: str) -> Markup:
    """Return a text as markup. Text between backticks becomes code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  escaped


_environment.globals |= {
    "Segment": Segment,
    "Scope": Scope,
    "Theme": Theme,
    "COLUMNS": COLUMNS,
    "PREDICTED": PREDICTED,
    "asset": asset,
    "causes": words.CAUSES,
    "kinds": words.INTERACTIONS,
    "reasons_alike": words.ALIKE,
}
_environment.filters |= {
    "coded": coded,
    "sentence": words.sentence,
    "status": words.status,
    "why_not_counted": why_not_counted,
    "reason": words.reason,
    "flag": words.flag,
    "action": words.action,
    "by": words.by,
    "person": words.person,
    "customer_ref": customer_ref,
    "outcome": words.outcome,
    "called": words.called,
    "import_state": words.import_state,
    "size": words.size_of,
    "identifier_kind": words.identifier_kind,
    "identifier_value": words.identifier_value,
}


_FIRST_PAGES = (
    "customers.html",
    "customer.html",
    "insight.html",
    "insight_lacking.html",
    "retention.html",
    "operations.html",
)


def compile_first_pages() -> None:
    """Compile the pages that people open first, with what they include."""
    waiting, compiled = list(_FIRST_PAGES), set[str]()
    while waiting:
        name = waiting.pop()
        if name not in compiled:
            compiled.add(name)
            _environment.get_template(name)
            source, _, _ = _LOADER.get_source(_environment, name)
            used = find_referenced_templates(_environment.parse(source))
            waiting += [each for each in used if each]


def page(
    request: Request,
    actor: Actor | None,
    template: str,
    *,
    status: int = 200,
    **values: Any,
) -> Response:
    """Render a whole page. Dialogs are whole pages too, for browsers without scripts."""
    message = request.cookies.get(_MESSAGE_COOKIE, "")
    body = _environment.get_template(template).render(
        path=request.url.path,
        actor=actor,
        may=lambda scope: actor is not None and scope in actor.scopes,
        local=actor is LOCAL,
        csrf=csrf_token(request),
        f=formats_of(request),
        view=View.read(request.cookies.get(COOKIE, "")),
        here=_address(request),
        message=_MESSAGES.get(message, ""),
        **values,
    )
    response = HTMLResponse(_INDENTATION.sub("\n", body), status_code=status, headers=_HEADERS)
    if message:
        response.delete_cookie(_MESSAGE_COOKIE, httponly=True, samesite="strict")
    return response


def _address(request: Request) -> str:
    """Return the address of the page, for forms that come back to it."""
    if request.method != "GET":
        return "/"
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{request.url.path}{query}"


def done(where: str, message: str) -> Response:
    """Redirect to a page that shows a message once. ``message`` is a key of `_MESSAGES`."""
    assert message in _MESSAGES  # noqa: S101  names are written in this package only
    response = RedirectResponse(where, status_code=303)
    response.set_cookie(_MESSAGE_COOKIE, message, max_age=30, httponly=True, samesite="strict")
    return response


def local_path(address: str, otherwise: str = "/") -> str:
    """Return the address if it is on this site, else ``otherwise``. Prevents open redirects."""
    fine = address.startswith("/") and not address.startswith(("//", "/\\"))
    return address if fine and "\\" not in address and address.isprintable() else otherwise


def problem_page(request: Request, problem: Problem, headers: dict[str, str]) -> Response:
    """Show a problem as a page."""
    actor = caller_of(request.scope).actor
    response = page(request, actor, "problem.html", status=problem.status, problem=problem)
    response.headers.update(headers)
    return response
