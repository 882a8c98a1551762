"""``/customers/{id}/identifiers…`` and ``…/not-a-person``: staff say what means a customer.

What names a person stands in the bodies of forms, never in an address.
"""

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from service.core.customer_ids import customer_ref
from service.core.identifiers import IdentifierKind
from service.core.scopes import Actor
from service.http.api.customer_routes import CustomerNumber, existing
from service.http.api.identifiers import bring_back, give, marked, take_away, unmarked
from service.http.api.naming import Named, normalised
from service.http.dashboard.customer_form import faults_of
from service.http.dashboard.render import done, page
from service.http.dashboard.viewer import Editor, Form
from service.http.problems import ProblemError
from service.http.state import snapshot

router = APIRouter(include_in_schema=False)

_TAKEN, _INVALID, _MISSING = 409, 422, 404
_OF_CUSTOMER = "/customers/{id}"


@router.get(f"{_OF_CUSTOMER}/identifiers/new")
async def ask_for_new(request: Request, actor: Editor, number: CustomerNumber) -> Response:
    """Ask for an e-mail, a phone or an external id of the customer."""
    return await _form(request, actor, number, {})


@router.post(f"{_OF_CUSTOMER}/identifiers/new")
async def add(request: Request, actor: Editor, number: CustomerNumber, fields: Form) -> Response:
    """Add it, or say who has it already."""
    kind = fields.get("kind", "")
    source = fields.get("source", "") if kind == IdentifierKind.EXTERNAL else None
    try:
        named = Named(kind=kind, value=fields.get("value", ""), source=source or None)
        await give(request, actor.name, number, normalised(request, named))
    except ValidationError as error:
        fault = next(iter(faults_of(error).values()))
        return await _form(request, actor, number, fields, f"This {fault}")
    except ProblemError as error:
        problem = error.problem
        if problem.status == _INVALID:
            fault = problem.errors[0].message
            return await _form(request, actor, number, fields, f"This {fault}")
        if problem.status != _TAKEN:
            raise
        owner = problem.model_dump().get("owner")
        fault = f"{owner} has this already" if owner else "This is marked as not a person"
        return await _form(request, actor, number, fields, fault, owner)
    return done(f"/customers/{customer_ref(number)}", "identifier-added")


async def _form(
    request: Request,
    actor: Actor,
    number: int,
    entered: Form,
    fault: str = "",
    owner: str | None = None,
) -> Response:
    async with snapshot(request) as connection:
        row = await existing(request, connection, number)
    return page(
        request,
        actor,
        "identifier.html",
        status=_INVALID if fault else 200,
        id=customer_ref(number),
        c=row,
        entered=entered,
        fault=fault,
        owner=owner,
    )


@router.post(f"{_OF_CUSTOMER}/identifiers/remove")
async def remove(request: Request, actor: Editor, number: CustomerNumber, fields: Form) -> Response:
    """Take an identifier away that no order came with."""
    await take_away(request, actor.name, number, fields.get("identifier", ""))
    return done(f"/customers/{customer_ref(number)}#known-by", "identifier-removed")


@router.post(f"{_OF_CUSTOMER}/identifiers/restore")
async def restore(
    request: Request, actor: Editor, number: CustomerNumber, fields: Form
) -> Response:
    """Take back an identifier that the same person has just removed."""
    await bring_back(request, actor.name, number, fields.get("identifier", ""))
    return done(f"/customers/{customer_ref(number)}#known-by", "identifier-restored")


@router.get(f"{_OF_CUSTOMER}/not-a-person")
async def lead_back(_: Editor, number: CustomerNumber) -> Response:
    """Lead to the profile, because an address does not say which identifier was meant."""
    return RedirectResponse(f"/customers/{customer_ref(number)}", status_code=303)


@router.post(f"{_OF_CUSTOMER}/not-a-person")
async def mark(request: Request, actor: Editor, number: CustomerNumber, fields: Form) -> Response:
    """Say what a mark would do; do it once it was confirmed."""
    identifier = normalised(request, Named(identifier=fields.get("identifier") or "-"))
    if fields.get("confirm") == "yes":
        outcome = await marked(request, actor.name, identifier, dry_run=False)
        return done(
            "/duplicates" if outcome.gone else f"/customers/{customer_ref(number)}", "marked"
        )
    async with snapshot(request) as connection:
        row = await existing(request, connection, number)
    would = await marked(request, actor.name, identifier, dry_run=True)
    return page(
        request,
        actor,
        "not_a_person.html",
        id=customer_ref(number),
        c=row,
        identifier=identifier,
        would=would,
    )


@router.post("/not-a-person/undo")
async def unmark(request: Request, actor: Editor, fields: Form) -> Response:
    """Take a mark away."""
    identifier = normalised(request, Named(identifier=fields.get("identifier") or "-"))
    try:
        await unmarked(request, actor.name, identifier, dry_run=False)
    except ProblemError as error:
        if error.problem.status != _MISSING:
            raise
        return done("/duplicates", "unchanged")
    return done("/duplicates", "unmarked")
