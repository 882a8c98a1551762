"""``/api/v1/views``: filters with a name, how many customers they choose, and who these are."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from service.core.numbers import whole_number
from service.core.scopes import Actor
from service.db.customers.customer_filter import CustomerFilter
from service.db.customers.views import counts, saved
from service.db.customers.views.counts import ViewCount
from service.db.customers.views.ready_made import ready_made
from service.db.customers.views.saved import LONGEST_NAME, View, ViewNotFoundError
from service.db.engine import in_transaction
from service.http.api.csv_export import CSV_ANSWER, exported
from service.http.api.cursors import LONGEST_CURSOR, Limit, SealedCursors
from service.http.api.customer_json import Customers
from service.http.api.customer_search import SORT_PATTERN, CustomerSearch, answer_search
from service.http.api.models import Camel, Collection, NotBlank, Storable, collection
from service.http.api.own_filters import refuse_misfits
from service.http.auth.guard import Exporter, Reader, Writer, within
from service.http.budgets import EXPORTS
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, Fault, Problem, ProblemError
from service.http.state import snapshot, state_of

router = APIRouter(prefix="/api/v1/views", tags=["views"], responses=DOCUMENTED)

_DIGITS = 15
_NO_VIEW: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such view that you can see."}
}
_TAKEN: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "You have another view of this name."}
}
ViewKey = Annotated[str, Path(alias="id", max_length=100, examples=["12", "no-email"])]
ViewName = Annotated[Storable, NotBlank, Field(max_length=LONGEST_NAME)]


class ViewBody(Camel):
    """A view to save."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Wholesale without an order in spring",
                    "filter": {"tagsAny": ["Wholesale"], "lastOrderBefore": 90},
                    "sort": "-totalSpent",
                    "shared": True,
                }
            ]
        }
    )

    name: ViewName
    filter: CustomerFilter = Field(description="As for a list.")
    sort: str = Field(saved.DEFAULT_SORT, pattern=SORT_PATTERN, description="As for a list.")
    shared: bool = Field(default=False, description="Whether everybody sees it.")


class ViewChange(Camel):
    """By how much the number of customers changed."""

    customers: int
    since: date = Field(description="The day of the store that it is compared with.")
    days: int | None = Field(
        description="7, or null if the view has not been counted for so long; see `since`."
    )


class ViewJson(Camel):
    """A view."""

    model_config = ConfigDict(
        title="View",
        json_schema_extra={
            "examples": [
                {
                    "id": "no-email",
                    "name": "No e-mail",
                    "description": "Nobody can write to them.",
                    "readyMade": True,
                    "shared": True,
                    "owner": None,
                    "filter": {"hasEmail": False},
                    "sort": "-dateCreated",
                    "customers": 1204,
                    "countedAt": "2026-11-28T10:00:00Z",
                    "change": {"customers": 14, "since": "2026-11-21", "days": 7},
                }
            ]
        },
    )

    id: str
    name: str
    description: str
    ready_made: bool = Field(
        description="Every shop has it. Nobody can change it; it follows the settings."
    )
    shared: bool
    owner: str | None
    filter: dict[str, Any]
    sort: str
    customers: int | None = Field(description="When it was last counted. Null: not counted yet.")
    counted_at: datetime | None
    change: ViewChange | None = Field(description="Null: it was counted on one day only.")


class Views(Collection):
    """The views that you can see: those that every shop has, then others by name."""

    items: list[ViewJson]


class Position(Camel):
    """Which page of a view's customers to return."""

    limit: Limit = 50
    cursor: str | None = Field(None, max_length=LONGEST_CURSOR)


@router.get("", response_model=Views)
async def list_views(request: Request, actor: Reader) -> Response:
    """List views with the numbers of their customers. Workers count every ten minutes, or seldomer.

    Your own views are those of your API key.
    """
    async with snapshot(request) as connection:
        views = await visible_views(connection, actor)
        counted = await counts.read_counts(connection, views)
    return Json(collection([view_json(view, counted) for view in views]))


@router.post("", status_code=201, response_model=ViewJson, responses=_TAKEN)
async def save_view(request: Request, actor: Writer, body: ViewBody) -> Response:
    """Save a filter under a name."""
    view_id = await created(request, actor, body)
    return Json(await _read(request, actor, str(view_id)), status_code=201)


@router.get("/{id}", response_model=ViewJson, responses=_NO_VIEW)
async def read_view(request: Request, actor: Reader, key: ViewKey) -> Response:
    """Return a view."""
    return Json(await _read(request, actor, key))


@router.put("/{id}", response_model=ViewJson, responses=_NO_VIEW | _TAKEN)
async def change_view(request: Request, actor: Writer, key: ViewKey, body: ViewBody) -> Response:
    """Change a view. With another filter, its counts begin anew."""
    await changed(request, actor, key, body)
    return Json(await _read(request, actor, key))


@router.delete("/{id}", status_code=204, responses=_NO_VIEW)
async def delete_view(request: Request, actor: Writer, key: ViewKey) -> Response:
    """Delete a view. Its customers stay."""
    await deleted(request, actor, key)
    return Response(status_code=204)


@router.get("/{id}/customers", response_model=Customers, responses=_NO_VIEW)
async def list_customers_of_view(
    request: Request,
    actor: Reader,
    cursors: SealedCursors,
    key: ViewKey,
    position: Annotated[Position, Query()],
) -> Response:
    """List the customers of a view, as `GET /api/v1/customers` does with its filter and order."""
    async with snapshot(request) as connection:
        view = await find_view(connection, actor, key)
    search = CustomerSearch.model_validate(
        {**view.filter.stored, "sort": view.sort, **position.model_dump()}
    )
    return await answer_search(request, cursors, search, "query.cursor")


@router.get(
    "/{id}/export.csv",
    response_class=Response,
    responses=CSV_ANSWER | _NO_VIEW,
    dependencies=[within(EXPORTS)],
)
async def export_view(request: Request, actor: Exporter, key: ViewKey) -> Response:
    """Export the customers of a view as CSV, as `GET /api/v1/customers/export.csv` does."""
    async with snapshot(request) as connection:
        view = await find_view(connection, actor, key)
    await refuse_misfits(request, view.filter, "view")
    return await exported(request, actor, view.filter.chosen)


async def visible_views(connection: AsyncConnection, actor: Actor) -> list[View]:
    """Return the views that somebody sees: those that every shop has, then others by name."""
    return [*await ready_made(connection), *await saved.visible(connection, actor)]


async def find_view(connection: AsyncConnection, actor: Actor, key: str) -> View:
    """Return a view that somebody sees. Raises a problem."""
    for view in await ready_made(connection):
        if view.key == key:
            return view
    try:
        return await saved.read(connection, _number(key), actor)
    except ViewNotFoundError:
        raise _no_view() from None


async def created(request: Request, actor: Actor, body: ViewBody) -> int:
    """Save a view and return its id. Raises a problem."""
    await refuse_misfits(request, body.filter, "body.filter")

    async def create(connection: AsyncConnection) -> int:
        return await saved.create(
            connection, actor, body.name, body.filter, body.sort, shared=body.shared
        )

    try:
        return await in_transaction(state_of(request).engine, create)
    except saved.NameTakenError:
        raise _name_taken() from None


async def changed(request: Request, actor: Actor, key: str, body: ViewBody) -> None:
    """Change a view. Raises a problem."""
    await _refuse_ready_made(request, key)
    await refuse_misfits(request, body.filter, "body.filter")

    async def change(connection: AsyncConnection) -> None:
        await saved.update(
            connection,
            actor,
            _number(key),
            body.name,
            body.filter,
            body.sort,
            shared=body.shared,
        )

    try:
        await in_transaction(state_of(request).engine, change)
    except ViewNotFoundError:
        raise _no_view() from None
    except saved.NotYourViewError:
        raise _not_yours() from None
    except saved.NameTakenError:
        raise _name_taken() from None


async def deleted(request: Request, actor: Actor, key: str) -> None:
    """Delete a view. Raises a problem."""
    await _refuse_ready_made(request, key)
    try:
        await in_transaction(state_of(request).engine, saved.delete, actor, _number(key))
    except ViewNotFoundError:
        raise _no_view() from None
    except saved.NotYourViewError:
        raise _not_yours() from None


async def _read(request: Request, actor: Actor, key: str) -> dict[str, Any]:
    async with snapshot(request) as connection:
        view = await find_view(connection, actor, key)
        return view_json(view, await counts.read_counts(connection, [view]))


async def _refuse_ready_made(request: Request, key: str) -> None:
    async with snapshot(request) as connection:
        ready = {view.key for view in await ready_made(connection)}
    if key in ready:
        detail = "Every shop has this view, and nobody can change it. Save one of your own."
        raise ProblemError(409, "Cannot be changed", detail)


def _number(key: str) -> int:
    number = whole_number(key, _DIGITS)
    if number is None:
        raise _no_view()
    return number


def _no_view() -> ProblemError:
    return ProblemError(404, "View not found", "There is no view with this id that you can see.")


def _not_yours() -> ProblemError:
    detail = "This view is somebody else's. Only they and admins may change it."
    return ProblemError(403, "Forbidden", detail)


def _name_taken() -> ProblemError:
    detail = "You have another view of this name. Choose another name."
    return ProblemError(409, "Name taken", detail, [Fault(where="body.name", message=detail)])


def view_json(view: View, counted: Mapping[str, ViewCount]) -> dict[str, Any]:
    """Return the JSON of a view."""
    count = counted.get(view.key)
    change = count and count.change
    return {
        "id": view.key,
        "name": view.name,
        "description": view.description,
        "readyMade": view.ready_made,
        "shared": view.shared,
        "owner": view.owner,
        "filter": view.filter.stored,
        "sort": view.sort,
        "customers": count and count.customers,
        "countedAt": count and count.counted_at,
        "change": change
        and {
            "customers": change.customers,
            "since": change.since.isoformat(),
            "days": counts.DAYS if change.whole else None,
        },
    }
