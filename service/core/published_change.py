"""Read a segment change back from the out-stream, without trusting whoever wrote it."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from pydantic import ValidationError

from service.core.published_event import (
    MOST_BYTES,
    NotOursError,
    is_possible_moment,
    possible_customer,
)
from service.core.segment_event import Cause, SegmentChange, SegmentChangedCloudEvent
from service.core.segment_rules import Segment

_MOST_COUNTED = 10**9
_MOST_SPENT = Decimal(10**18)
_CENT = Decimal("0.01")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class PublishedChange(NamedTuple):
    """A segment change as the out-stream has it."""

    customer_id: int
    sequence: int
    previous: Segment | None
    segment: Segment
    cause: Cause
    settings_version: int
    total_orders: int
    total_spent: Decimal
    last_order_date: datetime | None
    changed_at: datetime
    traceparent: str | None


def read_change(body: bytes, now: datetime) -> PublishedChange:
    """Read a change from its CloudEvents JSON. Raises NotOursError."""
    if len(body) > MOST_BYTES:
        msg = "it is too long"
        raise NotOursError(msg)
    try:
        event = SegmentChangedCloudEvent.model_validate_json(body, strict=True)
        spent = json.loads(body, parse_float=Decimal, parse_int=Decimal)["data"]["totalSpent"]
    except (ValidationError, ValueError, KeyError, TypeError):
        msg = "it is not a segment change"
        raise NotOursError(msg) from None
    number = possible_customer(event.data.customer_id)
    wrong = next(_impossible(event, number, spent, now), None)
    if wrong or number is None:
        msg = f"it has an impossible value: {wrong}"
        raise NotOursError(msg)
    data = event.data
    return PublishedChange(
        number,
        data.sequence,
        data.previous_segment,
        data.segment,
        data.cause,
        data.settings_version,
        data.total_orders,
        spent,
        data.last_order_date,
        data.changed_at,
        event.traceparent,
    )


def _impossible(
    event: SegmentChangedCloudEvent, number: int | None, spent: object, now: datetime
) -> Iterator[str]:
    """Yield the names of the fields whose value this service would not write."""
    data = event.data
    if number is None:
        yield "customerId"
    if event.subject != data.customer_id:
        yield "subject"
    if not 1 <= data.sequence <= _MOST_COUNTED:
        yield "sequence"
    if event.id != f"{data.customer_id}:{data.sequence}":
        yield "id"
    yield from _impossible_values(data, spent)
    moments = {"time": event.time, "changedAt": data.changed_at}
    if data.last_order_date is not None:
        moments["lastOrderDate"] = data.last_order_date
    for name, moment in moments.items():
        if not is_possible_moment(moment, now):
            yield name
    if event.traceparent is not None and not _TRACEPARENT.fullmatch(event.traceparent):
        yield "traceparent"


def _impossible_values(data: SegmentChange, spent: object) -> Iterator[str]:
    if data.previous_segment == data.segment or (data.previous_segment is None) != (
        data.sequence == 1
    ):
        yield "previousSegment"
    if not 1 <= data.settings_version <= _MOST_COUNTED:
        yield "settingsVersion"
    if not 0 <= data.total_orders <= _MOST_COUNTED or (data.total_orders == 0) != (
        data.last_order_date is None
    ):
        yield "totalOrders"
    if (
        not isinstance(spent, Decimal)
        or not spent.is_finite()
        or not 0 <= spent < _MOST_SPENT
        or spent != spent.quantize(_CENT)
    ):
        yield "totalSpent"
