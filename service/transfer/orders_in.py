"""Write the orders of a file with the statements that apply the stream's events.

These orders do not count as stream entries.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.core.identifiers import IdentifierKind, kind_of
from service.core.order_event import EventKey, OrderContent, OrderEvent
from service.core.segment_event import Cause
from service.db.engine import in_transaction, refused_data
from service.db.ingest.owners import OwnerChangedError
from service.db.ingest.shop_orders import apply_with_facts
from service.transfer.lines import Verdict
from service.transfer.order_lines import MADE_ID, OrderLine

_STORED = text("""
SELECT id, version, updated_at, coalesce(sent_at, updated_at) AS sent_at, event_id, customer_id,
       erased, named_version, named_at, coalesce(named_sent_at, named_at) AS named_sent_at,
       named_event_id, status, payment_status, total, refunded, date_created, currency,
       exchange_rate
FROM orders WHERE id = ANY(:ids)
""")
_OWNERS = text("""
SELECT identifier, customer_id FROM identifiers
WHERE identifier = ANY(:identifiers) AND customer_id IS NOT NULL
""")
_MARK_ERASED = text(
    "UPDATE orders SET erased = true"
    " WHERE id IN (SELECT id FROM orders WHERE id = ANY(:ids) AND customer_id IS NULL"
    " AND NOT erased ORDER BY id FOR UPDATE)"
)

_OURS = IdentifierKind.CUSTOMER


class KnownOrder(NamedTuple):
    """What is known of an order: stored, or from earlier lines of the file."""

    state: EventKey
    """The key of the event that gave the order its state."""
    naming: EventKey | None
    """The key of the event that named its customer."""
    content: OrderContent


class OrderPlan(NamedTuple):
    """What a line does to its order."""

    verdict: Verdict
    writes: bool
    """False if this very event was applied before. Its id is made of all that it says."""


async def plan_orders(
    connection: AsyncConnection, lines: Sequence[OrderLine], earlier: Mapping[str, KnownOrder]
) -> tuple[list[OrderPlan], dict[str, KnownOrder]]:
    """Return what each line changes, one after the other, and what is known of each order then.

    Writes nothing. ``earlier`` has the orders that earlier lines of the file would have written. A
    line that only has newer profile values of its customer counts as unchanged.
    """
    ids = sorted({line.event.order_id for line in lines})
    known: dict[str, KnownOrder] = {}
    for row in await connection.execute(_STORED, {"ids": ids}):
        state = EventKey(row.version, row.updated_at, row.sent_at, row.event_id)
        naming = EventKey(row.named_version, row.named_at, row.named_sent_at, row.named_event_id)
        content = OrderContent(
            row.status,
            row.payment_status,
            int(row.total * 100),
            int(row.refunded * 100),
            row.date_created,
            row.currency,
            row.exchange_rate,
        )
        named = naming if row.customer_id else state if row.erased else None
        known[row.id] = KnownOrder(state, named, content)
    known.update(earlier)
    return [_planned(event, known) for event, _ in lines], known


def _planned(event: OrderEvent, known: dict[str, KnownOrder]) -> OrderPlan:
    """Return what the event changes, and update what is known of its order."""
    names = bool(event.customer and kind_of(event.customer.identifiers[-1]) is not _OURS)
    before = known.get(event.order_id)
    if before is None:
        known[event.order_id] = KnownOrder(event.key, event.key if names else None, event.content)
        return OrderPlan(Verdict.NEW, writes=True)
    same = event.content == before.content
    later = event.key > before.state
    named_first = names and before.naming is None
    named_later = names and (before.naming is None or event.key > before.naming)
    known[event.order_id] = KnownOrder(
        event.key if later else before.state,
        event.key if named_later else before.naming,
        event.content if later else before.content,
    )
    # A file that is only younger says nothing new.
    changed = later and (not same or event.key[:2] > before.state[:2])
    if changed or named_first:
        return OrderPlan(Verdict.CHANGED, writes=True)
    repeated = event.key.event_id == before.state.event_id
    told = same or repeated or not event.key.event_id.startswith(MADE_ID)
    return OrderPlan(Verdict.UNCHANGED if told else Verdict.OLDER, writes=not repeated)


async def owners_of(connection: AsyncConnection, lines: Sequence[OrderLine]) -> dict[str, int]:
    """Return the customers whom the identifiers of these orders mean already."""
    identifiers = sorted(
        {
            identifier
            for line in lines
            if line.event.customer
            for identifier in line.event.customer.identifiers
        }
    )
    rows = await connection.execute(_OWNERS, {"identifiers": identifiers})
    return {row.identifier: row.customer_id for row in rows}


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
    await apply_with_facts(connection, [line.event for line in lines], cause=Cause.IMPORT)
    erased = sorted({line.event.order_id for line in lines if line.erased})
    if erased:
        await connection.execute(_MARK_ERASED, {"ids": erased})
