"""``/api/v1/customers``: create, read and edit a customer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Request
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from service.core.customer_ids import customer_number, customer_ref
from service.db.customers import customer_row, editing
from service.db.customers.customer_row import CustomerRow, etag
from service.db.customers.identity.claims import stays_as
from service.db.engine import in_transaction
from service.http.api.customer_json import (
    Customer,
    CustomerPatch,
    NewCustomer,
    columns,
    customer_json,
    hold,
)
from service.http.auth.guard import Reader, Writer
from service.http.body_limits import LONG_TEXT_BYTES, body_bytes
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, Fault, Problem, ProblemError, invalid
from service.http.state import snapshot, state_of

router = APIRouter(prefix="/api/v1/customers", tags=["customers"], responses=DOCUMENTED)

NOT_FOUND: dict[int | str, dict[str, Any]] = {
    301: {"description": "For `GET`: the customer was merged into the one at `Location`."},
    308: {"description": "For other methods: the same. Send the request there."},
    404: {"model": Problem, "description": "There is no such customer."},
}
_CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {
        "model": Problem,
        "description": "Another customer has this e-mail. `merge` is where to merge the two.",
    }
}
PRECONDITION: dict[int | str, dict[str, Any]] = {
    412: {
        "model": Problem,
        "description": "Edited after you read the customer; `current` is the customer as saved.",
    }
}


def _customer_number(customer_id: Annotated[str, Path(alias="id", examples=["CUST-1001"])]) -> int:
    number = customer_number(customer_id)
    if number is None:
        raise not_found()
    return number


CustomerNumber = Annotated[int, Depends(_customer_number)]
"""The customer number from the path. Any text but a customer id is answered with 404."""


def not_found() -> ProblemError:
    """Return the problem for a customer that does not exist."""
    return ProblemError(404, "Customer not found", "There is no customer with this id.")


async def gone(
    request: Request, number: int, connection: AsyncConnection | None = None
) -> ProblemError:
    """Return the answer for a customer who is not there: 404, or where the one is who stayed.

    A form of the dashboard leads to the page of the one who stayed, and does nothing: whoever sent
    it saw another customer.
    """
    if connection is None:
        async with state_of(request).engine.connect() as own:
            stays = await stays_as(own, number)
    else:
        stays = await stays_as(connection, number)
    if stays is None:
        return not_found()
    merged, kept = customer_ref(number), customer_ref(stays)
    if request.method in {"GET", "HEAD"}:
        status = 301
    else:
        status = 308 if request.url.path.startswith("/api/") else 303
    path = request.url.path.replace(f"/{merged}", f"/{kept}", 1)
    if status == 303:  # noqa: PLR2004
        path = f"/customers/{kept}"
    elif request.url.query:
        path += f"?{request.url.query}"
    detail = f"{merged} was merged into {kept}."
    return ProblemError(status, "Merged", detail, headers={"Location": path}, stays=kept)


def merge_address(customer_id: str) -> str:
    """Return the address at which another customer is merged with this one."""
    return f"/api/v1/customers/{customer_id}/merge"


def email_taken(owner: str, editing_id: str | None = None) -> ProblemError:
    """Return the problem for an e-mail that another customer has.

    ``editing_id`` is the customer who should get it; None for a new one.
    """
    detail = f"{owner} has this e-mail. Upper and lower case make no difference. "
    merge = merge_address(editing_id or owner)
    if editing_id:
        detail += f'If both are one person, merge them: send {{"other": "{owner}"}} to {merge}.'
    else:
        detail += (
            f"If it is the same person, edit {owner}. If there is another customer for them "
            f'already, merge the two: send {{"other": "CUST-…"}} to {merge}.'
        )
    fault = Fault(where="body.email", message=detail)
    return ProblemError(409, "E-mail taken", detail, [fault], merge=merge)


def edited_meanwhile(current: dict[str, Any]) -> ProblemError:
    """Return the problem for an edit that is based on an older version of the customer."""
    detail = (
        "Somebody edited this customer after you read them. `current` is the customer as saved. "
        "Read the customer again and repeat your change."
    )
    return ProblemError(412, "Edited meanwhile", detail, current=current)


@router.post(
    "",
    status_code=201,
    response_model=Customer,
    responses=_CONFLICT,
    openapi_extra=body_bytes(LONG_TEXT_BYTES),
)
async def create_customer(request: Request, actor: Writer, body: NewCustomer) -> Response:
    """Create a customer by hand. Later events do not overwrite what you enter here."""
    state = state_of(request)
    country = state.config.terms.country
    created = await in_transaction(state.engine, _create, actor.name, body, country)
    answer = customer_json(created)
    headers = {"ETag": etag(created), "Location": f"/api/v1/customers/{answer['id']}"}
    return Json(answer, status_code=201, headers=headers)


@router.get("/{id}", response_model=Customer, responses=NOT_FOUND)
async def read_customer(request: Request, _: Reader, number: CustomerNumber) -> Response:
    """Read a customer. The `ETag` covers what can be edited; new orders do not change it."""
    async with snapshot(request) as connection:
        return _answer(await existing(request, connection, number))


@router.patch(
    "/{id}",
    response_model=Customer,
    responses=NOT_FOUND | _CONFLICT | PRECONDITION,
    openapi_extra=body_bytes(LONG_TEXT_BYTES),
)
async def edit_customer(
    request: Request,
    actor: Writer,
    number: CustomerNumber,
    body: CustomerPatch,
    if_match: Annotated[
        str | None,
        Header(description="The `ETag` you read. Answers 412 if it is out of date."),
    ] = None,
) -> Response:
    """Change a customer. With `If-Match`, only if nobody has edited them since you read them."""
    try:
        edited = await in_transaction(
            state_of(request).engine, _edit, actor.name, number, body, if_match
        )
    except editing.CustomerNotFoundError:
        raise await gone(request, number) from None
    return _answer(edited)


async def existing(request: Request, connection: AsyncConnection, number: int) -> CustomerRow:
    """Return a customer. Raises the problem 404 if there is none, or leads to who stayed."""
    customer = await customer_row.read(connection, number)
    if customer is None:
        raise await gone(request, number, connection)
    return customer


async def _create(
    connection: AsyncConnection, actor: str, body: NewCustomer, country: str | None
) -> CustomerRow:
    with _edit_problems():
        number = await editing.create(
            connection, actor, columns(body), hold(body), country, own=body.fields
        )
    return await _written(connection, number)


async def _edit(
    connection: AsyncConnection, actor: str, number: int, body: CustomerPatch, if_match: str | None
) -> CustomerRow:
    with _edit_problems(number):
        await editing.edit(
            connection, actor, number, columns(body), hold(body), if_match, own=body.fields
        )
    return await _written(connection, number)


async def _written(connection: AsyncConnection, number: int) -> CustomerRow:
    customer = await customer_row.read(connection, number)
    assert customer  # noqa: S101  this transaction has written and locked them
    return customer


def _answer(customer: CustomerRow) -> Response:
    return Json(customer_json(customer), headers={"ETag": etag(customer)})


@contextmanager
def _edit_problems(number: int | None = None) -> Iterator[None]:
    """Turn the errors of editing into problems. ``number`` None: a customer is created."""
    try:
        yield
    except editing.EmailTakenError as error:
        raise email_taken(error.args[0], customer_ref(number) if number else None) from None
    except editing.ChangedMeanwhileError as error:
        raise edited_meanwhile(customer_json(error.args[0])) from None
    except editing.InvalidEditError as error:
        field, message = error.args
        raise invalid(_in_body(field), message) from None


def _in_body(field: str) -> str:
    return f"body.{field}"
