"""``/api/v1/orders``: those that belong to nobody yet; the others are with their customers."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from service.core.cursor import BadCursorError
from service.db.customers import order_history
from service.http.api.schemas import Orders
from service.http.auth.guard import Reader
from service.http.json_response import Json
from service.http.problems import DOCUMENTED, invalid
from service.http.state import aged_snapshot

router = APIRouter(prefix="/api/v1/orders", tags=["orders"], responses=DOCUMENTED)


@router.get("/unattributed", response_model=Orders)
async def unattributed_orders(
    request: Request,
    _: Reader,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(max_length=2000)] = None,
) -> Response:
    """List orders whose events have named nobody yet, the latest first.

    An event that names somebody moves an order to them. Orders of erased people are not here.
    """
    async with aged_snapshot(request) as connection:
        try:
            found = await order_history.unattributed(connection, limit, cursor)
        except BadCursorError:
            raise invalid("query.cursor", "is not a cursor of this list") from None
    return Json({"items": found.items, "total": found.total, "nextCursor": found.next_cursor})
