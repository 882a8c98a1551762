"""Write the orders of a file with the statements that apply the stream's events.

These orders do not count as stream entries.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.core.identifiers import IdentifierKind, kind_of
from service.core.order_event import EventKey, OrderEvent
from service.db.engine import in_transaction, refused_data
from service.db.ingest.apply import apply_events
from service.db.ingest.owners import OwnerChangedError
from service.transfer.lines import Verdict
from service.transfer.order_lines import OrderLine

_STORED = text("""
SELECT id, version, updated_at, coalesce(sent_at, updated_at) AS sent_at, event_id, customer_id,
       erased, named_version, named_at, coalesce(named_sent_at, named_at) AS named_sent_at,
       named_event_id
FROM orders WHERE id = ANY(:ids)
""")
_MARK_ERASED = text(
    "UPDATE orders SET erased = true"
    " WHERE id IN (SELECT id FROM orders WHERE id = ANY(:ids) AND customer_id IS NULL"
    " AND NOT erased ORDER BY id FOR UPDATE)"
)

_OURS = IdentifierKind.CUSTOMER

OrderKeys = tuple[EventKey, EventKey | None]
"""The key of the event that gave the order its state, and of the one that named its customer."""


async def plan_orders(
    connection: AsyncConnection, lines: Sequence[OrderLine], earlier: Mapping[str, OrderKeys]
) -> tuple[list[Verdict], dict[str, OrderKeys]]:
    """Return what each line changes, one after the other, and each order's keys afterwards.

    Writes nothing. ``earlier`` are the keys that earlier lines of the file would have written. A
    line that only has newer profile values of its customer counts as unchanged.
    """
    ids = sorted({line.event.order_id for line in lines})
    keys: dict[str, OrderKeys] = {}
    for row in await connection.execute(_STORED, {"ids": ids}):
        state = EventKey(row.version, row.updated_at, row.sent_at, row.event_id)
        naming = EventKey(row.named_version, row.named_at, row.named_sent_at, row.named_event_id)
        keys[row.id] = (state, naming if row.customer_id else state if row.erased else None)
    keys.update(earlier)
    return [_verdict(event, keys) for event, _ in lines], keys


def _verdict(event: OrderEvent, keys: dict[str, OrderKeys]) -> Verdict:
    """Return what the event changes, and update the keys of its order."""
    names = bool(event.customer and kind_of(event.customer.identifiers[-1]) is not _OURS)
    known = keys.get(event.order_id)
    if known is None:
        keys[event.order_id] = (event.key, event.key if names else None)
        return Verdict.NEW
    state, naming = known
    later = event.key > state
    named_later = names and (naming is None or event.key > naming)
    keys[event.order_id] = (
        event.key if later else state,
        event.key if named_later else naming,
    )
    return Verdict.CHANGED if later or named_later else Verdict.UNCHANGED


async def write_orders(engine: AsyncEngine, lines: Sequence[OrderLine]) -> list[int]:
    """Apply the lines and commit; return the places of those whose data the database refused."""
    if not lines:
        return []
    try:
        await in_transaction(engine, _apply, lines, retry_on=(OwnerChangedError,))
    except DBAPIError as error:
        if not refused_data(error):
            raise
        if len(lines) == 1:
            return [0]
        half = len(lines) // 2
        later = await write_orders(engine, lines[half:])
        return await write_orders(engine, lines[:half]) + [half + place for place in later]
    return []


async def _apply(connection: AsyncConnection, lines: Sequence[OrderLine]) -> None:
    await apply_events(connection, [line.event for line in lines])
    erased = sorted({line.event.order_id for line in lines if line.erased})
    if erased:
        await connection.execute(_MARK_ERASED, {"ids": erased})
