"""``/api/v1/insight/lists``: whom to write to today; mark them as contacted, see what came."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from service.core.customer_ids import customer_ref
from service.core.work_lists import Result, WorkList
from service.db.engine import in_transaction
from service.db.outlook import contacts, models, work_lists
from service.db.outlook.contacts import Round
from service.db.store_clock import read_store_clock
from service.http.api.models import Camel
from service.http.auth.guard import Reader, Writer, within
from service.http.budgets import STATISTICS
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, Problem, ProblemError
from service.http.state import replica_snapshot, state_of

router = APIRouter(prefix="/api/v1", tags=["insight"], responses=DOCUMENTED)


MOST_LISTED = 500

ROUND_EXAMPLE: dict[str, Any] = {
    "id": 3,
    "workList": "overdue",
    "markedAt": "2026-10-01T09:00:00Z",
    "markedBy": "jane@example.com",
    "contacted": 80,
    "leftOut": 20,
    "results": [
        {
            "days": 30,
            "contacted": {"customers": 80, "ordered": 20},
            "leftOut": {"customers": 20, "ordered": 3},
            "difference": 0.1,
            "chanceRange": 0.206,
        }
    ],
}


class ArmJson(Camel):
    """Customers of a round."""

    customers: int
    ordered: int


class RoundResult(Camel):
    """Who ordered within some days after a round."""

    days: int
    contacted: ArmJson
    left_out: ArmJson
    difference: float
    chance_range: float | None = Field(
        description="Chance alone makes a difference of this size, up or down, in 95 of 100 cases. "
        "Null: nobody was left out, so nobody knows what contacting did."
    )


class RoundJson(Camel):
    """When a work list was marked as contacted."""

    model_config = ConfigDict(json_schema_extra={"examples": [ROUND_EXAMPLE]})

    id: int
    work_list: WorkList
    marked_at: datetime
    marked_by: str
    contacted: int
    left_out: int
    results: list[RoundResult]


class ListMember(Camel):
    """A customer of a work list."""

    id: str
    name: str | None
    email: str | None
    phone: str | None
    email_opt_in: bool
    sms_opt_in: bool
    segment: str
    total_orders: int
    total_spent: float
    last_order_date: datetime | None
    chance: float
    expected_value: float | None


class ListMembers(Camel):
    """The first customers of a work list, those of whom most is expected first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "workList": "overdue",
                    "total": 1,
                    "items": [
                        {
                            "id": "CUST-1001",
                            "name": "Jane Smith",
                            "email": "jane@example.com",
                            "phone": None,
                            "emailOptIn": True,
                            "smsOptIn": False,
                            "segment": "returning",
                            "totalOrders": 2,
                            "totalSpent": 229.94,
                            "lastOrderDate": "2026-11-22T09:59:58Z",
                            "chance": 0.42,
                            "expectedValue": 71.43,
                        }
                    ],
                }
            ]
        }
    )

    work_list: WorkList
    total: int
    items: list[ListMember]


class Contacted(Camel):
    """How to mark a list as contacted."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"leaveOut": True}]})

    leave_out: bool = Field(
        default=False,
        description="Leave a random fifth out, to see later what contacting the others did.",
    )


_NOBODY: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "Nobody is on the list."}
}


@router.get("/insight/lists/{name}", response_model=ListMembers, dependencies=[within(STATISTICS)])
async def list_members(request: Request, _: Reader, name: Annotated[WorkList, Path()]) -> Response:
    """Return the first 500 customers of a work list. Look at their consent before you write."""
    async with replica_snapshot(request) as connection:
        model = await models.newest(connection)
        clock = await read_store_clock(connection)
        top = (await work_lists.overview(connection)).top
        found = await work_lists.members(connection, name, clock.now, top, MOST_LISTED)
    money = model is not None and model.verdict.shows_money
    return Json(
        {
            "workList": name,
            "total": found.total,
            "items": [
                {
                    "id": customer_ref(row.id),
                    "name": row.name,
                    "email": row.email,
                    "phone": row.phone,
                    "emailOptIn": row.email_opt_in,
                    "smsOptIn": row.sms_opt_in,
                    "segment": row.segment,
                    "totalOrders": row.total_orders,
                    "totalSpent": row.total_spent,
                    "lastOrderDate": row.last_order_date,
                    "chance": round(row.chance, 4),
                    "expectedValue": round(row.value, 2) if money else None,
                }
                for row in found.rows
            ],
        }
    )


@router.post(
    "/insight/lists/{name}/contacted",
    status_code=201,
    response_model=RoundJson,
    responses=_NOBODY,
)
async def mark_contacted(
    request: Request,
    actor: Writer,
    name: Annotated[WorkList, Path()],
    body: Contacted,
) -> Response:
    """Mark all customers of a work list as contacted. They are on no list for 30 days.

    30 and 90 days later, `results` says how many of them ordered. Only with `leaveOut` can anybody
    know what contacting them did.
    """
    marked = await marked_as_contacted(request, actor.name, name, leave_out=body.leave_out)
    if marked is None:
        raise ProblemError(409, "Nobody is listed", "Nobody is on this list now.")
    return Json(round_json(marked), status_code=201)


async def marked_as_contacted(
    request: Request, actor: str, name: WorkList, *, leave_out: bool
) -> Round | None:
    """Mark a list as contacted. None: nobody is on it."""

    async def work(connection: AsyncConnection) -> Round | None:
        clock = await read_store_clock(connection)
        top = (await work_lists.overview(connection)).top
        return await contacts.mark(connection, actor, name, clock.now, top, leave_out=leave_out)

    return await in_transaction(state_of(request).engine, work)


def round_json(marked: Round) -> dict[str, Any]:
    """Return a round as JSON."""
    return {
        "id": marked.id,
        "workList": marked.work_list,
        "markedAt": marked.marked_at,
        "markedBy": marked.marked_by,
        "contacted": marked.contacted,
        "leftOut": marked.left_out,
        "results": [_result_json(result) for result in marked.results],
    }


def _result_json(result: Result) -> dict[str, Any]:
    return {
        "days": result.days,
        "contacted": result.contacted._asdict(),
        "leftOut": result.left_out._asdict(),
        "difference": result.difference,
        "chanceRange": result.chance_range,
    }
