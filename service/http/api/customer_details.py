"""``/api/v1/customers/{id}/…``: what belongs to one customer."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.responses import Response

from service.core.cursor import BadCursorError, Listed
from service.core.numbers import whole_number
from service.core.segment_explanation import Explanation as Explained
from service.core.segment_explanation import PlainNotation, explain
from service.core.segment_rules import Facts
from service.db.customers import customer_list, emails, interactions, personal_data, timeline
from service.db.customers.order_history import of_customer as orders_of_customer
from service.db.engine import in_transaction
from service.db.segments import rule_settings
from service.db.statistics.counters import clock
from service.http.api.customer_routes import NOT_FOUND, CustomerNumber, not_found
from service.http.api.schemas import (
    Explanation,
    Interaction,
    InteractionPatch,
    Interactions,
    NewInteraction,
    Orders,
    Timeline,
)
from service.http.auth.guard import Reader, Writer
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, ProblemError, example, invalid
from service.http.state import snapshot, state_of

router = APIRouter(
    prefix="/api/v1/customers/{id}", tags=["customers"], responses=DOCUMENTED | NOT_FOUND
)

Limit = Annotated[int, Query(ge=1, le=500)]
Cursor = Annotated[str | None, Query(max_length=2000)]
Lister = Callable[[AsyncConnection, int, int, str | None], Awaitable[Listed]]


async def _existing(connection: AsyncConnection, number: int) -> RowMapping:
    row = await customer_list.read(connection, number)
    if row is None:
        raise not_found()
    return row


async def _page(
    request: Request, number: int, lister: Lister, limit: int, cursor: str | None
) -> Response:
    async with snapshot(request) as connection:
        await _existing(connection, number)
        try:
            found = await lister(connection, number, limit, cursor)
        except BadCursorError:
            raise invalid("query.cursor", "is not a cursor of this list") from None
    return Json({"items": found.items, "total": found.total, "nextCursor": found.next_cursor})


@router.get("/orders", response_model=Orders)
async def orders(
    request: Request, _: Reader, number: CustomerNumber, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """List their orders, the latest first."""
    return await _page(request, number, orders_of_customer, limit, cursor)


@router.get("/timeline", response_model=Timeline)
async def events(
    request: Request, _: Reader, number: CustomerNumber, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """List what happened: orders, updates, segment changes, edits with who, interactions."""
    return await _page(request, number, timeline.timeline, limit, cursor)


@router.get("/segment", response_model=Explanation)
async def segment(request: Request, _: Reader, number: CustomerNumber) -> Response:
    """Explain the segment: the rule, the facts, since when, what would change it and when."""
    async with snapshot(request) as connection:
        row = await _existing(connection, number)
        since = await timeline.segment_since(connection, number)
        current = await rule_settings.current(connection)
        now = await clock(connection)
    facts = Facts(row["total_orders"], row["total_spent"], row["last_order_date"])
    manual = row["segment_manual"]
    return Json(
        {
            "segment": row["segment"],
            "source": "manual" if manual else "rules",
            "since": since and since["changed_at"],
            "cause": since and since["cause"],
            "settingsVersion": current.version,
            "autoSegmentation": current.settings.auto_segmentation,
            "facts": {
                "totalOrders": facts.total_orders,
                "totalSpent": facts.total_spent,
                "lastOrderDate": facts.last_order_date,
            },
            "hold": _hold(row) if manual else None,
            **_explained(explain(facts, current.settings, now, PlainNotation())),
        }
    )


def _explained(why: Explained) -> dict[str, Any]:
    return {
        "byRules": why.by_rules.segment,
        "rule": why.by_rules.because,
        "rulesThatHold": [{"segment": fit.segment, "rule": fit.because} for fit in why.fits],
        "needs": [
            need._asdict() | {"text": f"{need.segment.label} {need.text}"} for need in why.needs
        ],
        "upcoming": [
            step._asdict() | {"text": f"{step.segment.label} {step.text}"} for step in why.upcoming
        ],
        "afterNextOrder": why.after_next_order,
    }


def _hold(row: RowMapping) -> dict[str, Any]:
    until = row["segment_pinned_until"]
    lasts = "until their next order"
    if row["segment_pinned"]:
        lasts = "for good"
    elif until:
        lasts = "until a date"
    return {"pinned": row["segment_pinned"], "until": until, "lasts": lasts}


@router.get(
    "/data",
    response_model=dict[str, Any],
    responses=example(
        {
            "customer": {"id": "CUST-1001", "name": "Jane Smith", "email": "jane@example.com"},
            "formerEmails": ["jane@exmaple.com"],
            "orders": [],
            "timeline": [],
            "interactions": [],
            "deadLetters": [
                {"streamId": "1764000000000-0", "partition": None, "reason": "invalid_amount"}
            ],
        }
    ),
)
async def data(request: Request, _: Reader, number: CustomerNumber) -> Response:
    """Give everything held about a person, for them to have."""
    async with snapshot(request) as connection:
        row = await _existing(connection, number)
        everything = 1_000_000
        email_keys = await emails.email_keys(connection, number, row["email"])
        found = {
            "customer": customer_list.customer_json(dict(row)),
            "formerEmails": email_keys[1:],
            "orders": (await orders_of_customer(connection, number, everything, None)).items,
            "timeline": (await timeline.timeline(connection, number, everything, None)).items,
            "interactions": await interactions.of_customer(connection, number),
            "deadLetters": await personal_data.dead_letters_about(connection, number, email_keys),
        }
    return Json(found)


@router.get("/interactions", response_model=Interactions)
async def list_interactions(request: Request, _: Reader, number: CustomerNumber) -> Response:
    """List calls, e-mails, meetings and notes, the latest first."""
    async with snapshot(request) as connection:
        await _existing(connection, number)
        found = await interactions.of_customer(connection, number)
    return Json({"items": found, "total": len(found), "nextCursor": None})


@router.post("/interactions", status_code=201, response_model=Interaction)
async def add_interaction(
    request: Request, actor: Writer, number: CustomerNumber, body: NewInteraction
) -> Response:
    """Note a call, an e-mail, a meeting, or something else; the author is who asks."""

    async def work(connection: AsyncConnection) -> dict[str, Any] | None:
        return await interactions.add(
            connection, actor.name, number, body.kind, body.text, body.happened_at
        )

    added = await in_transaction(state_of(request).engine, work)
    if added is None:
        raise not_found()
    return Json(added, status_code=201)


@router.patch("/interactions/{interaction}", response_model=Interaction)
async def change_interaction(
    request: Request,
    actor: Writer,
    number: CustomerNumber,
    interaction: str,
    body: InteractionPatch,
) -> Response:
    """Correct one; what is absent stays."""

    async def work(connection: AsyncConnection) -> dict[str, Any] | None:
        return await interactions.change(
            connection, actor.name, number, interaction_number(interaction), _given(body)
        )

    changed = await in_transaction(state_of(request).engine, work)
    if changed is None:
        raise no_interaction()
    return Json(changed)


@router.delete("/interactions/{interaction}", status_code=204)
async def remove_interaction(
    request: Request, actor: Writer, number: CustomerNumber, interaction: str
) -> Response:
    """Remove one."""

    async def work(connection: AsyncConnection) -> bool:
        return await interactions.remove(
            connection, actor.name, number, interaction_number(interaction)
        )

    if not await in_transaction(state_of(request).engine, work):
        raise no_interaction()
    return Response(status_code=204)


def _given(body: BaseModel) -> dict[str, Any]:
    return {name: value for name, value in body if value is not None}


def interaction_number(interaction: str) -> int:
    """Read the id of an interaction; anything else is not found."""
    number = whole_number(interaction)
    if number is None:
        raise no_interaction()
    return number


def no_interaction() -> ProblemError:
    """Say that there is no such interaction."""
    return ProblemError(
        404, "Interaction not found", "This customer has no interaction with this id."
    )
