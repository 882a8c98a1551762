"""Read from a refused entry which order it tells of, and how new its state of that order is.

If the order is known, a refused entry that is newer leaves it in an older state.
"""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from pydantic_core import PydanticCustomError

from service.core.documents import decode
from service.core.envelope import Entry, payload
from service.core.judge import AHEAD, received
from service.core.lenient import UNSTORABLE, as_text
from service.core.order_contract import EARLIEST, LONGEST_ID, instant
from service.core.order_event import Refusal

_VERSIONS = range(2**63)
_ID_IN_DATA = re.compile(
    rb'"data"\s*:\s*\{\s*"id"\s*:\s*(?:"(?P<text>[^"\\]{1,200})"|(?P<digits>\d{1,100})[,\s}])'
)
"""The order's id in a document that is cut off or broken, if it is the first field of ``data``."""


class ToldOrder(NamedTuple):
    """An order, and how new the state is that an entry tells of."""

    order_id: str
    version: int | None
    """None: it cannot be read."""
    changed_at: datetime
    """When the order was changed; if that cannot be read, when the entry came."""


def told_order(entry: Entry, seen: datetime) -> ToldOrder | None:
    """Return the order that an entry tells of. None if its id cannot be read.

    ``seen`` is when a worker first saw the entry.
    """
    raw = payload(entry.fields) or b""
    decoded = None if entry.missing else decode(raw)
    if decoded is None or isinstance(decoded, Refusal):
        found = _ID_IN_DATA.search(raw)
        written = (found["text"] or found["digits"]).decode(errors="replace") if found else None
        return _told(entry, seen, written, None, ())
    document, _ = decoded
    order = document.get("data")
    if not isinstance(order, dict):
        return None
    times = (order.get("dateUpdated"), document.get("time"), order.get("dateCreated"))
    return _told(entry, seen, order.get("id"), order.get("version"), times)


def _told(
    entry: Entry, seen: datetime, written: object, version: object, times: Iterable[Any]
) -> ToldOrder | None:
    order_id = as_text(written)
    if not isinstance(order_id, str) or UNSTORABLE.search(order_id):
        return None
    order_id = order_id.strip()
    if not 0 < len(order_id) <= LONGEST_ID:
        return None
    if not isinstance(version, int) or isinstance(version, bool) or version not in _VERSIONS:
        version = None
    return ToldOrder(order_id, version, _changed_at(entry, seen, times))


def _changed_at(entry: Entry, seen: datetime, times: Iterable[Any]) -> datetime:
    """Return the first of these times that may be right, else when the entry came."""
    for time in times:
        try:
            at = instant(time)
        except PydanticCustomError:
            continue
        if at <= seen + AHEAD:
            return at
    came = received(entry)
    return came if EARLIEST <= came <= seen else seen
