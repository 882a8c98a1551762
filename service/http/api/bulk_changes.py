"""``/api/v1/bulk-changes``: tag all customers of a filter at once, and undo that."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from pydantic import ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from service.core.bulk_change import BulkKind
from service.core.numbers import whole_number
from service.db.customers.customer_filter import CustomerFilter
from service.db.customers.filters import Filter
from service.db.customers.tags import bulk
from service.db.customers.tags.bulk import MOST_CUSTOMERS, BulkChange
from service.db.engine import in_transaction
from service.db.store_clock import StoreClock, read_store_clock
from service.http.api.models import Camel, Collection, collection
from service.http.api.own_filters import refuse_misfits
from service.http.api.tags import TagName
from service.http.auth.guard import Reader, Writer, within
from service.http.budgets import PREVIEWS
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, Problem, ProblemError, invalid
from service.http.state import snapshot, state_of

router = APIRouter(prefix="/api/v1/bulk-changes", tags=["tags"], responses=DOCUMENTED)

_DIGITS = 15
_LISTED = 50
_OTHER_NUMBER: dict[int | str, dict[str, Any]] = {
    409: {
        "model": Problem,
        "description": "It would change another number of customers than `expected`; nothing was "
        "changed. `customers` is that number.",
    }
}
_NO_CHANGE: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such bulk change."},
    409: {"model": Problem, "description": "It cannot be undone, or was undone already."},
}


def _number(change: Annotated[str, Path(examples=["7"])]) -> int:
    number = whole_number(change, _DIGITS)
    if number is None:
        raise _no_change()
    return number


ChangeId = Annotated[int, Depends(_number)]


class BulkOrder(Camel):
    """A change to make to all customers of a filter."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"kind": "add_tag", "tag": "Wholesale", "filter": {"ordersFrom": 10}}]
        }
    )

    kind: BulkKind
    tag: TagName
    filter: CustomerFilter = Field(description="As for a list. `{}` means all customers.")


class ExpectedBulkOrder(BulkOrder):
    """The same, and how many customers it should change."""

    expected: int | None = Field(
        None,
        ge=0,
        description="How many customers the preview said. If they are others by now, nothing is "
        "changed.",
    )


class BulkPreview(Camel):
    """What a bulk change would do."""

    tag: str = Field(description="The tag's name as it is, or would be.", examples=["Wholesale"])
    matching: int = Field(description="Customers of the filter.")
    customers: int = Field(description="Of these, those whom it would change.")
    most: int = Field(description="More than these cannot be changed at once.")


class BulkChangeJson(Camel):
    """A bulk change."""

    model_config = ConfigDict(
        title="BulkChange",
        json_schema_extra={
            "examples": [
                {
                    "id": "7",
                    "at": "2026-11-22T10:00:00Z",
                    "by": "jane@example.com",
                    "kind": "add_tag",
                    "tag": "Wholesale",
                    "customers": 1204,
                    "undoneAt": None,
                    "undoneBy": None,
                    "canBeUndone": True,
                }
            ]
        },
    )

    id: str
    at: datetime
    by: str
    kind: BulkKind
    tag: str = Field(description="Its name then.")
    customers: int = Field(description="Whom it changed. Others had the tag already, or had not.")
    undone_at: datetime | None
    undone_by: str | None
    can_be_undone: bool


class BulkChanges(Collection):
    """The latest bulk changes, the latest first."""

    items: list[BulkChangeJson]


@router.get("", response_model=BulkChanges)
async def list_bulk_changes(request: Request, _: Reader) -> Response:
    """List the 50 latest bulk changes."""
    async with snapshot(request) as connection:
        latest = await bulk.latest(connection, _LISTED)
    return Json(collection([_json(change) for change in latest]))


@router.post("/preview", response_model=BulkPreview, dependencies=[within(PREVIEWS)])
async def preview_bulk_change(request: Request, _: Reader, body: BulkOrder) -> Response:
    """Say how many customers a bulk change would change. Nothing is changed."""
    await refuse_misfits(request, body.filter, "body.filter")
    async with snapshot(request) as connection:
        chosen = body.filter.chosen(await read_store_clock(connection))
        would = await bulk.preview(connection, chosen, body.kind, body.tag)
    return Json(
        {
            "tag": would.tag,
            "matching": would.matching,
            "customers": would.changing,
            "most": MOST_CUSTOMERS,
        }
    )


@router.post(
    "",
    status_code=201,
    response_model=BulkChangeJson,
    responses=_OTHER_NUMBER,
    dependencies=[within(PREVIEWS)],
)
async def make_bulk_change(request: Request, actor: Writer, body: ExpectedBulkOrder) -> Response:
    """Give a tag to all customers of a filter, or take it away. `…/undo` undoes exactly that."""
    await refuse_misfits(request, body.filter, "body.filter")
    done = await made(request, actor.name, body.filter.chosen, body.kind, body.tag, body.expected)
    return Json(_json(done), status_code=201)


async def made(
    request: Request,
    actor: str,
    choose: Callable[[StoreClock], Filter],
    kind: BulkKind,
    tag: str,
    expected: int | None,
) -> BulkChange:
    """Make a bulk change of the customers that ``choose`` returns. Raises a problem."""

    async def make(connection: AsyncConnection) -> BulkChange:
        chosen = choose(await read_store_clock(connection))
        return await bulk.apply(connection, chosen, kind, tag, actor, expected)

    try:
        return await in_transaction(state_of(request).engine, make)
    except bulk.OtherNumberError as error:
        detail = (
            f"It would change {error.args[0]:,} customers now, and not {expected:,}. Nothing was "
            "changed; look at the preview again."
        )
        raise ProblemError(
            409, "Another number of customers", detail, customers=error.args[0]
        ) from None
    except bulk.TooManyCustomersError as error:
        raise too_many(error.args[0]) from None
    except ValueError as error:
        raise invalid("body.tag", str(error)) from None


def too_many(customers: int) -> ProblemError:
    """Return the problem for a bulk change of too many customers."""
    return invalid(
        "body.filter",
        f"chooses {customers:,} customers to change, and {MOST_CUSTOMERS:,} can be changed at "
        "once; add a filter, such as by when they were created",
    )


@router.post("/{change}/undo", response_model=BulkChangeJson, responses=_NO_CHANGE)
async def undo_bulk_change(request: Request, actor: Writer, number: ChangeId) -> Response:
    """Undo a bulk change: exactly the customers whom it changed, as far as nobody else has since.

    Who lost a tag by hand after the change gave it, or got it by hand after the change took it,
    stays as they are.
    """
    await undone(request, actor.name, number)
    async with snapshot(request) as connection:
        return Json(_json(await bulk.read(connection, number)))


async def undone(request: Request, actor: str, number: int) -> int:
    """Undo a bulk change; return how many customers that changed. Raises a problem."""
    try:
        return await in_transaction(state_of(request).engine, bulk.undo, number, actor)
    except bulk.BulkNotFoundError:
        raise _no_change() from None
    except bulk.CannotUndoError as error:
        detail = f"This cannot be undone: {error.args[0]}."
        raise ProblemError(409, "Cannot be undone", detail) from None


def _no_change() -> ProblemError:
    return ProblemError(404, "Bulk change not found", "There is no bulk change with this id.")


def _json(change: BulkChange) -> dict[str, Any]:
    return {
        "id": str(change.id),
        "at": change.at,
        "by": change.actor,
        "kind": change.kind,
        "tag": change.tag,
        "customers": change.customers,
        "undoneAt": change.undone_at,
        "undoneBy": change.undone_by,
        "canBeUndone": change.can_be_undone,
    }
