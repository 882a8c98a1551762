"""Deletions and refunds, which name an order by the shop's own number only.

They go to the database at once, and change the order whenever it arrives.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.hooks import DeliveryOutcome
from service.core.order_contract import LONGEST_ID
from service.core.order_event import ShopOrder
from service.db.engine import in_transaction
from service.db.ingest import shop_orders
from service.db.ingest.owners import OwnerChangedError
from service.http.hooks.orders import keep_unread
from service.http.hooks.platform import Delivery, Handler, Result, moment, too_old
from service.http.state import WebState
from service.transfer.formats.format import SingleRefund
from service.transfer.formats.values import text

_TOO_MUCH = 10**12


async def delete_order(state: WebState, delivery: Delivery) -> Result:
    """Cancel an order that the shop has deleted. Its money no longer counts."""
    if refused := too_old(delivery):
        return refused
    document = delivery.document
    number = _number(delivery, document.get("id")) if isinstance(document, dict) else None
    if number is None:
        return await keep_unread(state, delivery)
    await in_transaction(
        state.engine,
        shop_orders.delete_order,
        number,
        delivery.at,
        retry_on=(OwnerChangedError,),
    )
    return Result(DeliveryOutcome.APPLIED)


def refunds(read: Callable[[Mapping[str, Any]], SingleRefund]) -> Handler:
    """Return the handler of a topic whose body is a single refund."""

    async def note_refund(state: WebState, delivery: Delivery) -> Result:
        if not isinstance(delivery.document, dict):
            return await keep_unread(state, delivery)
        told = read(delivery.document)
        number = _number(delivery, told.shop_id)
        if number is None or not 0 < len(told.id) <= LONGEST_ID or not 0 <= told.amount < _TOO_MUCH:
            return await keep_unread(state, delivery)
        if not told.amount:
            return Result(DeliveryOutcome.IGNORED)
        at = moment(told.at) or delivery.at

        async def note(connection: AsyncConnection) -> None:
            await shop_orders.refund_order(connection, number, told.id, told.amount, at)

        await in_transaction(state.engine, note, retry_on=(OwnerChangedError,))
        return Result(DeliveryOutcome.APPLIED)

    return note_refund


def _number(delivery: Delivery, id_: object) -> ShopOrder | None:
    """Return the order that an id means. None if it is no id."""
    written = text(id_)
    if not written.isprintable() or not 0 < len(written) <= LONGEST_ID:
        return None
    return ShopOrder(delivery.hook.domain, written)
