"""``/api/v1/customers``: the list, and one customer created, read, edited and erased."""

from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from starlette.responses import Response

from service.core.cursor import BadCursorError
from service.core.customer_ids import customer_number
from service.core.segment_rules import Segment
from service.db.customers import customer_list, editing
from service.db.customers.customer_list import Page
from service.db.customers.filters import Filter
from service.db.customers.sorting import Sort
from service.db.engine import in_transaction
from service.http.api.customer_edits import columns, hold
from service.http.api.date_ranges import moment
from service.http.api.schemas import Customer, CustomerPatch, Customers, NewCustomer
from service.http.auth.guard import Reader, Writer
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, Fault, Problem, ProblemError, invalid
from service.http.state import aged_snapshot, snapshot, state_of

router = APIRouter(prefix="/api/v1/customers", tags=["customers"], responses=DOCUMENTED)

NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such customer."}
}
_CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "Another customer has this e-mail."}
}
_PRECONDITION: dict[int | str, dict[str, Any]] = {
    412: {"model": Problem, "description": "Edited since it was read; `current` is what it is now."}
}


def _in_path(customer_id: Annotated[str, Path(alias="id", examples=["CUST-1001"])]) -> int:
    number = customer_number(customer_id)
    if number is None:
        raise not_found()
    return number


CustomerNumber = Annotated[int, Depends(_in_path)]
"""The customer's number, from the path; anything that is not an id answers 404."""


def not_found() -> ProblemError:
    """Say that there is no such customer."""
    return ProblemError(404, "Customer not found", "There is no customer with this id.")


def chosen_filter(  # noqa: PLR0913, PLR0917  one parameter a filter
    segment: Annotated[
        list[Segment] | None, Query(description="may be given several times")
    ] = None,
    search: Annotated[
        str,
        Query(max_length=200, description="a part of name, e-mail, phone or notes, or an id"),
    ] = "",
    date_from: Annotated[str | None, Query(alias="dateFrom")] = None,
    date_to: Annotated[str | None, Query(alias="dateTo")] = None,
    last_order_from: Annotated[str | None, Query(alias="lastOrderFrom")] = None,
    last_order_to: Annotated[str | None, Query(alias="lastOrderTo")] = None,
    spent_from: Annotated[Decimal | None, Query(alias="spentFrom", ge=0, le=10**12)] = None,
    spent_to: Annotated[Decimal | None, Query(alias="spentTo", ge=0, le=10**12)] = None,
) -> Filter:
    """Read the list's filters; days without a time are included as a whole."""
    if "\x00" in search:
        raise invalid("query.search", "contains the character U+0000, which nothing contains")
    return Filter(
        segments=tuple(segment or ()),
        search=search,
        date_from=moment(date_from, "query.dateFrom"),
        date_to=moment(date_to, "query.dateTo", end=True),
        last_order_from=moment(last_order_from, "query.lastOrderFrom"),
        last_order_to=moment(last_order_to, "query.lastOrderTo", end=True),
        spent_from=spent_from,
        spent_to=spent_to,
    )


ChosenFilter = Annotated[Filter, Depends(chosen_filter)]


@router.get("", response_model=Customers)
async def list_customers(
    request: Request,
    _: Reader,
    wanted: ChosenFilter,
    sort: Annotated[
        str, Query(pattern=f"^-?({'|'.join(Sort)})$", description="`-` sorts descending")
    ] = "-dateCreated",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(max_length=2000)] = None,
) -> Response:
    """List customers. `nextCursor` leads to the next page, stable while orders pour in."""
    page = Page(Sort(sort.removeprefix("-")), sort.startswith("-"), limit, cursor)
    async with aged_snapshot(request) as connection:
        try:
            found = await customer_list.find(connection, wanted, page)
        except BadCursorError:
            raise invalid("query.cursor", "is not a cursor of this list and sorting") from None
    return Json({"items": found.items, "total": found.total, "nextCursor": found.next_cursor})


@router.post("", status_code=201, response_model=Customer, responses=_CONFLICT)
async def create_customer(request: Request, actor: Writer, body: NewCustomer) -> Response:
    """Enter a customer by hand. What is typed here outranks every event, for ever."""

    async def work(connection: Any) -> dict[str, Any]:
        with _edit_errors():
            customer_id = await editing.create(connection, actor.name, columns(body), hold(body))
        return dict(await customer_list.read(connection, customer_id) or {})

    row = await in_transaction(state_of(request).engine, work)
    answer = customer_list.customer_json(row)
    headers = {"ETag": editing.etag(row), "Location": f"/api/v1/customers/{answer['id']}"}
    return Json(answer, status_code=201, headers=headers)


@router.get("/{id}", response_model=Customer, responses=NOT_FOUND)
async def read_customer(request: Request, _: Reader, number: CustomerNumber) -> Response:
    """Read a customer. The `ETag` covers what can be edited; orders do not change it."""
    async with snapshot(request) as connection:
        row = await customer_list.read(connection, number)
    if row is None:
        raise not_found()
    return Json(customer_list.customer_json(dict(row)), headers={"ETag": editing.etag(dict(row))})


@router.patch("/{id}", response_model=Customer, responses=NOT_FOUND | _CONFLICT | _PRECONDITION)
async def edit_customer(
    request: Request,
    actor: Writer,
    number: CustomerNumber,
    body: CustomerPatch,
    if_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Change a customer. With `If-Match`, only if nobody has edited them since they were read."""
    for required in ("name", "email"):
        if required in body.model_fields_set and getattr(body, required) is None:
            raise invalid(_in_body(required), "must not be null")

    async def work(connection: Any) -> dict[str, Any]:
        with _edit_errors():
            await editing.edit(connection, actor.name, number, columns(body), hold(body), if_match)
        return dict(await customer_list.read(connection, number) or {})

    row = await in_transaction(state_of(request).engine, work)
    return Json(customer_list.customer_json(row), headers={"ETag": editing.etag(row)})


@router.delete("/{id}", status_code=204, responses=NOT_FOUND)
async def erase_customer(request: Request, actor: Writer, number: CustomerNumber) -> Response:
    """Erase a person: profile, notes, interactions, edits, dead letters; not their orders.

    The orders stay, nameless. No replay of old events brings the person back; orders that they
    place from now on do.
    """

    async def work(connection: Any) -> None:
        with _edit_errors():
            await editing.delete(connection, actor.name, number)

    await in_transaction(state_of(request).engine, work)
    return Response(status_code=204)


class _edit_errors:  # noqa: N801  used like a function
    """Turn the errors of editing into problems."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise the problem that says what was wrong."""
        if isinstance(error, editing.CustomerNotFoundError):
            raise not_found() from None
        if isinstance(error, editing.EmailTakenError):
            detail = f"{error.args[0]} has this e-mail; e-mails are compared without case."
            fault = Fault(where="body.email", message=detail)
            raise ProblemError(409, "E-mail taken", detail, [fault]) from None
        if isinstance(error, editing.ChangedMeanwhileError):
            raise ProblemError(
                412,
                "Edited meanwhile",
                "Somebody edited this customer since you read it; `current` is what it is now.",
                current=customer_list.customer_json(error.args[0]),
            ) from None
        if isinstance(error, editing.InvalidEditError):
            field, message = error.args
            raise invalid(_in_body(field), message) from None


def _in_body(field: str) -> str:
    return f"body.{field}"
