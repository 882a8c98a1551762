"""``/operations/endpoints/…``: look at an endpoint, pause, resume, repeat and remove it."""

from datetime import UTC, datetime

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.db.operations import endpoints
from service.db.store_clock import read_store_clock
from service.http.api.endpoints import EndpointNumber, decide, read
from service.http.dashboard.formats import store_clock
from service.http.dashboard.render import done, page
from service.http.dashboard.viewer import Admin, Form
from service.http.problems import invalid
from service.http.state import snapshot

router = APIRouter(prefix="/operations/endpoints/{id}", include_in_schema=False)

_LIST = "/operations#endpoints"


@router.get("")
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


@router.post("/pause")
async def pause(request: Request, actor: Admin, number: EndpointNumber, fields: Form) -> Response:
    """Send nothing more for now."""
    why = fields.get("why", "").replace("\x00", "").strip()[:500]
    if not why:
        raise invalid("why", "is missing")
    paused = await decide(request, endpoints.pause, number, actor.name, why)
    return done(_LIST, "endpoint-paused" if paused else "unchanged")


@router.post("/resume")
async def resume(request: Request, actor: Admin, number: EndpointNumber, _: Form) -> Response:
    """Go on sending."""
    await decide(request, endpoints.resume, number, actor.name)
    return done(_LIST, "endpoint-resumed")


@router.post("/replay")
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


@router.post("/remove")
async def remove(request: Request, actor: Admin, number: EndpointNumber, _: Form) -> Response:
    """Forget the endpoint."""
    await decide(request, endpoints.remove, number, actor.name)
    return done(_LIST, "endpoint-removed")
