"""What a shop says of an order without the order: that it was deleted, and single refunds.

An order's state is what its newest event says, changed by these facts. So it is the same whatever
arrives first.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from service.core.order_event import OrderEvent

_REFUNDED = "refunded"


class Refund(NamedTuple):
    """A single refund of an order."""

    cents: int
    at: datetime


class ShopFacts(NamedTuple):
    """All that a shop has said of an order without the order."""

    deleted_at: datetime | None
    refunds: Sequence[Refund]


def with_facts(event: OrderEvent, facts: ShopFacts) -> OrderEvent:
    """Return the order's state: what the event says, and what the facts change.

    An event has all refunds that were made before it. Later ones are added. If all refunds that are
    known are more than that, they are the refund.

    The state's key is greater than the event's by some microseconds, one for each fact. So it wins
    against its event, and loses against every later one.
    """
    told = event.refunded_cents
    if not told and _REFUNDED in {event.status, event.payment_status}:
        told = event.total_cents
    later = sum(refund.cents for refund in facts.refunds if refund.at > event.key.at)
    refunded = max(told + later, sum(refund.cents for refund in facts.refunds))
    deleted = facts.deleted_at is not None and facts.deleted_at >= event.key.at
    if refunded == told and (not deleted or event.status == "cancelled"):
        return event
    payment = event.payment_status
    if refunded > told and payment in {"paid", "partially_refunded"}:
        payment = _REFUNDED if refunded >= event.total_cents else "partially_refunded"
    count = len(facts.refunds) + (facts.deleted_at is not None)
    return event.but(
        key=event.key._replace(sent=event.key.sent + timedelta(microseconds=count)),
        status="cancelled" if deleted else event.status,
        payment_status=payment,
        refunded_cents=refunded if refunded > told else event.refunded_cents,
    )
