"""``/api/v1/customers``: create, read and edit a customer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Request
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from service.core.customer_ids import customer_number
from service.db.customers import customer_row, editing
from service.db.customers.customer_row import CustomerRow, etag
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
    404: {"model": Problem, "description": "There is no such customer."}
}
_CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "Another customer has this e-mail."}
}
_PRECONDITION: dict[int | str, dict[str, Any]] = {
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


def email_taken(customer_id: str) -> ProblemError:
    """Return the problem for an e-mail that another customer has."""
    detail = f"{customer_id} has this e-mail. Upper and lower case make no difference."
    return ProblemError(409, "E-mail taken", detail, [Fault(where="body.email", message=detail)])


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
    created = await in_transaction(state_of(request).engine, _create, actor.name, body)
    answer = customer_json(created)
    headers = {"ETag": etag(created), "Location": f"/api/v1/customers/{answer['id']}"}
    return Json(answer, status_code=201, headers=headers)


@router.get("/{id}", response_model=Customer, responses=NOT_FOUND)
async def read_customer(request: Request, _: Reader, number: CustomerNumber) -> Response:
    """Read a customer. The `ETag` covers what can be edited; new orders do not change it."""
    async with snapshot(request) as connection:
        return _answer(await existing(connection, number))


@router.patch(
    "/{id}",
    response_model=Customer,
    responses=NOT_FOUND | _CONFLICT | _PRECONDITION,
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
    for required in ("name", "email"):
        if required in body.model_fields_set and getattr(body, required) is None:
            raise invalid(_in_body(required), "must not be null; leave it out to keep the old one")
    edited = await in_transaction(
        state_of(request).engine, _edit, actor.name, number, body, if_match
    )
    return _answer(edited)


async def existing(connection: AsyncConnection, number: int) -> CustomerRow:
    """Return a customer. Raises the problem 404 if there is none."""
    customer = await customer_row.read(connection, number)
    if customer is None:
        raise not_found()
    return customer


async def _create(connection: AsyncConnection, actor: str, body: NewCustomer) -> CustomerRow:
    with _edit_problems():
        number = await editing.create(connection, actor, columns(body), hold(body))
    return await existing(connection, number)


async def _edit(
    connection: AsyncConnection, actor: str, number: int, body: CustomerPatch, if_match: str | None
) -> CustomerRow:
    with _edit_problems():
        await editing.edit(connection, actor, number, columns(body), hold(body), if_match)
    return await existing(connection, number)


def _answer(customer: CustomerRow) -> Response:
    return Json(customer_json(customer), headers={"ETag": etag(customer)})


@contextmanager
def _edit_problems() -> Iterator[None]:
    """Turn the errors of editing into problems."""
    try:
        yield
    except editing.CustomerNotFoundError:
        raise not_found() from None
    except editing.EmailTakenError as error:
        raise email_taken(error.args[0]) from None
    except editing.ChangedMeanwhileError as error:
        raise edited_meanwhile(customer_json(error.args[0])) from None
    except editing.InvalidEditError as error:
        field, message = error.args
        raise invalid(_in_body(field), message) from None


def _in_body(field: str) -> str:
    return f"body.{field}"
