"""Publish the orders of webhooks as events, by the same mappings that read files."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC
from typing import Any

from service.core.hooks import DeliveryOutcome
from service.core.partitions import stream_of
from service.http.hooks.platform import Delivery, Handler, Result
from service.http.state import WebState
from service.streams import order_entries
from service.transfer.formats.format import Format, OrderDocument, Reading
from service.transfer.lines import DraftError, LineFault, RefusedLineError
from service.transfer.order_lines import order_line
from service.transfer.publisher import with_country

XADD_SECONDS = 3.0
"""How long Redis may take. Shopify hangs up after 5 seconds."""
_KEPT = "The dead letters keep it. Once the cause is mended, retry it there."


def publishes(format_: Format, *, created: bool = False) -> Handler:
    """Return the handler of a topic whose body is a whole order of this format."""

    async def publish(state: WebState, delivery: Delivery) -> Result:
        if not isinstance(delivery.document, dict):
            return await keep_unread(state, delivery)
        terms = state.config.terms
        reading = Reading(UTC, terms.country, delivery.hook.domain)
        try:
            order = format_.read(delivery.document, reading)
        except DraftError:
            return Result(DeliveryOutcome.IGNORED)
        except RefusedLineError as error:
            return await keep_unread(state, delivery, _said(error.fault))
        assert isinstance(order, OrderDocument)  # noqa: S101 - formats of orders return them
        line = order_line(order, terms, delivery.received_at, delivery.at, format_.theirs)
        if not isinstance(line, LineFault):
            order = with_country(order, line)
        await _add(state, _event(delivery, order.data, created=created), order.data)
        if isinstance(line, LineFault):
            return Result(DeliveryOutcome.DEAD_LETTERED, f"{_said(line)} {_KEPT}")
        return Result(DeliveryOutcome.PUBLISHED)

    return publish


async def keep_unread(
    state: WebState, delivery: Delivery, said: str = "The body does not have what this topic has."
) -> Result:
    """Publish a body that cannot be read as it is, so that a worker makes a dead letter of it."""
    await _add(state, delivery.body, None)
    return Result(DeliveryOutcome.DEAD_LETTERED, f"{said} {_KEPT}")


async def publish_event(state: WebState, delivery: Delivery) -> Result:
    """Publish a body that is an order event already."""
    document = delivery.document
    order = document.get("data") if isinstance(document, dict) else None
    if isinstance(document, dict) and not document.get("source"):
        sourced = {**document, "source": delivery.hook.domain}
        await _add(state, json.dumps(sourced, default=str).encode(), order)
    else:
        await _add(state, delivery.body, order)
    return Result(DeliveryOutcome.PUBLISHED)


def _event(delivery: Delivery, order: Mapping[str, Any], *, created: bool) -> bytes:
    sent_at = delivery.triggered_at and delivery.at.isoformat()
    event = {
        "specversion": "1.0",
        "id": delivery.event_id or delivery.digest.hex(),
        "source": delivery.hook.domain,
        "type": "order-created" if created else "order-updated",
        "time": sent_at or order.get("dateUpdated") or delivery.at.isoformat(),
        "subject": order.get("id"),
        "datacontenttype": "application/json",
        "data": order,
    }
    return json.dumps(event, default=str).encode()


async def _add(state: WebState, document: bytes, order: object) -> None:
    """Add an entry to the stream that a publisher would choose. Returns once Redis has it."""
    stream = stream_of(state.config.orders_streams, order)
    async with asyncio.timeout(XADD_SECONDS):
        await order_entries.add(state.redis, stream, document)


def _said(fault: LineFault) -> str:
    """Return a fault as a sentence."""
    return f"{fault.column} {fault.problem}.".strip().replace("..", ".")
