"""Judge the orders of a file like order events from the stream, without a database.

A refused one goes into the import's report and not to the dead letters, because the person who
imports is there to read it.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from service.core.judge import Terms, judge_document
from service.core.order_event import OrderEvent, Reason, Refusal
from service.transfer.formats.format import OrderDocument
from service.transfer.formats.ours import COLUMN_OF_PATH
from service.transfer.lines import LineFault

MADE_ID = "import-"
"""Begins the event id of an order alone, which is no event yet."""
_ENCODER = json.JSONEncoder(sort_keys=True, default=str)
_QUOTED_PATH = re.compile(r"`([^`]+)`")
_REMEDIES = {
    Reason.INVALID_CURRENCY: "correct it, or clear it if it is the store's currency",
    Reason.MISSING_FIELD: "give it a value",
}


class OrderLine(NamedTuple):
    """An order event, and whether the person whom it named has been erased since."""

    event: OrderEvent
    erased: bool = False


def event_of(order: OrderDocument, as_of: datetime) -> Mapping[str, Any]:
    """Return the order event that an order of a file is.

    One that is no event yet becomes one of the file's date, ``as_of``. Its id is made from its
    content, so that the same order is the same event in the next import.
    """
    if order.event:
        return order.event
    content = _ENCODER.encode(order.data).encode()
    return {
        "specversion": "1.0",
        "id": f"{MADE_ID}{hashlib.sha256(content).hexdigest()[:32]}",
        "type": "order-updated",
        "source": order.source,
        "time": as_of.isoformat(),
        # The file says how the order was at the file's date, and not that it changed then.
        "data": {**order.data, "dateUpdated": _updated(order.data)},
    }


def order_line(
    order: OrderDocument,
    terms: Terms,
    now: datetime,
    as_of: datetime,
    theirs: Mapping[str, str],
) -> OrderLine | LineFault:
    """Judge an order of a file. ``theirs`` has the file's names of our columns, for the fault."""
    event = event_of(order, as_of)
    if order.country:
        terms = terms._replace(country=order.country)
    verdict = judge_document(event, terms, now)
    if isinstance(verdict, Refusal):
        return _fault(verdict, theirs)
    return OrderLine(verdict, event.get("erased") is True)


def _updated(data: Mapping[str, object]) -> object:
    return data.get("dateUpdated") or data.get("dateCreated")


def _fault(refusal: Refusal, theirs: Mapping[str, str]) -> LineFault:
    """Return the fault, in the column whose path the refusal's message begins with."""
    quoted = _QUOTED_PATH.match(refusal.message)
    path = quoted[1] if quoted else ""
    column = COLUMN_OF_PATH.get(path, path.removeprefix("data."))
    message = refusal.message[len(quoted[0]) :].lstrip(": ") if quoted else refusal.message
    return LineFault(
        theirs.get(column, column), message, _REMEDIES.get(refusal.reason, "correct it")
    )
