"""Describe how two lines of one order contradict each other."""

from collections.abc import Mapping

from service.core.order_event import OrderContent, OrderEvent
from service.transfer.file_index import EarlierState
from service.transfer.lines import LineFault

_COLUMNS = {
    "total_cents": "totalAmount",
    "refunded_cents": "refundedAmount",
    "status": "status",
    "payment_status": "paymentStatus",
    "date_created": "dateCreated",
    "currency": "currency",
    "exchange_rate": "exchangeRate",
}


def contradiction(earlier: EarlierState, event: OrderEvent, theirs: Mapping[str, str]) -> LineFault:
    """Return the fault of a line whose order an earlier line has with other values.

    Neither of the two is newer, so nobody can know which one is right.
    """
    column, values = _difference(earlier.event.content, event.content)
    problem = f"line {earlier.line} has this order with other values"
    if values:
        problem += f": {values[0]} there, {values[1]} here"
    remedy = "keep one of the two lines, or say in dateUpdated which one is newer"
    return LineFault(theirs.get(column, column), problem, remedy)


def _difference(one: OrderContent, other: OrderContent) -> tuple[str, tuple[str, str] | None]:
    """Return the first column in which two contents differ, and both values."""
    for name, before, after in zip(OrderContent._fields, one, other, strict=True):
        if before != after:
            return _COLUMNS[name], (_written(name, before), _written(name, after))
    return "customerEmail", None


def _written(name: str, value: object) -> str:
    if name.endswith("_cents") and isinstance(value, int):
        return f"{value // 100}.{value % 100:02}"
    return "nothing" if value is None else str(value)
