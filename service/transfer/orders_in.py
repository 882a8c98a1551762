"""Orders from a file: judged by the contract and applied by the same code as the stream's.

They are not counted as stream entries, and what is refused goes into a report, not to the dead
letters: whoever imports is there to read it.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.core.envelope import CANONICAL_FIELD, Entry
from service.core.judge import Terms, judge
from service.core.numbers import whole_number
from service.core.order_event import EventKey, OrderEvent, Reason, Refusal
from service.db.engine import in_transaction, refused_data
from service.db.ingest.apply import apply_events
from service.db.ingest.owners import OwnerChangedError
from service.transfer.export import undefused
from service.transfer.lines import LineFault, Verdict

COLUMNS = {
    "id": ("id",),
    "version": ("version",),
    "customerId": ("customer", "id"),
    "customerName": ("customer", "name"),
    "customerEmail": ("customer", "email"),
    "customerPhone": ("customer", "phone"),
    "status": ("status",),
    "paymentStatus": ("paymentStatus",),
    "totalAmount": ("totalAmount",),
    "refundedAmount": ("refundedAmount",),
    "currency": ("currency",),
    "street": ("shippingAddress", "street"),
    "city": ("shippingAddress", "city"),
    "state": ("shippingAddress", "state"),
    "zip": ("shippingAddress", "zip"),
    "country": ("shippingAddress", "country"),
    "dateCreated": ("dateCreated",),
    "dateUpdated": ("dateUpdated",),
}
"""A column of orders.csv, and where the contract has its value."""

_WHERE = re.compile(r"`([^`]+)`")
_OF_PATH = {"data." + ".".join(path): column for column, path in COLUMNS.items()}
_MENDS = {
    Reason.CURRENCY_MISMATCH: "leave it out, or import it where that currency is the store's",
    Reason.MISSING_FIELD: "give it a value",
    Reason.NOT_JSON: "one JSON object a line; is it cut off?",
    Reason.TOO_LARGE: "leave out items and attachments",
}


class OrderLine(NamedTuple):
    """An order event, and whether whom it named has been erased since."""

    event: OrderEvent
    erased: bool = False


class Rules(NamedTuple):
    """What lines are judged by."""

    terms: Terms
    now: datetime


def order_line(line: bytes, rules: Rules) -> OrderLine | LineFault:
    """Read a line of JSON: a CloudEvents document, or an order by itself.

    The event of the latter has an id made of its content, so that it is the same one next time.
    """
    erased = False
    try:
        found: Any = json.loads(line, parse_float=str)
    except (ValueError, RecursionError):
        found = None  # the contract says what is wrong with it
    if isinstance(found, dict):
        if "data" in found or "specversion" in found:
            erased = found.get("erased") is True
        else:
            content = json.dumps(found, sort_keys=True).encode()
            identity = hashlib.sha256(content).hexdigest()[:32]
            head = f'{{"id":"import-{identity}","type":"order-updated","data":'.encode()
            line = head + line.strip() + b"}"
    entry = Entry("0-0", {CANONICAL_FIELD: line})
    verdict = judge(entry, rules.terms, rules.now)
    return _fault(verdict) if isinstance(verdict, Refusal) else OrderLine(verdict, erased)


def order_cells(cells: Mapping[str, str], rules: Rules) -> OrderLine | LineFault:
    """Read a line of orders.csv; an empty cell says nothing."""
    order: dict[str, Any] = {}
    for column, (*above, name) in COLUMNS.items():
        value = undefused(cells.get(column, "")).strip()
        if value:
            inside = order.setdefault(above[0], {}) if above else order
            inside[name] = value.lower() if column in {"status", "paymentStatus"} else value
    version = order.get("version", "0")
    number = whole_number(version)
    if number is None:
        return LineFault(
            "version", f"{version[:40]!r} is no whole number", "correct it or clear it"
        )
    if "version" in order:
        order["version"] = number
    return order_line(json.dumps(order).encode(), rules)


def _fault(refusal: Refusal) -> LineFault:
    found = _WHERE.match(refusal.message)
    path = found[1] if found else ""
    column = _OF_PATH.get(path, path.removeprefix("data."))
    return LineFault(column, refusal.message, _MENDS.get(refusal.reason, "correct it"))


_STORED = text("""
SELECT id, version, updated_at, event_id, customer_id, erased, named_version, named_at,
       named_event_id
FROM orders WHERE id = ANY(:ids)
""")
_MARK_ERASED = text(
    "UPDATE orders SET erased = true"
    " WHERE id IN (SELECT id FROM orders WHERE id = ANY(:ids) AND customer_id IS NULL"
    " AND NOT erased ORDER BY id FOR UPDATE)"
)


Keys = tuple[EventKey, EventKey | None]
"""Of an order: the key of its state, and of the event that said whose it is."""


async def plan_orders(
    connection: AsyncConnection, lines: Sequence[OrderLine], seen: Mapping[str, Keys]
) -> tuple[list[Verdict], dict[str, Keys]]:
    """Say what each line does, one after the other, and the orders' keys afterwards.

    Writes nothing; ``seen`` are keys that earlier lines would have written. A line that merely
    tells something newer of its customer counts as unchanged.
    """
    ids = sorted({line.event.order_id for line in lines})
    keys: dict[str, Keys] = {}
    for row in await connection.execute(_STORED, {"ids": ids}):
        state = EventKey(row.version, row.updated_at, row.event_id)
        naming = EventKey(row.named_version, row.named_at, row.named_event_id)
        keys[row.id] = (state, naming if row.customer_id else state if row.erased else None)
    keys.update(seen)
    return [_verdict(event, keys) for event, _ in lines], keys


def _verdict(event: OrderEvent, keys: dict[str, Keys]) -> Verdict:
    names = bool(event.customer and event.customer.email_key)
    known = keys.get(event.order_id)
    if known is None:
        keys[event.order_id] = (event.key, event.key if names else None)
        return Verdict.NEW
    state, naming = known
    later = event.key > state
    named_later = names and (naming is None or event.key > naming)
    keys[event.order_id] = (
        event.key if later else state,
        event.key if named_later else naming,
    )
    return Verdict.CHANGED if later or named_later else Verdict.UNCHANGED


async def write_orders(engine: AsyncEngine, lines: Sequence[OrderLine]) -> list[int]:
    """Apply and commit them; give the places of those whose data the database refused."""

    async def work(connection: AsyncConnection) -> None:
        await apply_events(connection, [line.event for line in lines])
        erased = sorted({line.event.order_id for line in lines if line.erased})
        if erased:
            await connection.execute(_MARK_ERASED, {"ids": erased})

    if not lines:
        return []
    try:
        await in_transaction(engine, work, retry_on=(OwnerChangedError,))
    except DBAPIError as error:
        if not refused_data(error):
            raise
        if len(lines) == 1:
            return [0]
        half = len(lines) // 2
        later = await write_orders(engine, lines[half:])
        return await write_orders(engine, lines[:half]) + [half + place for place in later]
    return []
