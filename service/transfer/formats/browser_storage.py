"""What the integration guide's first programs kept in the browser, saved as JSON.

``recoveryEssentials_customers`` and ``recoveryEssentials_orders`` are arrays, or arrays as text.
Customers keep their numbers, and orders name them by these.
"""

from typing import Any

from service.transfer.formats.format import CustomerCells, Format, OrderDocument, Reading, Values
from service.transfer.formats.values import filled, moment, part, phone, postal_code, text
from service.transfer.lines import FileKind


def _read_customer(values: Values, reading: Reading) -> CustomerCells:
    address, preferences = part(values, "address"), part(values, "preferences")
    country = text(address.get("country"))
    return {
        "ID": text(values.get("id")),
        "Name": text(values.get("name")),
        "Email": text(values.get("email")),
        "Phone": phone("phone", values.get("phone"), reading, country),
        "Segment": text(values.get("segment")),
        "Date Created": moment(values.get("dateCreated"), reading),
        "Street": text(address.get("street"))
        or ", ".join(filter(None, (text(address.get("line1")), text(address.get("line2"))))),
        "City": text(address.get("city")),
        "State": text(address.get("state")),
        "Zip": postal_code("zip", address.get("zip"), reading, country),
        "Country": country,
        "Email Opt-in": _yes_or_no(preferences.get("emailOptIn")),
        "SMS Opt-in": _yes_or_no(preferences.get("smsOptIn")),
        "Notes": text(values.get("notes")),
    }


def _yes_or_no(value: object) -> str:
    return "" if value is None else "yes" if value is True else "no"


CUSTOMERS = Format(
    name="browser-customers",
    title="customers of the browser's storage",
    kind=FileKind.CUSTOMERS,
    read=_read_customer,
    signs=("id", "name", "email", "dateCreated", "segment"),
    columns=(
        "id",
        "name",
        "email",
        "phone",
        "segment",
        "dateCreated",
        "address",
        "preferences",
        "notes",
    ),
    json=True,
    theirs={"ID": "id", "Email": "email", "Date Created": "dateCreated"},
)

_KEPT = (
    "id",
    "version",
    "status",
    "paymentStatus",
    "totalAmount",
    "refundedAmount",
    "currency",
    "shippingAddress",
)


def _read_order(values: Values, reading: Reading) -> OrderDocument:
    customer = part(values, "customer")
    data: dict[str, Any] = {name: values.get(name) for name in _KEPT}
    data["customer"] = filled(
        {
            "id": text(values.get("customerId")) or text(customer.get("id")),
            "email": text(customer.get("email")) or text(values.get("customerEmail")),
            "name": text(customer.get("name")) or text(values.get("customerName")),
            "phone": phone("phone", customer.get("phone"), reading),
        }
    )
    data["totalAmount"] = text(values.get("totalAmount")) or text(values.get("total"))
    data["dateCreated"] = moment(values.get("dateCreated"), reading)
    data["dateUpdated"] = moment(values.get("dateUpdated"), reading)
    return OrderDocument(filled(data), reading.source)


ORDERS = Format(
    name="browser-orders",
    title="orders of the browser's storage",
    kind=FileKind.ORDERS,
    read=_read_order,
    signs=("id", "status", "customerId", "dateCreated"),
    columns=(*_KEPT, "customer", "customerId", "customerEmail", "total", "dateCreated"),
    json=True,
)
