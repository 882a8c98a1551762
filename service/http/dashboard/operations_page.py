"""``/operations``: backlog, losses, webhooks, dead letters, orders to look at, verification."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from service.db.accounts import hooks
from service.db.customers import order_conflicts, order_history, shop_requests
from service.db.customers.paging import TimePosition
from service.db.engine import in_transaction
from service.db.operations import (
    dead_letter_removal,
    dead_letters,
    endpoints,
    foreign_entries,
    losses,
    status,
    trimming,
)
from service.db.operations.dead_letters import Letter, Selection
from service.http.api.cursors import Cursors, SealedCursors
from service.http.api.customer_details import ORDERS
from service.http.api.order_conflicts import CONFLICTS
from service.http.dashboard.formats import store_clock
from service.http.dashboard.render import done, page
from service.http.dashboard.viewer import Admin, Form, Viewer
from service.http.problems import ProblemError
from service.http.state import snapshot, state_of
from service.streams import groups, redis_client

router = APIRouter(include_in_schema=False)

_LETTERS = 20
_ORDERS = 10
_CONFLICTS = 10
_LOSSES = 10
_REQUESTS = 50


class Shown(BaseModel):
    """Which parts of the lists the page shows."""

    reason: str | None = Field(None, max_length=100)
    before: str | None = Field(None, pattern=r"^\d{1,18}$")
    updates: bool = False
    """Show only the dead letters that are refused updates of known orders."""
    orders: str | None = Field(None, max_length=500)
    conflicts: str | None = Field(None, max_length=500)


@router.get("/operations")
async def show(
    request: Request, actor: Viewer, cursors: SealedCursors, shown: Annotated[Shown, Query()]
) -> Response:
    """Show the state of the service. Without Redis, the page says that Redis is away."""
    state = state_of(request)
    async with snapshot(request) as connection:
        await store_clock(request, connection)
        waiting = await status.database_backlog(connection)
        verified = await status.verification(connection)
        lost = await losses.recorded_losses(connection, most=_LOSSES)
        foreign = await foreign_entries.records(connection, most=_LOSSES)
        waiting_for_recover = (await foreign_entries.summary(connection)).unknown
        trimmed = await trimming.trims(connection)
        sent_to = await endpoints.endpoints(connection)
        reasons = await dead_letters.summary(connection)
        # Refused updates stand first: the orders that they tell of are in an older state.
        refused_updates = Selection(shown.reason, refused_update=True)
        if shown.updates or shown.before:
            first: list[Letter] = []
            update_count = await dead_letters.count(connection, refused_updates)
        else:
            first, update_count = await dead_letters.find(connection, refused_updates, _LETTERS)
        letters, total = await dead_letters.find(
            connection,
            Selection(shown.reason, refused_update=shown.updates),
            _LETTERS + 1,
            int(shown.before) if shown.before else None,
        )
        dropped = await dead_letter_removal.dropped_ever(connection)
        unattributed = await order_history.unattributed(
            connection, _ORDERS, _position(cursors, shown.orders, ORDERS)
        )
        conflicts = await order_conflicts.page(
            connection, _CONFLICTS, _position(cursors, shown.conflicts, CONFLICTS)
        )
        shops = await hooks.list_hooks(connection)
        topics = await hooks.topic_counts(connection)
        requests = await shop_requests.open_requests(connection, _REQUESTS)
    return page(
        request,
        actor,
        "operations.html",
        waiting=waiting,
        backlog=await _backlog(request),
        streams=state.config.orders_streams,
        verified=verified,
        losses=lost,
        foreign=foreign,
        unknown=waiting_for_recover,
        held=[trim for trim in trimmed if trim.held_by],
        sent_to=sent_to,
        reasons=reasons,
        reason=shown.reason,
        updates=shown.updates,
        first=first,
        update_count=update_count,
        letters=letters[:_LETTERS],
        older=letters[_LETTERS - 1].id if len(letters) > _LETTERS else None,
        total=total,
        dropped=dropped,
        unattributed=unattributed,
        older_orders=cursors.encode_time(unattributed.end, ORDERS),
        conflicts=conflicts,
        shops=[(shop, [each for each in topics if each.hook_id == shop.id]) for shop in shops],
        requests=requests,
        older_conflicts=cursors.encode_time(conflicts.end, CONFLICTS),
    )


@router.post("/operations/losses/{id}/acknowledge")
async def acknowledge_loss(
    request: Request,
    actor: Admin,
    incident: Annotated[int, Path(alias="id", ge=1, lt=2**63)],
    _: Form,
) -> Response:
    """Acknowledge a loss in the name of the person. This ends its alert."""
    acknowledged = await in_transaction(
        state_of(request).engine, losses.acknowledge, incident, actor.name
    )
    return done("/operations", "loss-acknowledged" if acknowledged else "unchanged")


@router.post("/operations/foreign/{id}/acknowledge")
async def acknowledge_foreign(
    request: Request,
    actor: Admin,
    record: Annotated[int, Path(alias="id", ge=1, lt=2**63)],
    _: Form,
) -> Response:
    """Acknowledge what somebody else did to a stream, in the name of the person."""
    acknowledged = await in_transaction(
        state_of(request).engine, foreign_entries.acknowledge, record, actor.name
    )
    return done("/operations", "foreign-acknowledged" if acknowledged else "unchanged")


def _position(cursors: Cursors, cursor: str | None, order: str) -> TimePosition | None:
    """Return where a page begins. An address that is not ours shows the first page."""
    try:
        return cursors.decode_time(cursor, order)
    except ProblemError:
        return None


async def _backlog(request: Request) -> groups.Backlog | None:
    state = state_of(request)
    try:
        backlogs = await groups.prompt_backlogs(state.redis, state.config)
    except redis_client.REDIS_ERRORS:
        return None
    return groups.add_up(backlogs)
