"""``/operations/shop-requests/…``: answer what a shop asks about its customers' data."""

import time
from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from service.core.hooks import ShopRequest
from service.core.scopes import Actor
from service.db.customers import shop_erasure, shop_requests
from service.db.customers.shop_erasure import ShopCustomers
from service.db.customers.shop_requests import KeptRequest, NoSuchRequestError
from service.db.engine import in_transaction
from service.http.dashboard.formats import store_clock
from service.http.dashboard.render import done, page
from service.http.dashboard.viewer import Admin, Eraser, Form
from service.http.problems import ProblemError
from service.http.state import snapshot, state_of

router = APIRouter(prefix="/operations/shop-requests/{id}", include_in_schema=False)

RequestNumber = Annotated[int, Path(alias="id", ge=1, lt=2**63)]
_LIST = "/operations#asked"
_INVALID = 422
_STEP_SECONDS = 3.0
_PAGE = 500


@router.get("/erase")
async def ask(request: Request, actor: Eraser, number: RequestNumber) -> Response:
    """Show who would be erased, and ask for the shop's domain."""
    return await _page(request, actor, number)


@router.post("/erase")
async def erase(request: Request, actor: Eraser, number: RequestNumber, fields: Form) -> Response:
    """Erase customers for some seconds, then say how many are left.

    The page sends the form again until nobody is left. Closing the page stops the erasure; sending
    the form again continues it.
    """
    engine = state_of(request).engine
    domain = (await _read(request, number)).domain
    if fields.get("confirm", "").strip().lower() != domain.lower():
        return await _page(request, actor, number, fault=f"Type {domain}, exactly as it is here.")
    if "begun" not in fields:
        async with engine.begin() as connection:
            found = await shop_erasure.count_customers(connection, domain)
            await shop_erasure.note_start(connection, number, domain, found.only_here, actor.name)
    ends = time.monotonic() + _STEP_SECONDS
    async with engine.connect() as connection:
        waiting = await shop_erasure.next_customers(connection, domain, _PAGE)
    for customer_id in waiting:
        await in_transaction(engine, shop_erasure.erase_one, domain, customer_id, actor.name)
        if time.monotonic() > ends:
            break
    async with engine.connect() as connection:
        left = await shop_erasure.count_customers(connection, domain)
    if left.only_here or left.elsewhere:
        return await _page(request, actor, number, found=left)
    await in_transaction(engine, shop_requests.close, number, actor.name)
    return done(_LIST, "shop-erased")


@router.post("/close")
async def close(request: Request, actor: Admin, number: RequestNumber, _: Form) -> Response:
    """Note, in the name of the person, that what a shop asked about somebody's data is done."""
    closed = await in_transaction(state_of(request).engine, shop_requests.close, number, actor.name)
    return done(_LIST, "request-closed" if closed else "unchanged")


async def _page(
    request: Request,
    actor: Actor,
    number: int,
    *,
    fault: str = "",
    found: ShopCustomers | None = None,
) -> Response:
    """Show the form. ``found``: who is left after a step."""
    asked = await _read(request, number)
    async with snapshot(request) as connection:
        await store_clock(request, connection)
        counted = found or await shop_erasure.count_customers(connection, asked.domain)
    return page(
        request,
        actor,
        "shop_erasure.html",
        status=_INVALID if fault else 200,
        asked=asked,
        found=counted,
        fault=fault,
        begun=found is not None,
    )


async def _read(request: Request, number: int) -> KeptRequest:
    try:
        async with state_of(request).engine.connect() as connection:
            asked = await shop_requests.open_request(connection, number)
    except NoSuchRequestError:
        asked = None
    if asked is None or asked.kind != ShopRequest.ERASE_SHOP:
        detail = "No shop asks for this any more; perhaps somebody has marked it as done."
        raise ProblemError(404, "Request not found", detail)
    return asked
