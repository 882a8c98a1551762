"""Read a removal back from the stream of removals, without trusting whoever wrote it."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from pydantic import ValidationError

from service.core.published_event import (
    MOST_BYTES,
    NotOursError,
    is_possible_moment,
    possible_customer,
)
from service.core.removal_event import CustomerRemovedCloudEvent, RemovalReason


class PublishedRemoval(NamedTuple):
    """A removal as the stream has it."""

    customer_id: int
    reason: RemovalReason


def event_id(customer: str) -> str:
    """Return the id of the event that a customer is gone. There is one event per customer."""
    return f"{customer}:removed"


def read_removal(body: bytes, now: datetime) -> PublishedRemoval:
    """Read a removal from its CloudEvents JSON. Raises NotOursError."""
    if len(body) > MOST_BYTES:
        msg = "it is too long"
        raise NotOursError(msg)
    try:
        event = CustomerRemovedCloudEvent.model_validate_json(body, strict=True)
    except ValidationError:
        msg = "it is not a removal"
        raise NotOursError(msg) from None
    number = possible_customer(event.data.customer_id)
    wrong = next(_impossible(event, now), None)
    if wrong or number is None:
        msg = f"it has an impossible value: {wrong or 'customerId'}"
        raise NotOursError(msg)
    return PublishedRemoval(number, event.data.reason)


def _impossible(event: CustomerRemovedCloudEvent, now: datetime) -> Iterator[str]:
    """Yield the names of the fields whose value this service would not write."""
    data = event.data
    if event.subject != data.customer_id:
        yield "subject"
    if event.id != event_id(data.customer_id):
        yield "id"
    if (
        (data.merged_into is None) == (data.reason == RemovalReason.MERGED)
        or data.merged_into == data.customer_id
        or (data.merged_into is not None and possible_customer(data.merged_into) is None)
    ):
        yield "mergedInto"
    for name, moment in {"time": event.time, "removedAt": data.removed_at}.items():
        if not is_possible_moment(moment, now):
            yield name
