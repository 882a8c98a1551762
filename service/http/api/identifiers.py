"""Identifiers: those of a customer, and those that are marked as not a person."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field
from starlette.responses import Response

from service.core.customer_ids import customer_ref
from service.db.customers.identity import by_hand, not_a_person, outcomes
from service.db.customers.identity.claims import TakenError, of_customer
from service.db.customers.identity.outcomes import Marked
from service.db.engine import in_transaction
from service.http.api.customer_json import (
    CustomerIdentifier,
    Identifier,
    customer_identifier_json,
    identifier_json,
)
from service.http.api.customer_routes import (
    NOT_FOUND,
    CustomerNumber,
    existing,
    gone,
    merge_address,
)
from service.http.api.identity import DryRun
from service.http.api.models import Camel, Collection, collection
from service.http.api.naming import Named, normalised
from service.http.auth.guard import Reader, Writer
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, Fault, Problem, ProblemError, invalid
from service.http.state import snapshot, state_of

router = APIRouter(prefix="/api/v1", tags=["identity"], responses=DOCUMENTED)

_OF_CUSTOMER = "/customers/{id}/identifiers"
_NOT_A_PERSON = "/identifiers/not-a-person"
_TAKEN: dict[int | str, dict[str, Any]] = {
    409: {
        "model": Problem,
        "description": "Another customer has it. `merge` is where to merge the two.",
    }
}
_NAMES_ORDERS: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "Orders came with it. `split` is where to split."}
}
_NOT_MARKED: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "It is not marked."}
}


_NOT_REMOVED: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "You have not taken it away within the last hour."}
}


class CustomerIdentifiers(Collection):
    """All identifiers of a customer, the oldest first."""

    items: list[CustomerIdentifier]


class Mark(Identifier):
    """An identifier that is marked as not a person."""

    since: datetime
    by: str | None


class Marks(Collection):
    """All marks, the latest first."""

    items: list[Mark]


class MarkOutcome(Camel):
    """What a mark, or taking it away, did or would do."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "dryRun": False,
                    "identifier": "email:orders@myshop.example",
                    "orders": 20,
                    "customer": None,
                    "removed": "CUST-1001",
                }
            ]
        }
    )

    dry_run: bool
    identifier: str
    orders: int = Field(
        description="Orders that become unattributed; without the mark, those that no longer are."
    )
    customer: str | None = Field(
        description="The customer who had the identifier and stays, because more is known of them; "
        "without the mark, the one who has the orders from now on."
    )
    removed: str | None = Field(
        description="The customer who is removed, because nothing else was known of them."
    )


@router.get(_OF_CUSTOMER, response_model=CustomerIdentifiers, responses=NOT_FOUND)
async def list_identifiers(request: Request, _: Reader, number: CustomerNumber) -> Response:
    """List all that means a customer in events, and where it came from, the oldest first."""
    async with snapshot(request) as connection:
        await existing(request, connection, number)
        rows = await of_customer(connection, number)
    return Json(collection([customer_identifier_json(row) for row in rows]))


@router.post(
    _OF_CUSTOMER,
    status_code=201,
    response_model=CustomerIdentifiers,
    responses=NOT_FOUND | _TAKEN,
)
async def add_identifier(
    request: Request, actor: Writer, number: CustomerNumber, body: Named
) -> Response:
    """Add an identifier to a customer. Events that name it are theirs from now on."""
    identifier = normalised(request, body)
    await give(request, actor.name, number, identifier)
    async with snapshot(request) as connection:
        rows = await of_customer(connection, number)
    return Json(collection([customer_identifier_json(row) for row in rows]), status_code=201)


async def give(request: Request, actor: str, number: int, identifier: str) -> None:
    """Give an identifier to a customer. Raises a problem."""
    if identifier.startswith("customer:"):
        raise invalid("body", "the id of a customer cannot be added; merge the two")
    try:
        await in_transaction(state_of(request).engine, by_hand.give, number, identifier, actor)
    except by_hand.NoSuchCustomerError:
        raise await gone(request, number) from None
    except TakenError as error:
        raise _taken(number, error.args[1]) from None


def _taken(number: int, owner: int | None) -> ProblemError:
    if owner is None:
        detail = (
            "This identifier is marked as not a person. Take the mark away first: "
            f"DELETE /api/v1{_NOT_A_PERSON}."
        )
        return ProblemError(409, "Marked as not a person", detail)
    merge = merge_address(customer_ref(number))
    detail = (
        f"{customer_ref(owner)} has this identifier. If both are one person, merge them: "
        f'send {{"other": "{customer_ref(owner)}"}} to {merge}.'
    )
    faults = [Fault(where="body", message=detail)]
    return ProblemError(
        409, "Identifier taken", detail, faults, merge=merge, owner=customer_ref(owner)
    )


@router.delete(_OF_CUSTOMER, status_code=204, responses=NOT_FOUND | _NAMES_ORDERS)
async def remove_identifier(
    request: Request, actor: Writer, number: CustomerNumber, body: Named
) -> Response:
    """Take an identifier away from a customer, if no order came with it.

    If it is their e-mail, another one of theirs takes its place, or none.
    """
    await take_away(request, actor.name, number, normalised(request, body))
    return Response(status_code=204)


@router.post(
    f"{_OF_CUSTOMER}/restore",
    response_model=CustomerIdentifiers,
    responses=_NOT_REMOVED | _TAKEN,
)
async def restore_identifier(
    request: Request, actor: Writer, number: CustomerNumber, body: Named
) -> Response:
    """Undo that you took an identifier away, for an hour. It is as it was before.

    If it was their e-mail, it is so again, unless they got another one meanwhile.
    """
    await bring_back(request, actor.name, number, normalised(request, body))
    async with snapshot(request) as connection:
        rows = await of_customer(connection, number)
    return Json(collection([customer_identifier_json(row) for row in rows]))


async def bring_back(request: Request, actor: str, number: int, identifier: str) -> None:
    """Undo that somebody took an identifier away. Raises a problem."""
    try:
        await in_transaction(state_of(request).engine, by_hand.restore, number, identifier, actor)
    except by_hand.NoSuchCustomerError:
        raise await gone(request, number) from None
    except by_hand.NotRemovedError:
        detail = "You have not taken this identifier away from the customer within the last hour."
        raise ProblemError(404, "Identifier not found", detail) from None
    except TakenError as error:
        raise _taken(number, error.args[1]) from None


async def take_away(request: Request, actor: str, number: int, identifier: str) -> None:
    """Take an identifier away from a customer. Raises a problem."""
    try:
        await in_transaction(state_of(request).engine, by_hand.take_away, number, identifier, actor)
    except by_hand.NoSuchCustomerError:
        raise await gone(request, number) from None
    except by_hand.NotTheirsError:
        detail = f"{customer_ref(number)} does not have this identifier."
        raise ProblemError(404, "Identifier not found", detail) from None
    except by_hand.NamesOrdersError:
        split = f"/api/v1/customers/{customer_ref(number)}/split"
        detail = (
            "Orders came with this identifier, so it cannot be taken away alone. If it means "
            f"another person, split the customer: POST {split}."
        )
        raise ProblemError(409, "Orders came with it", detail, split=split) from None


@router.get(_NOT_A_PERSON, response_model=Marks)
async def list_marks(request: Request, _: Reader) -> Response:
    """List the identifiers that are marked as not a person, the latest first."""
    async with snapshot(request) as connection:
        rows = await not_a_person.marked(connection)
    items = [
        identifier_json(identifier) | {"since": since, "by": by} for identifier, by, since in rows
    ]
    return Json(collection(items))


@router.put(_NOT_A_PERSON, response_model=MarkOutcome)
async def mark(
    request: Request, actor: Writer, body: Named, *, dry_run: DryRun = False
) -> Response:
    """Mark an identifier as not a person: the e-mail of a marketplace, or the till.

    Its orders belong to nobody then, and later ones, too. An order that has another identifier
    belongs to whom that means. With `dryRun=true`, it is tried and undone.
    """
    identifier = normalised(request, body)
    done = await marked(request, actor.name, identifier, dry_run)
    return _mark_response(identifier, done, dry_run)


async def marked(
    request: Request,
    actor: str,
    identifier: str,
    dry_run: bool,  # noqa: FBT001
) -> Marked:
    """Mark an identifier as not a person, or try it. Raises a problem."""
    try:
        return await in_transaction(
            state_of(request).engine,
            outcomes.mark,
            identifier,
            actor,
            retry_on=(not_a_person.OwnerChangedError,),
            dry_run=dry_run,
        )
    except not_a_person.CannotMarkError as error:
        raise invalid("body", error.args[0]) from None


@router.delete(_NOT_A_PERSON, response_model=MarkOutcome, responses=_NOT_MARKED)
async def unmark(
    request: Request, actor: Writer, body: Named, *, dry_run: DryRun = False
) -> Response:
    """Take the mark away. The orders that came with the identifier belong to a customer again."""
    identifier = normalised(request, body)
    done = await unmarked(request, actor.name, identifier, dry_run)
    return _mark_response(identifier, done, dry_run)


async def unmarked(
    request: Request,
    actor: str,
    identifier: str,
    dry_run: bool,  # noqa: FBT001
) -> Marked:
    """Take a mark away, or try it. Raises a problem."""
    try:
        return await in_transaction(
            state_of(request).engine,
            outcomes.unmark,
            identifier,
            actor,
            retry_on=(not_a_person.OwnerChangedError,),
            dry_run=dry_run,
        )
    except not_a_person.NotMarkedError:
        detail = "This identifier is not marked as not a person."
        raise ProblemError(404, "Not marked", detail) from None


def _mark_response(
    identifier: str,
    done: Marked,
    dry_run: bool,  # noqa: FBT001
) -> Response:
    return Json(
        {
            "dryRun": dry_run,
            "identifier": identifier,
            "orders": done.orders,
            "customer": done.customer and customer_ref(done.customer.id),
            "removed": done.gone and customer_ref(done.gone),
        }
    )
