"""Use `segment_changes` as an outbox, whose events are `customer-segment-changed`.

For one customer, publish numbers rise with the sequence: the next change of a customer is written
under the customer's lock, which the transaction of the change before held until that change was
visible.
"""

from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import Row

from service.core.customer_ids import customer_ref
from service.core.json_values import timestamp
from service.core.published_change import read_change
from service.db.outbox import Outbox, OutboxEvent
from service.db.segments import unknown_changes


def _event(row: Row[Any]) -> OutboxEvent:
    """Write the event that `service.core.segment_event` describes.

    The pydantic model does not write it: its `float` would lose the second decimal of 6.30, and it
    takes ten times as long. No text but the trace context can need an escape.
    """
    number, customer_id, sequence, previous, segment, cause, settings_version, *rest = tuple(row)
    total_orders, total_spent, last_order_date, changed_at, traceparent = rest
    customer = customer_ref(customer_id)
    event_id = f"{customer}:{sequence}"
    at = _moment(changed_at)
    traced = f'"traceparent":{orjson.dumps(traceparent).decode()},' if traceparent else ""
    body = (
        f'{{"specversion":"1.0","id":"{event_id}","source":"/recovery-essentials-crm",'
        f'"type":"customer-segment-changed","time":{at},"subject":"{customer}",'
        f'"datacontenttype":"application/json",{traced}'
        f'"data":{{"customerId":"{customer}","previousSegment":{_text(previous)},'
        f'"segment":{_text(segment)},"cause":{_text(cause)},"totalOrders":{total_orders},'
        f'"totalSpent":{total_spent:.2f},"lastOrderDate":{_moment(last_order_date)},'
        f'"settingsVersion":{settings_version},"changedAt":{at},"sequence":{sequence}}}}}'
    )
    return OutboxEvent(number, event_id, customer_id, body.encode(), traceparent)


def _text(value: str | None) -> str:
    return "null" if value is None else f'"{value}"'


@lru_cache(256)  # the changes of a batch have one time
def _moment(value: datetime | None) -> str:
    return _text(timestamp(value))


CHANGES = Outbox(
    event="segment change",
    table="segment_changes",
    relay="relay",
    columns=(
        "customer_id",
        "sequence",
        "previous",
        "segment",
        "cause",
        "settings_version",
        "total_orders",
        "total_spent",
        "last_order_date",
        "changed_at",
        "traceparent",
    ),
    write=_event,
    read=read_change,
    refusals=unknown_changes.refusals,
    on_unknown="Changes of these customers wait, the others are published. Run `crm recover`",
    keep=unknown_changes.keep,
    # Subscribers would drop changes of these customers, because their sequences are taken.
    holds="unknown_changes",
)
