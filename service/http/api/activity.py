"""``/api/v1/activity``: the latest orders, segment changes and edits, and a live stream of them."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request
from pydantic import ConfigDict, Field
from pydantic.config import JsonDict
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Send
from starlette.types import Scope as ASGIScope

from service.core.scopes import Scope
from service.core.segment_rules import Segment
from service.db.operations.activity import latest
from service.http.activity_feed import Feed, event_json
from service.http.api.models import Camel, Collection, collection
from service.http.auth.caller import still_allowed
from service.http.auth.guard import Reader, within
from service.http.budgets import STREAMS
from service.http.json_response import Json
from service.http.problems import DOCUMENTED
from service.http.state import replica_snapshot, state_of

router = APIRouter(prefix="/api/v1/activity", tags=["activity"], responses=DOCUMENTED)

_CHANGE: JsonDict = {
    "id": "1795341600123456-segment-42",
    "type": "segment",
    "at": "2026-11-22T10:00:00.123456Z",
    "customerId": "CUST-1001",
    "customerName": "Jane Smith",
    "previousSegment": "new",
    "segment": "returning",
    "cause": "order",
}


class Happening(Camel):
    """An order, a segment change or an edit. Each type has its own fields."""

    model_config = ConfigDict(json_schema_extra={"examples": [_CHANGE]})

    id: str
    type: Literal["order", "segment", "edit"]
    at: datetime
    customer_id: str | None
    customer_name: str | None
    order_id: str | None = None
    status: str | None = None
    payment_status: str | None = None
    total_amount: float | None = None
    refunded_amount: float | None = None
    currency: str | None = Field(
        None, description="Of an order's amounts, as in ISO 4217. Null: the store's."
    )
    counts: bool | None = None
    previous_segment: Segment | None = None
    segment: Segment | None = None
    cause: str | None = None
    actor: str | None = None
    action: str | None = None
    fields: list[str] | None = Field(
        None, description="The names of the changed fields, without their values."
    )


class Activity(Collection):
    """The latest events, the newest first. `total` counts the items of this answer."""

    items: list[Happening]


class _EventStream(StreamingResponse):
    """A response that counts as a listener until the request ends, however it ends."""

    def __init__(
        self, request: Request, feed: Feed, last_id: str | None, *, accounts: bool
    ) -> None:
        super().__init__(
            _while_allowed(request, feed.frames(last_id, accounts=accounts)),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._feed = feed

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        with self._feed.listening():
            await super().__call__(scope, receive, send)


async def _while_allowed(request: Request, frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pass frames on. Stop before the next one if the key or session no longer allows reading."""
    async for frame in frames:
        if not await still_allowed(request, Scope.READ):
            return
        yield frame


@router.get("", response_model=Activity)
async def read_activity(
    request: Request, actor: Reader, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> Response:
    """List the latest orders, segment changes and edits, the newest first, without e-mails.

    Sign-ins and changes of users and keys are only listed with the scope `admin`.
    """
    async with replica_snapshot(request) as connection:
        accounts = Scope.ADMIN in actor.scopes
        events = (await latest(connection, limit, accounts=accounts))[:limit]
    return Json(collection([event_json(event) for event in events]))


@router.get(
    "/stream",
    dependencies=[within(STREAMS)],
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events. `data` is the JSON of an item as in `/activity`, "
            "`id` its id. Each item comes at least once: ignore ids that you have seen. "
            "A comment comes every 15 s.",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": 'id: 2026-11-22T10:00:00Z\ndata: {"type": "segment"}\n\n',
                }
            },
        }
    },
)
async def stream_activity(
    request: Request,
    actor: Reader,
    last_event_id: Annotated[
        str | None, Header(description="The last id you have seen. Browsers send it automatically.")
    ] = None,
    after: Annotated[
        str | None,
        Query(max_length=100, description="The same, for the first connection of a page."),
    ] = None,
) -> Response:
    """Stream what happens from now on, or since an item, about a second after it happens.

    If more than 100 events of one type happen within a second, the latest 100 are sent.
    """
    feed = state_of(request).feed
    accounts = Scope.ADMIN in actor.scopes
    return _EventStream(request, feed, last_event_id or after, accounts=accounts)
