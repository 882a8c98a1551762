"""``/api/v1/orders``: orders that no event has attributed to a customer yet."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.db.customers import order_history
from service.http.api.cursors import Cursor, Limit, SealedCursors
from service.http.api.customer_details import ORDERS, Orders, orders_response
from service.http.auth.guard import Reader
from service.http.problems import DOCUMENTED
from service.http.state import replica_snapshot

router = APIRouter(prefix="/api/v1/orders", tags=["orders"], responses=DOCUMENTED)


@router.get("/unattributed", response_model=Orders)
async def unattributed_orders(
    request: Request,
    _: Reader,
    cursors: SealedCursors,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List orders whose events have named no customer yet, the latest first.

    An event that names a customer moves the order to them. Orders of erased people are not listed.
    """
    after = cursors.decode_time(cursor, ORDERS)
    async with replica_snapshot(request) as connection:
        page = await order_history.unattributed(connection, limit, after)
    return orders_response(page, cursors)
