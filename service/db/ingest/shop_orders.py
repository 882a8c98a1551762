"""Apply order events together with what shops say of their orders by the shop's number alone.

Shops delete orders and refund them without sending the order: they only send its number. What they
say is kept, and changes the order whenever either of them arrives. Events of shops have that number
as well. While a batch with such events is applied, nobody adds facts: else each of the two could
miss the other.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.batch import Outcome
from service.core.order_event import EventKey, OrderEvent, ShopOrder
from service.core.segment_event import Cause
from service.core.shop_facts import Refund, ShopFacts, with_facts
from service.db.columns import pack, unpack
from service.db.ingest.apply import apply_events
from service.db.locks import AdvisoryLock, share_lock, wait_for_lock

_NUMBERS = unpack({"source": "text", "shop_id": "text"})
_FACTS = text(f"""
SELECT n.source, n.shop_id, s.deleted_at, r.cents, r.at
FROM ({_NUMBERS}) n
LEFT JOIN LATERAL (
  SELECT deleted_at FROM shop_orders WHERE (source, shop_id) = (n.source, n.shop_id) OFFSET 0
) s ON true
CROSS JOIN LATERAL (
  SELECT array_agg(CAST(amount * 100 AS bigint) ORDER BY refund_id) AS cents,
    array_agg(refunded_at ORDER BY refund_id) AS at
  FROM shop_refunds WHERE (source, shop_id) = (n.source, n.shop_id)
) r
WHERE s.deleted_at IS NOT NULL OR r.cents IS NOT NULL
""")
# An order that was erased may be stored under a pseudonym. Then its number stays unknown.
_REMEMBER = text(f"""
INSERT INTO shop_orders AS s (source, shop_id, order_id, told)
SELECT DISTINCT ON (p.source, p.shop_id) p.source, p.shop_id, o.id,
  CASE WHEN (o.updated_at, coalesce(o.sent_at, o.updated_at)) = (p.at, p.sent) THEN p.told END
FROM ({
    unpack(
        {
            "source": "text",
            "shop_id": "text",
            "order_id": "text",
            "at": "timestamptz",
            "sent": "timestamptz",
            "told": "jsonb",
        }
    )
}) p CROSS JOIN LATERAL (
  SELECT id, updated_at, sent_at FROM orders WHERE id = p.order_id OFFSET 0
) o
ORDER BY p.source, p.shop_id, p.at DESC, p.sent DESC
ON CONFLICT (source, shop_id) DO UPDATE SET
  order_id = excluded.order_id, told = coalesce(excluded.told, s.told)
WHERE s.order_id IS DISTINCT FROM excluded.order_id OR excluded.told <> coalesce(s.told, 'null')
""")
_DELETED = text("""
INSERT INTO shop_orders AS s (source, shop_id, deleted_at) VALUES (:source, :id, :at)
ON CONFLICT (source, shop_id) DO UPDATE SET deleted_at = GREATEST(s.deleted_at, :at)
""")
_REFUNDED = text("""
INSERT INTO shop_refunds (source, shop_id, refund_id, amount, refunded_at)
VALUES (:source, :id, :refund, :amount, :at)
ON CONFLICT DO NOTHING
""")
_STORED = text("""
SELECT o.id, o.version, o.updated_at, coalesce(o.sent_at, o.updated_at) AS sent_at, o.event_id,
  o.status, o.payment_status, CAST(o.total * 100 AS bigint) AS total_cents,
  CAST(o.refunded * 100 AS bigint) AS refunded_cents, o.date_created, o.currency,
  o.exchange_rate, s.told
FROM shop_orders s JOIN orders o ON o.id = s.order_id
WHERE (s.source, s.shop_id) = (:source, :id)
""")


async def apply_with_facts(
    connection: AsyncConnection,
    events: Sequence[OrderEvent],
    now: datetime | None = None,
    cause: Cause = Cause.ORDER,
) -> Counter[Outcome]:
    """Apply events as `apply_events` does, changed by what shops have said of their orders."""
    numbers = {event.shop_order for event in events if event.shop_order}
    if not numbers:  # nearly always
        return await apply_events(connection, events, now, cause)
    await share_lock(connection, AdvisoryLock.SHOP_FACTS)
    known = await _facts(connection, numbers)
    states = [
        with_facts(event, known[event.shop_order]) if event.shop_order in known else event
        for event in events
    ]
    outcomes = await apply_events(connection, states, now, cause)
    await _remember(connection, list(zip(events, states, strict=True)))
    return outcomes


async def delete_order(connection: AsyncConnection, number: ShopOrder, at: datetime) -> None:
    """Note that a shop deleted an order, which cancels it; the caller commits.

    An event of the order that is later than ``at`` brings it back. Raises OwnerChangedError.
    """
    await wait_for_lock(connection, AdvisoryLock.SHOP_FACTS)
    await connection.execute(_DELETED, {**number._asdict(), "at": at})
    await _change(connection, number)


async def refund_order(
    connection: AsyncConnection, number: ShopOrder, refund_id: str, amount: Decimal, at: datetime
) -> None:
    """Note a refund of an order; the caller commits. The same refund twice is one.

    Raises OwnerChangedError.
    """
    await wait_for_lock(connection, AdvisoryLock.SHOP_FACTS)
    parameters = {**number._asdict(), "refund": refund_id, "amount": amount, "at": at}
    await connection.execute(_REFUNDED, parameters)
    await _change(connection, number)


async def _change(connection: AsyncConnection, number: ShopOrder) -> None:
    """Bring an order that is known up to date with the facts."""
    row = (await connection.execute(_STORED, number._asdict())).one_or_none()
    if row is None:
        return
    told = _told(row, number)
    known = await _facts(connection, [number])
    state = with_facts(told, known.get(number, ShopFacts(None, ())))
    if state.key.sent > row.sent_at:
        await apply_events(connection, [state])
        await _remember(connection, [(told, state)])


async def _facts(
    connection: AsyncConnection, numbers: Iterable[ShopOrder]
) -> dict[ShopOrder, ShopFacts]:
    """Return what shops have said of these orders, if anything."""
    ordered = sorted(numbers)
    rows = await connection.execute(
        _FACTS,
        pack(
            {
                "source": [number.source for number in ordered],
                "shop_id": [number.id for number in ordered],
            }
        ),
    )
    return {
        ShopOrder(row.source, row.shop_id): ShopFacts(
            row.deleted_at,
            [Refund(cents, at) for cents, at in zip(row.cents or (), row.at or (), strict=True)],
        )
        for row in rows
    }


async def _remember(
    connection: AsyncConnection, pairs: Sequence[tuple[OrderEvent, OrderEvent]]
) -> None:
    """Remember which order each number means, and what its event said if facts changed that."""
    rows = [(event, state, event.shop_order) for event, state in pairs if event.shop_order]
    await connection.execute(
        _REMEMBER,
        pack(
            {
                "source": [number.source for _, _, number in rows],
                "shop_id": [number.id for _, _, number in rows],
                "order_id": [event.order_id for event, _, _ in rows],
                "at": [state.key.at for _, state, _ in rows],
                "sent": [state.key.sent for _, state, _ in rows],
                "told": [_document(event, state) for event, state, _ in rows],
            }
        ),
    )


def _document(event: OrderEvent, state: OrderEvent) -> dict[str, Any] | None:
    """Return what the event says that the state does not; None if they are the same."""
    if event == state:
        return None
    return {
        "micros": (state.key.sent - event.key.sent) // timedelta(microseconds=1),
        "state_sent": state.key.sent.isoformat(),
        "status": event.status,
        "payment_status": event.payment_status,
        "refunded_cents": event.refunded_cents,
    }


def _told(row: Any, number: ShopOrder) -> OrderEvent:
    """Return the event whose state is stored, as it was before facts changed it."""
    told: Mapping[str, Any] = {}
    sent = row.sent_at
    if row.told and datetime.fromisoformat(row.told["state_sent"]) == row.sent_at:
        told = row.told
        sent -= timedelta(microseconds=told["micros"])
    return OrderEvent(
        order_id=row.id,
        key=EventKey(row.version, row.updated_at, sent, row.event_id),
        profile_at=row.updated_at,
        status=told.get("status", row.status),
        payment_status=told.get("payment_status", row.payment_status),
        total_cents=row.total_cents,
        refunded_cents=told.get("refunded_cents", row.refunded_cents),
        date_created=row.date_created,
        customer=None,
        currency=row.currency,
        exchange_rate=row.exchange_rate,
        shop_order=number,
    )
