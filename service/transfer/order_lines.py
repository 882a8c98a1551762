"""Read a line of an orders file, JSON or CSV, without a database.

An order is judged like an order event from the stream. A refused one goes into the import's report
and not to the dead letters, because the person who imports is there to read it.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from service.core.envelope import CANONICAL_FIELD, Entry
from service.core.judge import Terms, judge
from service.core.numbers import whole_number
from service.core.order_event import OrderEvent, Reason, Refusal
from service.transfer.formulas import unescaped
from service.transfer.lines import LineFault

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
    "exchangeRate": ("exchangeRate",),
    "street": ("shippingAddress", "street"),
    "city": ("shippingAddress", "city"),
    "state": ("shippingAddress", "state"),
    "zip": ("shippingAddress", "zip"),
    "country": ("shippingAddress", "country"),
    "dateCreated": ("dateCreated",),
    "dateUpdated": ("dateUpdated",),
}
"""The columns of orders.csv, and the path of each value in an order event's data."""

_QUOTED_PATH = re.compile(r"`([^`]+)`")
_COLUMN_OF_PATH = {"data." + ".".join(path): column for column, path in COLUMNS.items()}
_REMEDIES = {
    Reason.INVALID_CURRENCY: "correct it, or clear it if it is the store's currency",
    Reason.MISSING_FIELD: "give it a value",
    Reason.NOT_JSON: "write each order as one JSON object on one line; is this one cut off?",
    Reason.TOO_LARGE: "leave out items and attachments",
}


class OrderLine(NamedTuple):
    """An order event, and whether the person whom it named has been erased since."""

    event: OrderEvent
    erased: bool = False


def order_line(line: bytes, terms: Terms, now: datetime) -> OrderLine | LineFault:
    """Read a line of JSON: a CloudEvents document, or an order alone.

    An order alone has no event id. It gets one made from its content, so that the same line is the
    same event in the next import.
    """
    erased = False
    try:
        document: Any = json.loads(line, parse_float=str)
    except (ValueError, RecursionError):
        document = None  # `judge` says what is wrong with it
    if isinstance(document, dict):
        if "data" in document or "specversion" in document:
            erased = document.get("erased") is True
        else:
            content = json.dumps(document, sort_keys=True).encode()
            identity = hashlib.sha256(content).hexdigest()[:32]
            head = f'{{"id":"import-{identity}","type":"order-updated","data":'.encode()
            line = head + line.strip() + b"}"
    entry = Entry("0-0", {CANONICAL_FIELD: line})
    verdict = judge(entry, terms, now)
    return _fault(verdict) if isinstance(verdict, Refusal) else OrderLine(verdict, erased)


def order_cells(cells: Mapping[str, str], terms: Terms, now: datetime) -> OrderLine | LineFault:
    """Read the cells of a line of orders.csv by column; an empty cell says nothing."""
    order: dict[str, Any] = {}
    for column, (*above, name) in COLUMNS.items():
        value = unescaped(cells.get(column, "")).strip()
        if value:
            inside = order.setdefault(above[0], {}) if above else order
            inside[name] = value
    version = order.get("version", "0")
    number = whole_number(version)
    if number is None:
        problem = f"{version[:40]!r} is not a whole number"
        return LineFault("version", problem, "correct it or clear it")
    if "version" in order:
        order["version"] = number
    return order_line(json.dumps(order).encode(), terms, now)


def _fault(refusal: Refusal) -> LineFault:
    """Return the fault, in the column whose path the refusal's message begins with."""
    quoted = _QUOTED_PATH.match(refusal.message)
    path = quoted[1] if quoted else ""
    column = _COLUMN_OF_PATH.get(path, path.removeprefix("data."))
    return LineFault(column, refusal.message, _REMEDIES.get(refusal.reason, "correct it"))
