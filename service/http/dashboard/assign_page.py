"""``/operations/assign``: staff give an order without a customer to one, or undo that."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from service.core.customer_ids import customer_number
from service.core.scopes import Actor
from service.db.customers import order_history
from service.http.api.unattributed import assigned, no_order, unassigned
from service.http.dashboard.candidates import candidates
from service.http.dashboard.formats import store_clock
from service.http.dashboard.render import done, page
from service.http.dashboard.viewer import Editor, Form
from service.http.problems import ProblemError
from service.http.state import snapshot

router = APIRouter(prefix="/operations/assign", include_in_schema=False)

_CHANGED = {404, 409, 422}
_LONGEST_ID = 1000


@router.get("")
async def choose(
    request: Request,
    actor: Editor,
    order: Annotated[str, Query(max_length=_LONGEST_ID)],
) -> Response:
    """Ask for the customer."""
    return await _choose(request, actor, order, "")


@router.post("")
async def assign(request: Request, actor: Editor, fields: Form) -> Response:
    """Give the order to the customer who was chosen, or show those whom a search finds."""
    order = fields.get("order", "")
    number = customer_number(fields.get("customer", ""))
    if number is None:
        return await _choose(request, actor, order, fields.get("q", ""))
    try:
        await assigned(request, actor.name, order, number)
    except ProblemError as error:
        if error.problem.status not in _CHANGED:
            raise
        return done("/operations", "unchanged")  # somebody else, or an event, was faster
    return done("/operations", "assigned")


@router.post("/undo")
async def unassign(request: Request, actor: Editor, fields: Form) -> Response:
    """Take the order away from the customer whom it was given."""
    try:
        await unassigned(request, actor.name, fields.get("order", ""))
    except ProblemError as error:
        if error.problem.status not in _CHANGED:
            raise
        return done("/operations", "unchanged")
    return done("/operations", "unassigned")


async def _choose(request: Request, actor: Actor, order_id: str, searched: str) -> Response:
    if "\x00" in order_id:
        raise no_order()
    async with snapshot(request) as connection:
        await store_clock(request, connection)
        order = await order_history.assignable(connection, order_id)
        if order is None:
            raise no_order()
        found = await candidates(connection, searched)
    return page(request, actor, "assign.html", order=order, searched=searched, found=found)
