"""``/api/v1/customers/duplicates``: customers who may be one person, for staff to decide."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field
from starlette.responses import Response

from service.core.customer_ids import customer_number
from service.db.customers import customer_row
from service.db.customers.identity import duplicates
from service.db.customers.identity.by_hand import NoSuchCustomerError
from service.db.customers.identity.duplicates import Why
from service.db.engine import in_transaction
from service.http.api.cursors import Cursor, Limit, SealedCursors
from service.http.api.customer_json import Customer, customer_json
from service.http.api.models import Camel, Collection, collection
from service.http.auth.guard import Reader, Writer, within
from service.http.budgets import STATISTICS
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, Problem, ProblemError, invalid
from service.http.state import snapshot, state_of

router = APIRouter(prefix="/api/v1/customers/duplicates", tags=["identity"], responses=DOCUMENTED)

_MISSING: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "One of them does not exist."}
}


class Duplicate(Camel):
    """Two customers who may be one person."""

    customers: list[Customer] = Field(
        min_length=2, max_length=2, description="The lower number first."
    )
    why: list[Why] = Field(
        description="`same_phone`: their phones have the same last ten digits. "
        "`same_name_and_zip`: both are the same. `too_many_identifiers`: events say that they are "
        "one person, but one has more identifiers than a person has."
    )


class DuplicatesPage(Collection):
    """A page of likely duplicates, the newest customers first."""

    items: list[Duplicate]
    complete: bool = Field(description="False if more pairs wait than are looked for at once.")
    as_of: datetime = Field(description="When they were looked for. Later decisions are applied.")


class NotDuplicates(Camel):
    """Two customers who are two people."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"customers": ["CUST-1001", "CUST-1002"]}]}
    )

    customers: list[str] = Field(min_length=2, max_length=2)


@router.get("", response_model=DuplicatesPage, dependencies=[within(STATISTICS)])
async def list_duplicates(
    request: Request,
    _: Reader,
    cursors: SealedCursors,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List pairs of customers who may be one person. Nobody merges them but you.

    What more than 25 customers have in common, such as a made-up phone, makes no pairs.
    """
    after = cursors.decode_pair(cursor)
    async with snapshot(request) as connection:
        page = await duplicates.duplicates(connection, limit, after)
        ids = sorted({number for pair in page.items for number in (pair.low, pair.high)})
        rows = await customer_row.read_all(connection, ids)
    items = [
        {
            "customers": [customer_json(rows[pair.low]), customer_json(rows[pair.high])],
            "why": pair.why,
        }
        for pair in page.items
    ]
    end = cursors.encode_pair(page.end)
    more = {"complete": page.complete, "asOf": page.as_of}
    return Json(collection(items, page.total, end) | more)


@router.post("/dismiss", status_code=204, responses=_MISSING)
async def dismiss_duplicate(request: Request, actor: Writer, body: NotDuplicates) -> Response:
    """Say that two customers are two people. They are no longer listed, and no event joins them.

    Merging them undoes it.
    """
    numbers = [customer_number(text.strip().upper()) for text in body.customers]
    one, other = numbers
    if one is None or other is None:
        raise invalid("body.customers", "must be two ids of customers, such as CUST-1001")
    await dismissed(request, actor.name, one, other)
    return Response(status_code=204)


async def dismissed(request: Request, actor: str, one: int, other: int) -> None:
    """Note that two customers are two people. Raises a problem."""
    if one == other:
        raise invalid("body.customers", "are the same customer; name two")
    try:
        await in_transaction(state_of(request).engine, duplicates.dismiss, one, other, actor)
    except NoSuchCustomerError:
        detail = "One of the two does not exist, or was merged. Load the list again."
        raise ProblemError(404, "Customer not found", detail) from None
