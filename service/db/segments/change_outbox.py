"""Use `segment_changes` as an outbox, whose events are `customer-segment-changed`.

For one customer, publish numbers rise with the sequence: the next change of a customer is written
under the customer's lock, which the transaction of the change before held until that change was
visible.
"""

from typing import Any

import orjson
from sqlalchemy import Row

from service.core.customer_ids import customer_ref
from service.core.json_values import money
from service.core.published_change import read_change
from service.db.outbox import Outbox, OutboxEvent
from service.db.segments import unknown_changes


def _event(row: Row[Any]) -> OutboxEvent:
    """Write the event that `service.core.segment_event` describes.

    The pydantic model does not write it, because its `float` would lose the second decimal of 6.30.
    """
    customer = customer_ref(row.customer_id)
    event_id = f"{customer}:{row.sequence}"
    body = orjson.dumps(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": "/recovery-essentials-crm",
            "type": "customer-segment-changed",
            "time": row.changed_at,
            "subject": customer,
            "datacontenttype": "application/json",
            **({"traceparent": row.traceparent} if row.traceparent else {}),
            "data": {
                "customerId": customer,
                "previousSegment": row.previous,
                "segment": row.segment,
                "cause": row.cause,
                "totalOrders": row.total_orders,
                "totalSpent": money(row.total_spent),
                "lastOrderDate": row.last_order_date,
                "settingsVersion": row.settings_version,
                "changedAt": row.changed_at,
                "sequence": row.sequence,
            },
        },
        option=orjson.OPT_UTC_Z,  # Postgres gives every moment in UTC
    )
    return OutboxEvent(row.publish_number, event_id, row.customer_id, body, row.traceparent)


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
