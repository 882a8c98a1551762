"""Keep erased people out of the orders that stay, when events of these orders arrive again.

An id that holds a person's e-mail, phone or name gets a pseudonym when the person is erased. Here
the events of a batch get the same pseudonyms, so that they find their orders, and so that nothing
that they carry brings the person back.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.identity import ERASED, Naming
from service.core.order_event import EventCustomer, OrderEvent
from service.core.personal_ids import Identifiers, holds_any, looks_personal, pseudonym
from service.db.columns import pack, unpack
from service.db.customers.identity.claims import emails_among
from service.db.ingest.owners import Owners

_STORED = text(f"""
SELECT n.order_id, o.id, o.erased, ARRAY[o.event_id, o.named_event_id]
  || ARRAY(SELECT event_id FROM order_conflicts WHERE order_id = o.id) AS event_ids
FROM ({unpack({"order_id": "text", "pseudonym": "text"})}) n CROSS JOIN LATERAL (
  SELECT id, erased, event_id, named_event_id FROM orders
  WHERE id IN (n.order_id, n.pseudonym) OFFSET 0
) o
""")
_RENAME = text(f"""
UPDATE orders o SET id = n.pseudonym
FROM ({unpack({"order_id": "text", "pseudonym": "text"})}) n
WHERE o.id = n.order_id AND NOT EXISTS (SELECT FROM orders p WHERE p.id = n.pseudonym)
""")
# Nobody looks for pseudonyms before the first one is stored. Batches that looked at the same time
# run again. For the streams, see `service.db.operations.stream_erasure`.
_REMEMBER = text("""
UPDATE installation SET late_events = late_events + CAST(:late AS integer),
  ids_replaced = GREATEST(ids_replaced, CAST(:replaced AS integer))
""")


class HiddenEvents(NamedTuple):
    """Events with pseudonyms, and what `remember` has to write when they were applied."""

    events: list[OrderEvent]
    late: bool
    """An event names a person who was erased before it was read."""
    replaced: bool
    """The id of an order was replaced."""


class _Stored(NamedTuple):
    """An order as it is stored."""

    id: str
    """The order's id, or its pseudonym."""
    erased: bool
    event_ids: Sequence[str | None]


async def hide_erased(
    connection: AsyncConnection, events: Sequence[OrderEvent], owners: Owners
) -> HiddenEvents:
    """Return the events with pseudonyms for ids that hold an erased person's identifiers.

    An order that is stored under such an id gets its pseudonym, too.
    """
    salt = owners.salt
    names = {event.order_id: pseudonym(event.order_id, salt) for event in events}
    rows = await connection.execute(
        _STORED, pack({"order_id": list(names), "pseudonym": list(names.values())})
    )
    stored = {row.order_id: _Stored(row.id, row.erased, row.event_ids) for row in rows}
    erased = {order_id for order_id, order in stored.items() if order.erased}
    personal = set[str]()
    theirs = {
        place: _of_erased(events[place], owners.namings[place], identifiers)
        for place, identifiers in owners.naming_erased.items()
    }
    for place, known_by in theirs.items():
        event = events[place]
        if owners.namings[place].owner == ERASED:
            erased.add(event.order_id)
        if holds_any(event.order_id, known_by):
            personal.add(event.order_id)
    stored_openly = {
        order_id for order_id in personal if order_id in stored and stored[order_id].id == order_id
    }
    if stored_openly:
        renamed = sorted(stored_openly)
        await connection.execute(
            _RENAME, pack({"order_id": renamed, "pseudonym": [names[id_] for id_ in renamed]})
        )
    hidden = personal | {
        order_id for order_id, order in stored.items() if order.id == names[order_id]
    }

    def with_pseudonyms(place: int, event: OrderEvent) -> OrderEvent:
        order_id, event_id = event.order_id, event.key.event_id
        if place not in theirs and order_id not in erased | hidden:
            return event
        event_pseudonym = pseudonym(event_id, salt)
        known = order_id in stored and event_pseudonym in stored[order_id].event_ids
        if order_id in erased | hidden:
            personal_id = looks_personal(event_id) or _holds(event_id, event.customer)
        else:
            personal_id = holds_any(event_id, theirs[place])
        if known or personal_id:
            event = event.but(key=event.key._replace(event_id=event_pseudonym))
        return event.but(order_id=names[order_id]) if order_id in hidden else event

    return HiddenEvents(
        [with_pseudonyms(place, event) for place, event in enumerate(events)],
        late=bool(owners.naming_erased),
        replaced=bool(personal),
    )


async def remember(connection: AsyncConnection, hidden: HiddenEvents) -> None:
    """Note that late events came and ids were replaced. Call it after the counters were written.

    An erasure locks the counters first, then this row. In another order, both could deadlock.
    """
    if hidden.late or hidden.replaced:
        await connection.execute(_REMEMBER, {"late": hidden.late, "replaced": hidden.replaced})


def _of_erased(event: OrderEvent, naming: Naming, identifiers: Sequence[str]) -> Identifiers:
    """Return what an event says about erased people: all of it, unless it names somebody else."""
    if event.customer and naming.owner == ERASED:
        return _known_by(event.customer)
    return Identifiers(emails_among(identifiers), phones=(), names=())


def _holds(id_: str, customer: EventCustomer | None) -> bool:
    return customer is not None and holds_any(id_, _known_by(customer))


def _known_by(customer: EventCustomer) -> Identifiers:
    return Identifiers(
        email_keys=[customer.email] if customer.email else [],
        phones=[customer.phone] if customer.phone else [],
        names=[customer.name] if customer.name else [],
    )
