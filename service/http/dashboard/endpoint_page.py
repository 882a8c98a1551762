"""``/operations/endpoints/…``: add an endpoint, look at it, change, pause, repeat and remove it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from service.core.endpoints import OVERLAP, EventKind
from service.core.scopes import Actor
from service.db.operations import endpoints
from service.db.operations.endpoints import Endpoint
from service.db.store_clock import read_store_clock
from service.http.api.endpoints import (
    EndpointNumber,
    NewWebhook,
    RenewRequest,
    WebhookChanges,
    changed,
    decide,
    read,
    registered,
    renewed,
)
from service.http.dashboard.customer_form import faults_of
from service.http.dashboard.formats import store_clock
from service.http.dashboard.render import done, page
from service.http.dashboard.viewer import Admin, Form
from service.http.forms import values_of
from service.http.problems import ProblemError, invalid
from service.http.state import snapshot

router = APIRouter(prefix="/operations/endpoints", include_in_schema=False)

_LIST = "/operations#endpoints"
_INVALID, _FULL = 422, 409
_BOTH = tuple(EventKind)


@router.get("/new")
async def ask_for_new(request: Request, actor: Admin) -> Response:
    """Ask for the URL of another system."""
    return _form(request, actor, _Entered())


@router.post("/new")
async def add(request: Request, actor: Admin, fields: Form) -> Response:
    """Register an endpoint and show its secret, which no other page shows."""
    entered = _Entered.read(fields)
    try:
        body = NewWebhook.model_validate(entered._asdict())
        endpoint, secret = await registered(request, actor, body)
    except (ValidationError, ProblemError) as error:
        return _form(request, actor, entered, faults=_faults(error))
    return _secret(request, actor, endpoint, secret, "Endpoint added")


@router.get("/{id}/edit")
async def ask_for_changes(request: Request, actor: Admin, number: EndpointNumber) -> Response:
    """Ask what to change of an endpoint."""
    endpoint = await read(request, number)
    entered = _Entered(endpoint.url, endpoint.description, tuple(endpoint.events))
    return _form(request, actor, entered, endpoint)


@router.post("/{id}/edit")
async def change(request: Request, actor: Admin, number: EndpointNumber, fields: Form) -> Response:
    """Change an endpoint. It goes on where it is."""
    entered = _Entered.read(fields)
    try:
        body = WebhookChanges.model_validate(entered._asdict())
        different = await changed(request, actor, number, body)
    except (ValidationError, ProblemError) as error:
        faults = _faults(error)
        return _form(request, actor, entered, await read(request, number), faults=faults)
    return done(_LIST, "saved" if different else "unchanged")


@router.post("/{id}/secret")
async def renew_secret(request: Request, actor: Admin, number: EndpointNumber, _: Form) -> Response:
    """Sign with a new secret and show it."""
    secret = await renewed(request, actor, number, RenewRequest())
    endpoint = await read(request, number)
    return _secret(request, actor, endpoint, secret, "New secret")


class _Entered(NamedTuple):
    """What the form of an endpoint has."""

    url: str = ""
    description: str = ""
    events: tuple[str, ...] = _BOTH

    @classmethod
    def read(cls, fields: Form) -> Self:
        """Read a form."""
        events = tuple(values_of(fields).get("events", ()))
        return cls(fields.get("url", "").strip(), fields.get("description", ""), events)


def _faults(error: ValidationError | ProblemError) -> dict[str, str]:
    """Return a fault for each control. Raises any problem that is none of the form's."""
    if isinstance(error, ValidationError):
        faults = faults_of(error)
        if "events" in faults:
            faults["events"] = "Choose at least one kind."
        return {name: f"This {why}." if name != "events" else why for name, why in faults.items()}
    problem = error.problem
    if problem.status == _FULL:
        return {"": problem.detail}
    if problem.status != _INVALID:
        raise error
    return {"url": f"This URL {problem.errors[0].message}."}


def _form(
    request: Request,
    actor: Actor,
    entered: _Entered,
    endpoint: Endpoint | None = None,
    *,
    faults: Mapping[str, str] | None = None,
) -> Response:
    """Show the form of a new endpoint, or of one to change."""
    return page(
        request,
        actor,
        "endpoint_form.html",
        status=_INVALID if faults else 200,
        endpoint=endpoint,
        entered=entered,
        faults=faults or {},
    )


def _secret(
    request: Request, actor: Actor, endpoint: Endpoint, secret: str, heading: str
) -> Response:
    return page(
        request,
        actor,
        "endpoint_secret.html",
        heading=heading,
        endpoint=endpoint,
        secret=secret,
        overlap_hours=OVERLAP // timedelta(hours=1),
    )


@router.get("/{id}")
async def show(request: Request, actor: Admin, number: EndpointNumber) -> Response:
    """Show an endpoint, and what can be done about it."""
    async with snapshot(request) as connection:
        await store_clock(request, connection)
    endpoint = await read(request, number)
    return page(
        request,
        actor,
        "endpoint.html",
        heading=endpoint.description or endpoint.host,
        back="/operations",
        width="narrow",
        endpoint=endpoint,
    )


@router.post("/{id}/pause")
async def pause(request: Request, actor: Admin, number: EndpointNumber, fields: Form) -> Response:
    """Send nothing more for now."""
    why = fields.get("why", "").replace("\x00", "").strip()[:500]
    if not why:
        raise invalid("why", "is missing")
    paused = await decide(request, endpoints.pause, number, actor.name, why)
    return done(_LIST, "endpoint-paused" if paused else "unchanged")


@router.post("/{id}/resume")
async def resume(request: Request, actor: Admin, number: EndpointNumber, _: Form) -> Response:
    """Go on sending."""
    await decide(request, endpoints.resume, number, actor.name)
    return done(_LIST, "endpoint-resumed")


@router.post("/{id}/replay")
async def replay(request: Request, actor: Admin, number: EndpointNumber, fields: Form) -> Response:
    """Send everything since a time again. The control sends it without a zone: the store's."""
    async with snapshot(request) as connection:
        zone = (await read_store_clock(connection)).zone
    try:
        since = datetime.fromisoformat(fields.get("since", "")).replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        raise invalid("since", "is no date and time") from None
    skip = False
    await decide(request, endpoints.replay, number, since, actor.name, skip)
    return done(_LIST, "endpoint-replayed")


@router.post("/{id}/remove")
async def remove(request: Request, actor: Admin, number: EndpointNumber, _: Form) -> Response:
    """Forget the endpoint."""
    await decide(request, endpoints.remove, number, actor.name)
    return done(_LIST, "endpoint-removed")
