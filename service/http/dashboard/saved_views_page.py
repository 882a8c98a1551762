"""``/views``: filters with a name, how many customers they choose, and how that changed."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fastapi import APIRouter, Request
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import RedirectResponse, Response

from service.core.own_fields import OwnField
from service.core.scopes import Actor
from service.db.customers.own_fields.catalogue import list_fields
from service.db.customers.views import counts
from service.db.customers.views.counts import ViewCount
from service.db.customers.views.saved import LONGEST_NAME, View
from service.http.api import views
from service.http.api.csv_export import exported
from service.http.api.own_filters import refuse_misfits
from service.http.api.views import ViewBody, ViewKey
from service.http.auth.guard import within
from service.http.budgets import EXPORTS, STATISTICS
from service.http.dashboard.formats import formats_of, store_clock
from service.http.dashboard.list_query import ListQuery
from service.http.dashboard.own_field_words import own_fields_of
from service.http.dashboard.render import done, page
from service.http.dashboard.viewer import Editor, Exporter, Form, Viewer
from service.http.problems import invalid
from service.http.state import snapshot

router = APIRouter(prefix="/views", include_in_schema=False)


class ShownView(NamedTuple):
    """A view, and its list."""

    view: View
    query: ListQuery
    counted: ViewCount | None
    """None: it was not counted yet."""


async def shown_views(
    connection: AsyncConnection, actor: Actor, own: Sequence[OwnField]
) -> list[ShownView]:
    """Return the views that somebody sees, with their counts. ``own`` are the own fields."""
    visible = await views.visible_views(connection, actor)
    counted = await counts.read_counts(connection, visible)
    return [
        ShownView(view, ListQuery.of_filter(view.filter, view.sort, own), counted.get(view.key))
        for view in visible
    ]


@router.get("")
async def show(request: Request, actor: Viewer) -> Response:
    """Show all views."""
    async with snapshot(request) as connection:
        clock = await store_clock(request, connection)
        shown = await shown_views(connection, actor, await list_fields(connection))
    f = formats_of(request)
    return page(
        request,
        actor,
        "views.html",
        views=shown,
        now=clock.now,
        days=counts.DAYS,
        longest_name=LONGEST_NAME,
        filters={each.view.key: each.query.in_words(f) for each in shown},
    )


@router.post("")
async def save(request: Request, actor: Editor, fields: Form) -> Response:
    """Save the list that the form describes under a name."""
    wanted = await _described(request, fields)
    async with snapshot(request) as connection:
        today = (await store_clock(request, connection)).today
    try:
        body = ViewBody(
            name=fields.get("view", ""),
            filter=wanted.to_save(today),
            sort=wanted.order or "-dateCreated",
            shared=fields.get("shared") == "on",
        )
    except ValidationError:
        raise _bad_name() from None
    await views.created(request, actor, body)
    return done("/views", "view-saved")


@router.post("/replace")
async def replace(request: Request, actor: Editor, fields: Form) -> Response:
    """Replace a view's filters and order by those of the form."""
    wanted = await _described(request, fields)
    key = fields.get("replaced", "")
    async with snapshot(request) as connection:
        today = (await store_clock(request, connection)).today
        view = await views.find_view(connection, actor, key)
    body = ViewBody(
        name=view.name,
        filter=wanted.to_save(today),
        sort=wanted.order or "-dateCreated",
        shared=view.shared,
    )
    await views.changed(request, actor, key, body)
    return done(f"/views/{view.key}", "view-replaced")


@router.get("/{id}", dependencies=[within(STATISTICS)])
async def open_view(request: Request, actor: Viewer, key: ViewKey) -> Response:
    """Lead to the list of a view. A search stays out of the address."""
    async with snapshot(request) as connection:
        view = await views.find_view(connection, actor, key)
        own = await list_fields(connection)
    wanted = ListQuery.of_filter(view.filter, view.sort, own)
    return RedirectResponse(wanted.address, status_code=303)


@router.post("/{id}/change")
async def change(request: Request, actor: Editor, key: ViewKey, fields: Form) -> Response:
    """Rename a view, share it, or keep it for oneself."""
    async with snapshot(request) as connection:
        view = await views.find_view(connection, actor, key)
    try:
        body = ViewBody(
            name=fields.get("view", ""),
            filter=view.filter,
            sort=view.sort,
            shared=fields.get("shared") == "on",
        )
    except ValidationError:
        raise _bad_name() from None
    await views.changed(request, actor, key, body)
    return done("/views", "saved")


@router.post("/{id}/delete")
async def delete(request: Request, actor: Editor, key: ViewKey) -> Response:
    """Delete a view."""
    await views.deleted(request, actor, key)
    return done("/views", "view-deleted")


@router.post("/{id}/export", dependencies=[within(EXPORTS)])
async def export(request: Request, actor: Exporter, key: ViewKey, _: Form) -> Response:
    """Export the customers of a view."""
    async with snapshot(request) as connection:
        view = await views.find_view(connection, actor, key)
    await refuse_misfits(request, view.filter, "view")
    return await exported(request, actor, view.filter.chosen)


async def _described(request: Request, fields: Form) -> ListQuery:
    """Return the list that a form describes. Raises a problem for a filter with a wrong value."""
    wanted = ListQuery.read(fields, await own_fields_of(request))
    for name, wrong in wanted.wrong.items():
        raise invalid(name, wrong.why)
    return wanted


def replaceable(shown: list[ShownView], wanted: ListQuery, actor: Actor) -> list[View]:
    """Return the views that somebody may change, the one that is most like the list first."""
    filters = set(wanted.chosen.query.items())

    def likeness(view: View) -> int:
        return len(filters & set(view.filter.query.items()))

    own = [each.view for each in shown if each.view.may_change(actor)]
    return sorted(own, key=likeness, reverse=True)


def current_of(shown: list[ShownView], wanted: ListQuery) -> Mapping[str, bool]:
    """Return for each view whether the list shows it."""
    return {each.view.key: each.query.same_filters(wanted) for each in shown}


def _bad_name() -> Exception:
    return invalid("view", f"needs a name of at most {LONGEST_NAME} characters")
