"""``/bulk-segment``: set the segment of the selected customers of the list, or of all of them."""

from collections.abc import Mapping

from fastapi import APIRouter, Request
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import RedirectResponse, Response

from service.core.scopes import Actor
from service.db.customers import editing
from service.db.customers.customer_list import Page, count, count_hits, find_ids
from service.db.customers.editing import HoldEdit
from service.db.customers.filters import Filter
from service.db.customers.sorting import Sort
from service.db.engine import in_transaction
from service.http.api.customer_json import CustomerPatch, hold
from service.http.auth.guard import within
from service.http.budgets import PREVIEWS
from service.http.dashboard.customer_form import Values, blank, fault_at, faults_of, patch
from service.http.dashboard.formats import store_clock
from service.http.dashboard.list_query import ListQuery
from service.http.dashboard.own_field_words import own_fields_of
from service.http.dashboard.render import done, page
from service.http.dashboard.viewer import Editor, Form
from service.http.state import snapshot, state_of

router = APIRouter(prefix="/bulk-segment", include_in_schema=False)

MOST_CUSTOMERS = 500
"""Customers whose segment can be set at once. They stay locked meanwhile: for about two seconds."""
_INVALID = 422


@router.get("")
async def nothing_chosen() -> Response:
    """Redirect to the list, because without its form nobody is chosen."""
    return RedirectResponse("/", status_code=303)


@router.post("", dependencies=[within(PREVIEWS)])
async def ask(request: Request, actor: Editor, fields: Form) -> Response:
    """Say how many customers it would be, and ask for the segment."""
    return await _show(request, actor, fields, blank(), {})


@router.post("/apply", dependencies=[within(PREVIEWS)])
async def apply(request: Request, actor: Editor, fields: Form) -> Response:
    """Set the segment, or show the form again with its mistakes."""
    values = blank() | {name: fields.get(name, "") for name in ("segment", "keep", "until")}
    values["segment"] = fields.get("set", "")
    async with snapshot(request) as connection:
        clock = await store_clock(request, connection)
    wanted = ListQuery.read(fields, await own_fields_of(request))
    if wanted.wrong:
        return await _show(request, actor, fields, values, {})
    chosen = wanted.filter(clock)
    try:
        edit = hold(CustomerPatch.model_validate(patch(values, ["segment"], clock.zone)))
        changed = await in_transaction(
            state_of(request).engine, _set_segments, actor.name, chosen, edit
        )
    except ValidationError as error:
        return await _show(request, actor, fields, values, faults_of(error))
    except editing.InvalidEditError as error:
        return await _show(request, actor, fields, values, fault_at(*error.args))
    if changed is None:
        return await _show(request, actor, fields, values, {})
    return done("/", "segments-set")


async def _set_segments(
    connection: AsyncConnection, actor: str, chosen: Filter, edit: HoldEdit
) -> int | None:
    """Set the segment of all customers of a filter. None if there are too many of them."""
    ids, more = await find_ids(connection, chosen, Page(Sort.DATE_CREATED, limit=MOST_CUSTOMERS))
    if more:
        return None
    for customer in sorted(ids):
        await editing.edit(connection, actor, customer, {}, edit, None)
    return len(ids)


async def _show(
    request: Request,
    actor: Actor,
    fields: Mapping[str, str],
    values: Values,
    faults: Mapping[str, str],
) -> Response:
    wanted = ListQuery.read(fields, await own_fields_of(request))
    async with snapshot(request) as connection:
        chosen = wanted.filter(await store_clock(request, connection))
        customers = await count(connection, chosen, await count_hits(connection, chosen))
    return page(
        request,
        actor,
        "bulk_segment.html",
        status=_INVALID if faults or wanted.wrong or customers > MOST_CUSTOMERS else 200,
        wanted=wanted,
        customers=customers,
        most=MOST_CUSTOMERS,
        values=values,
        faults=faults,
    )
