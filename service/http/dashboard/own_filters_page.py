"""``/filter-fields``: add filters by own fields to the list."""

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from service.db.customers.own_fields.field_filter import PREFIX
from service.http.dashboard.filter_form import own_controls
from service.http.dashboard.list_query import ListQuery
from service.http.dashboard.own_field_words import own_fields_of
from service.http.dashboard.render import page
from service.http.dashboard.viewer import Form, Viewer

router = APIRouter(prefix="/filter-fields", include_in_schema=False)


@router.get("")
async def nothing_chosen() -> Response:
    """Redirect to the list, because its form has the other filters."""
    return RedirectResponse("/", status_code=303)


@router.post("")
async def ask(request: Request, actor: Viewer, fields: Form) -> Response:
    """Show a control for each filter by an own field. The other filters of the list stay."""
    own = await own_fields_of(request)
    wanted = ListQuery.read(fields, own).with_()
    named = wanted.fields
    return page(
        request,
        actor,
        "own_filters.html",
        back=wanted.address,
        others=[each for each in named if not each[0].startswith(PREFIX)],
        values={name: value for name, value in named if name.startswith(PREFIX)},
        wrong=wanted.wrong,
        controls=own_controls(own),
    )
