"""WooCommerce: orders and customers of its REST API and webhooks, and the reports of Analytics.

An order's id is its number: it is what the shop prints, and what the reports have. A refund stands
beside the total, as a negative text. The billing e-mail is taken as the customer's own, because an
order has no other.
"""

from decimal import Decimal
from urllib.parse import urlsplit

from service.core.hooks import HookPlatform
from service.transfer.formats.format import CustomerCells, Format, OrderDocument, Reading, Values
from service.transfer.formats.values import (
    amount,
    filled,
    joined,
    key,
    listed,
    moment,
    part,
    parts,
    phone,
    postal_code,
    text,
)
from service.transfer.lines import DraftError, FileKind

SOURCE = "woocommerce"

_STATUSES = {
    "pending": ("pending", "pending"),
    "on-hold": ("on_hold", "pending"),
    "processing": ("processing", "paid"),
    "completed": ("completed", "paid"),
    "cancelled": ("cancelled", None),
    "refunded": ("refunded", "refunded"),
    "failed": ("pending", "failed"),
}
_NO_ORDER = {"checkout-draft", "auto-draft", "draft", "trash"}
_PAID_ON_DELIVERY = "cod"


def statuses(status: str, *, paid: bool) -> tuple[str, str | None]:
    """Return our status and payment status. An unknown status is returned as it is."""
    word = status.lower().removeprefix("wc-")
    if word in _NO_ORDER:
        raise DraftError(
            "status", f"{status!r} is a draft, and no order", "leave it out; nothing is missing"
        )
    ours, payment = _STATUSES.get(word, (word, None))
    if word == "cancelled" and paid:
        payment = "paid"
    return ours, payment


def _gmt(values: Values, name: str, reading: Reading) -> str:
    """Return a time. The one in GMT has no offset; the other one is of the shop's zone."""
    gmt = text(values.get(f"{name}_gmt"))
    if gmt:
        return gmt if gmt.endswith("Z") else f"{gmt}Z"
    return moment(values.get(name), reading)


def source_of(values: Values, reading: Reading) -> str:
    """Return the shop's host, which the links of a record have."""
    if reading.source:
        return reading.source
    for link in parts(part(values, "_links"), "self"):
        try:
            return urlsplit(text(link.get("href"))).hostname or SOURCE
        except ValueError:
            break
    return SOURCE


def _address(parts: Values, reading: Reading) -> dict[str, str]:
    country = text(parts.get("country"))
    return filled(
        {
            "street": listed([text(parts.get("address_1")), text(parts.get("address_2"))]),
            "city": text(parts.get("city")),
            "state": text(parts.get("state")),
            "zip": postal_code("postcode", parts.get("postcode"), reading, country),
            "country": country,
        }
    )


def order(values: Values, reading: Reading) -> OrderDocument:
    """Read an order of the REST API or of a webhook."""
    billing, shipping = part(values, "billing"), part(values, "shipping")
    country = text(billing.get("country")).upper()
    paid = bool(values.get("date_paid") or values.get("date_paid_gmt"))
    status, payment = statuses(text(values.get("status")), paid=paid)
    if status == "processing" and not paid and values.get("payment_method") == _PAID_ON_DELIVERY:
        payment = "pending"
    refunded = sum(
        abs(amount(each.get("total")) or Decimal(0)) for each in parts(values, "refunds")
    )
    if refunded and payment == "paid":
        payment = "partially_refunded"
    name = joined([billing.get("first_name"), billing.get("last_name")])
    data = {
        "id": key("number", values.get("number") or values.get("id")),
        "shopId": text(values.get("id")),
        "customer": filled(
            {
                "id": text(values.get("customer_id")),  # 0 is a guest, and names nobody
                "email": text(billing.get("email")),
                "phone": phone("billing.phone", billing.get("phone"), reading, country),
                "name": name or joined([shipping.get("first_name"), shipping.get("last_name")]),
            }
        ),
        "status": status,
        "paymentStatus": payment,
        "totalAmount": text(values.get("total")) or None,
        "refundedAmount": str(refunded),
        "currency": text(values.get("currency")),
        "shippingAddress": _address(shipping, reading) or _address(billing, reading),
        "dateCreated": _gmt(values, "date_created", reading),
        "dateUpdated": _gmt(values, "date_modified", reading),
    }
    return OrderDocument(filled(data), source_of(values, reading), country or None)


ORDERS = Format(
    name="woocommerce-orders",
    title="WooCommerce, orders of the REST API",
    platform=HookPlatform.WOOCOMMERCE,
    kind=FileKind.ORDERS,
    read=order,
    signs=("status", "total", "customer_id", "billing", "date_created"),
    columns=(
        "id",
        "number",
        "status",
        "currency",
        "total",
        "customer_id",
        "billing",
        "shipping",
        "refunds",
        "payment_method",
        "date_created",
        "date_created_gmt",
        "date_modified",
        "date_modified_gmt",
        "date_paid",
        "date_paid_gmt",
        "_links",
    ),
    json=True,
    theirs={
        "id": "number",
        "totalAmount": "total",
        "customerEmail": "billing.email",
        "dateCreated": "date_created_gmt",
        "dateUpdated": "date_modified_gmt",
    },
)


def _read_customer(values: Values, reading: Reading) -> CustomerCells:
    billing = part(values, "billing")
    address = _address(billing, reading) or _address(part(values, "shipping"), reading)
    return {
        "External ID": key("id", values.get("id")),
        "Source": source_of(values, reading),
        "Name": joined([values.get("first_name"), values.get("last_name")])
        or joined([billing.get("first_name"), billing.get("last_name")]),
        "Email": text(values.get("email")),
        "Phone": phone("billing.phone", billing.get("phone"), reading, address.get("country")),
        "Street": address.get("street", ""),
        "City": address.get("city", ""),
        "State": address.get("state", ""),
        "Zip": address.get("zip", ""),
        "Country": address.get("country", ""),
        "Date Created": _gmt(values, "date_created", reading),
    }


CUSTOMERS = Format(
    name="woocommerce-customers",
    title="WooCommerce, customers of the REST API",
    platform=HookPlatform.WOOCOMMERCE,
    kind=FileKind.CUSTOMERS,
    read=_read_customer,
    signs=("email", "first_name", "last_name", "billing", "username", "date_created"),
    columns=(
        "id",
        "email",
        "first_name",
        "last_name",
        "billing",
        "shipping",
        "date_created",
        "date_created_gmt",
        "_links",
    ),
    json=True,
    theirs={"External ID": "id", "Date Created": "date_created_gmt"},
)


def _read_reported_customer(cells: Values, reading: Reading) -> CustomerCells:
    country = text(cells.get("Country / Region"))
    return {
        "Name": joined([cells.get("Name")]),
        "Email": text(cells.get("Email")),
        "City": text(cells.get("City")),
        "State": text(cells.get("Region")),
        "Zip": postal_code("Postal Code", cells.get("Postal Code"), reading, country),
        "Country": country,
        "Date Created": moment(cells.get("Sign Up"), reading),
    }


CUSTOMERS_REPORT = Format(
    name="woocommerce-customers-report",
    title="WooCommerce Analytics, report of customers",
    platform=HookPlatform.WOOCOMMERCE,
    kind=FileKind.CUSTOMERS,
    read=_read_reported_customer,
    signs=("Email", "Sign Up", "Total Spend", "AOV"),
    columns=("Name", "Email", "Sign Up", "Country / Region", "City", "Region", "Postal Code"),
    aside={
        "Orders": "figures come from orders; import the orders as well",
        "Total Spend": "figures come from orders; import the orders as well",
    },
    theirs={"Date Created": "Sign Up"},
)


def _read_reported_order(cells: Values, reading: Reading) -> OrderDocument:
    status, payment = statuses(text(cells.get("Status")).replace(" ", "-"), paid=False)
    data = {
        "id": key("Order #", cells.get("Order #")),
        "status": status,
        "paymentStatus": payment,
        "totalAmount": text(cells.get("N. Revenue")) or None,
        "dateCreated": moment(cells.get("Date"), reading),
    }
    return OrderDocument(filled(data), reading.source or SOURCE)


ORDERS_REPORT = Format(
    name="woocommerce-orders-report",
    title="WooCommerce Analytics, report of orders",
    platform=HookPlatform.WOOCOMMERCE,
    kind=FileKind.ORDERS,
    read=_read_reported_order,
    signs=("Order #", "Status", "Customer type", "N. Revenue", "Date"),
    columns=("Order #", "Status", "N. Revenue", "Date"),
    aside={
        "Customer": "a name alone says nothing about who ordered; the REST API has the e-mails",
    },
    theirs={"id": "Order #", "totalAmount": "N. Revenue", "dateCreated": "Date"},
)
