"""Log which events were refused, applied and published: their ids, never their content."""

import logging
from collections.abc import Sequence

import orjson

from service.core.envelope import Entry, payload
from service.core.order_event import Judged, Refusal
from service.db.outbox import OutboxEvent
from service.logs import plain

log = logging.getLogger(__name__)

_MOST_REFUSALS = 20
"""Lines per batch. A publisher whose every entry is refused must not flood the log."""
_MOST_BYTES = 65_536
"""Ids of larger entries are not looked for."""


def log_batch(batch: Sequence[Judged]) -> None:
    """Log the refused entries of a committed batch as warnings, and the applied ones at DEBUG."""
    refused = [(entry, verdict) for entry, verdict in batch if isinstance(verdict, Refusal)]
    for entry, refusal in refused[:_MOST_REFUSALS]:
        event_id, order_id = _ids(entry)
        log.warning(
            "entry %s is a dead letter: %s (event %s, order %s)",
            *(entry.id, refusal.reason.value, event_id, order_id),
            extra={
                **_place(entry),
                "reason": refusal.reason.value,
                "eventId": event_id,
                "orderId": order_id,
            },
        )
    if len(refused) > _MOST_REFUSALS:
        log.warning(
            "more dead letters of the same batch, not logged one by one: %d",
            len(refused) - _MOST_REFUSALS,
        )
    if not log.isEnabledFor(logging.DEBUG):
        return
    for entry, event in batch:
        if not isinstance(event, Refusal):
            event_id, order_id = plain(event.key.event_id), plain(event.order_id)
            log.debug(
                "event %s of order %s is applied",
                *(event_id, order_id),
                extra={**_place(entry), "eventId": event_id, "orderId": order_id},
            )


def log_published(events: Sequence[OutboxEvent]) -> None:
    """Log at DEBUG which events were published."""
    if not log.isEnabledFor(logging.DEBUG):
        return
    for event in events:
        document = orjson.loads(event.body)
        data = document["data"]
        log.debug(
            "%s is %s now, published as %d on %s",
            data["customerId"],
            data.get("segment") or data["reason"],
            event.number,
            document["type"],
            extra={
                name: data[name]
                for name in ("customerId", "segment", "sequence", "reason")
                if name in data
            },
        )


def _place(entry: Entry) -> dict[str, object]:
    partition = {} if entry.partition is None else {"partition": entry.partition}
    return {"streamId": entry.id, **partition}


def _ids(entry: Entry) -> tuple[str, str]:
    """Return the event's and the order's id, as far as a refused entry can be read.

    This decodes the entry again: an entry refused after too many deliveries was never decoded,
    and only the few refusals that are logged pay for it. A large entry is not worth it: decoded,
    it may take thirty times its size.
    """
    try:
        document = orjson.loads(payload(entry.fields) or b"") if entry.size <= _MOST_BYTES else None
    except ValueError:
        document = None
    event = document if isinstance(document, dict) else {}
    order = event.get("data")
    return plain(event.get("id")), plain(order.get("id") if isinstance(order, dict) else None)
