"""Our own files, as `crm export` writes them and people edit them.

By ``--map``, any table becomes one of these.
"""

from typing import Any

from service.core.numbers import whole_number
from service.transfer.customer_lines import OUTLOOK_COLUMNS
from service.transfer.formats.format import CustomerCells, Format, OrderDocument, Reading, Values
from service.transfer.formats.values import joined, key, moment, phone, postal_code, text
from service.transfer.formulas import unescaped
from service.transfer.lines import FileKind, RefusedLineError

_PATHS = {
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
COLUMN_OF_PATH = {"data." + ".".join(path): column for column, path in _PATHS.items()}


def _read_cells(cells: Values, reading: Reading) -> OrderDocument:
    """Read a line of orders.csv. An empty cell says nothing."""
    country = text(cells.get("country")).upper()
    order: dict[str, Any] = {}
    for column, (*above, name) in _PATHS.items():
        value = unescaped(text(cells.get(column))).strip()
        if not value:
            continue
        inside = order.setdefault(above[0], {}) if above else order
        if column in {"id", "customerId"}:
            value = key(column, value)
        elif column == "customerPhone":
            value = phone(column, value, reading, country)
        elif column == "zip":
            value = postal_code(column, value, reading, country)
        elif column in {"dateCreated", "dateUpdated"}:
            value = moment(value, reading)
        inside[name] = value
    version = order.get("version", "0")
    number = whole_number(version)
    if number is None:
        problem = f"{version[:40]!r} is not a whole number"
        raise RefusedLineError("version", problem, "correct it or clear it")
    if "version" in order:
        order["version"] = number
    return OrderDocument(order, reading.source)


ORDERS = Format(
    name="orders",
    title="orders in our own columns",
    kind=FileKind.ORDERS,
    read=_read_cells,
    signs=("id", "status", "totalAmount", "dateCreated"),
    columns=tuple(_PATHS),
    spellings={"orderid": "id", "email": "customerEmail"},
    ours=True,
)


def _read_document(document: Values, reading: Reading) -> OrderDocument:
    """Read an order event, or an order alone."""
    if "data" in document or "specversion" in document:
        data = document.get("data")
        if not isinstance(data, dict):
            raise RefusedLineError("data", "is no JSON object", "write the order there")
        return OrderDocument(data, event=document)
    return OrderDocument(document, reading.source)


ORDERS_JSON = Format(
    name="orders-json",
    title="order events, or orders alone, as JSON",
    kind=FileKind.ORDERS,
    read=_read_document,
    signs=(),
    any_sign=("data", "specversion", "totalAmount", "dateCreated", "paymentStatus"),
    columns=(),
    ours=True,
    json=True,
)

CUSTOMER_COLUMNS = (
    "ID",
    "Name",
    "First Name",
    "Last Name",
    "Email",
    "Phone",
    "Segment",
    "Date Created",
    "Last Order Date",
    "Total Orders",
    "Total Spent",
    "Notes",
    "Email Opt-in",
    "SMS Opt-in",
    "Street",
    "City",
    "State",
    "Zip",
    "Country",
    "Hold",
    "Identifiers",
    "By Hand",
    "Tags",
    "External ID",
    "Other Currencies",
    "Day Created",
    "Day of Last Order",
)
"""What a customers file may have; the export writes most of them."""


def _read_customer(cells: Values, reading: Reading) -> CustomerCells:
    found = {column: str(value) for column, value in cells.items()}
    found["Name"] = found.get("Name", "") or joined(
        [found.pop("First Name", ""), found.pop("Last Name", "")]
    )
    country = found.get("Country", "").upper()
    # An apostrophe before a digit is a spreadsheet's; before a sign it is that of our own export.
    if "Phone" in found:
        found["Phone"] = phone("Phone", found["Phone"], reading, country)
    if "Zip" in found:
        found["Zip"] = postal_code("Zip", found["Zip"], reading, country)
    if found.get("Date Created", "").strip():
        found["Date Created"] = moment(found["Date Created"], reading)
    if found.get("External ID", "").strip():
        found["External ID"] = key("External ID", found["External ID"])
        found["Source"] = reading.source
    return found


CUSTOMERS = Format(
    name="customers",
    title="customers in our own columns",
    kind=FileKind.CUSTOMERS,
    read=_read_customer,
    signs=("Email",),
    columns=CUSTOMER_COLUMNS,
    spellings={"emailaddress": "Email"},
    aside=dict.fromkeys(OUTLOOK_COLUMNS, "computed from orders, and no fact of the customer"),
    never=("Lineitem name", "Financial Status", "Order ID", "Order Number", "Order #", "Subtotal"),
    ours=True,
)
