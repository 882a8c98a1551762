"""``/api/v1/orders``: orders that no event has attributed to a customer yet."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import ConfigDict, Field
from starlette.responses import Response

from service.core.customer_ids import customer_number, customer_ref
from service.db.customers import order_history
from service.db.customers.identity import by_hand, not_a_person
from service.db.engine import in_transaction
from service.http.api.cursors import Cursor, Limit, SealedCursors
from service.http.api.customer_details import ORDERS, Orders, orders_response
from service.http.api.customer_json import Customer, customer_json
from service.http.api.customer_routes import existing, gone
from service.http.api.models import Camel
from service.http.auth.guard import Reader, Writer
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, Problem, ProblemError, invalid
from service.http.state import replica_snapshot, snapshot, state_of

router = APIRouter(prefix="/api/v1/orders", tags=["orders"], responses=DOCUMENTED)

_REFUSED: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such order."},
    409: {
        "model": Problem,
        "description": "The order belongs to a customer, because an event named them.",
    },
}


class Assignment(Camel):
    """The customer to whom an order belongs."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"customer": "CUST-1001"}]})

    customer: str = Field(max_length=50)


@router.get("/unattributed", response_model=Orders)
async def unattributed_orders(
    request: Request,
    _: Reader,
    cursors: SealedCursors,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List orders whose events have named no customer yet, the latest first.

    An event that names a customer moves the order to them, and so can you. `namedBy` has the
    identifiers that staff marked as not a person. Orders of erased people are not listed.
    """
    after = cursors.decode_time(cursor, ORDERS)
    async with replica_snapshot(request) as connection:
        page = await order_history.unattributed(connection, limit, after)
    return orders_response(page, cursors)


@router.post("/{id:path}/customer", response_model=Customer, responses=_REFUSED)
async def assign_order(
    request: Request,
    actor: Writer,
    order_id: Annotated[str, Path(alias="id", examples=["ORD-1001"], max_length=1000)],
    body: Assignment,
) -> Response:
    """Give an unattributed order to a customer. Later events do not give it to anybody else.

    An order that was given to a wrong customer this way is given to the right one the same way. The
    answer is the customer with the order.
    """
    number = customer_number(body.customer.strip().upper())
    if number is None:
        raise invalid("body.customer", "must be the id of a customer, such as CUST-1001")
    if "\x00" in order_id:
        raise no_order()
    await assigned(request, actor.name, order_id, number)
    async with snapshot(request) as connection:
        return Json(customer_json(await existing(request, connection, number)))


@router.delete("/{id:path}/customer", status_code=204, responses=_REFUSED)
async def unassign_order(
    request: Request,
    actor: Writer,
    order_id: Annotated[str, Path(alias="id", examples=["ORD-1001"], max_length=1000)],
) -> Response:
    """Undo that an order was given to a customer by hand. It is unattributed again.

    The next event that names a customer moves the order to them. Events that came since it was
    given away must come again for that.
    """
    if "\x00" in order_id:
        raise no_order()
    await unassigned(request, actor.name, order_id)
    return Response(status_code=204)


async def unassigned(request: Request, actor: str, order_id: str) -> None:
    """Undo that an order was given to a customer. Raises a problem."""
    try:
        await in_transaction(
            state_of(request).engine,
            by_hand.unassign_order,
            order_id,
            actor,
            retry_on=(not_a_person.OwnerChangedError,),
        )
    except by_hand.NoSuchOrderError:
        raise no_order() from None
    except by_hand.AssignedError as error:
        raise _named_by_event(error.args[0]) from None


async def assigned(request: Request, actor: str, order_id: str, number: int) -> None:
    """Give an unattributed order to a customer. Raises a problem."""
    try:
        await in_transaction(
            state_of(request).engine, by_hand.assign_order, order_id, number, actor
        )
    except by_hand.NoSuchOrderError:
        raise no_order() from None
    except by_hand.AssignedError as error:
        raise _named_by_event(error.args[0]) from None
    except by_hand.NoSuchCustomerError:
        stays = (await gone(request, number)).problem.model_dump().get("stays")
        ref = customer_ref(number)
        hint = f"{ref} was merged into {stays}; name that one" if stays else f"there is no {ref}"
        raise invalid("body.customer", hint) from None


def _named_by_event(number: int) -> ProblemError:
    owner = customer_ref(number)
    detail = (
        f"This order belongs to {owner}, because an event named them. If that is the same person "
        f"as another customer, merge the two; if {owner} are two people, split them."
    )
    return ProblemError(409, "Order assigned", detail)


def no_order() -> ProblemError:
    """Return the problem for an order that does not exist."""
    return ProblemError(404, "Order not found", "There is no order with this id.")
