"""Shopify: the exports of orders and customers, and orders as its REST API and webhooks write them.

An order of the CSV has a line for each item; its totals stand only on the first one. Its id is the
name that the shop prints on it, such as #1411: the REST API has it as well, and the customers know
it. The shop's own number is kept beside it, because deletions and refunds have nothing else.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from service.core.hooks import HookPlatform
from service.transfer.formats.format import (
    CustomerCells,
    Format,
    OrderDocument,
    Reading,
    SingleRefund,
    Values,
)
from service.transfer.formats.values import (
    amount,
    filled,
    joined,
    key,
    latest,
    listed,
    moment,
    part,
    parts,
    phone,
    postal_code,
    text,
    whole_id,
)
from service.transfer.lines import FileKind, RefusedLineError

SOURCE = "shopify"

_PAYMENT = {
    "paid": "paid",
    "partially_paid": "pending",
    "pending": "pending",
    "authorized": "pending",
    "unpaid": "pending",
    "refunded": "refunded",
    "partially_refunded": "partially_refunded",
    "voided": "failed",
    "expired": "failed",
}
_DELIVERED = {"fulfilled"}


def statuses(payment: str, fulfillment: str, *, cancelled: bool) -> tuple[str, str | None]:
    """Return our status and payment status of an order.

    An unknown payment status is returned as it is, so that whoever judges the order refuses it.
    """
    paid = payment.lower().replace(" ", "_")
    payment_status = _PAYMENT.get(paid, paid) or None
    if cancelled:
        return "cancelled", payment_status
    if fulfillment.lower() in _DELIVERED:
        return "delivered", payment_status
    return "pending" if payment_status == "pending" else "processing", payment_status


def _read_order(cells: Values, reading: Reading) -> OrderDocument:
    if not (text(cells.get("Total")) or text(cells.get("Financial Status"))):
        raise RefusedLineError(
            "Total",
            "is empty, and the line above is not of the same order",
            "export the orders again, and do not sort the file",
        )
    country = text(cells.get("Billing Country")) or text(cells.get("Shipping Country"))
    created = moment(cells.get("Created at"), reading)
    status, payment = statuses(
        text(cells.get("Financial Status")),
        text(cells.get("Fulfillment Status")),
        cancelled=bool(text(cells.get("Cancelled at"))),
    )
    phones = (
        phone(column, cells.get(column), reading, country)
        for column in ("Phone", "Billing Phone", "Shipping Phone")
    )
    data = {
        "id": key("Name", cells.get("Name")),
        "shopId": whole_id(cells.get("Id")),
        "customer": filled(
            {
                "email": text(cells.get("Email")),
                "phone": next(filter(None, phones), ""),
                "name": joined([cells.get("Billing Name")]) or joined([cells.get("Shipping Name")]),
            }
        ),
        "status": status,
        "paymentStatus": payment,
        "totalAmount": text(cells.get("Total")) or None,
        "refundedAmount": text(cells.get("Refunded Amount")),
        "currency": text(cells.get("Currency")),
        "shippingAddress": _address_of(cells, "Shipping", reading)
        or _address_of(cells, "Billing", reading),
        "dateCreated": created,
        "dateUpdated": latest(
            [
                created,
                *(
                    moment(cells.get(column), reading)
                    for column in ("Paid at", "Fulfilled at", "Cancelled at")
                ),
            ]
        ),
    }
    return OrderDocument(filled(data), reading.source or SOURCE, country.upper() or None)


def _address_of(cells: Values, kind: str, reading: Reading) -> dict[str, str]:
    country = text(cells.get(f"{kind} Country"))
    return filled(
        {
            "street": listed(
                [text(cells.get(f"{kind} Address1")), text(cells.get(f"{kind} Address2"))]
            ),
            "city": text(cells.get(f"{kind} City")),
            "state": text(cells.get(f"{kind} Province Name"))
            or text(cells.get(f"{kind} Province")),
            "zip": postal_code(f"{kind} Zip", cells.get(f"{kind} Zip"), reading, country),
            "country": country,
        }
    )


def _next_item(before: Values, cells: Values) -> bool:
    """Return whether a line has another item of the order of the line before it."""
    return (
        text(cells.get("Name")) == text(before.get("Name"))
        and not text(cells.get("Total"))
        and not text(cells.get("Financial Status"))
    )


ORDERS = Format(
    name="shopify-orders",
    title="Shopify, export of orders",
    platform=HookPlatform.SHOPIFY,
    kind=FileKind.ORDERS,
    read=_read_order,
    signs=("Name", "Financial Status", "Total", "Created at"),
    columns=(
        "Name",
        "Id",
        "Email",
        "Financial Status",
        "Paid at",
        "Fulfillment Status",
        "Fulfilled at",
        "Currency",
        "Total",
        "Created at",
        "Cancelled at",
        "Refunded Amount",
        "Phone",
        *(
            f"{kind} {part}"
            for kind in ("Billing", "Shipping")
            for part in (
                "Name",
                "Address1",
                "Address2",
                "City",
                "Zip",
                "Province",
                "Province Name",
                "Country",
                "Phone",
            )
        ),
    ),
    continues=_next_item,
    aside={
        "Accepts Marketing": "consent does not come from orders; import the customers as well",
    },
    theirs={
        "id": "Name",
        "totalAmount": "Total",
        "refundedAmount": "Refunded Amount",
        "currency": "Currency",
        "customerEmail": "Email",
        "dateCreated": "Created at",
        "dateUpdated": "Created at",
        "paymentStatus": "Financial Status",
    },
)


def order(values: Mapping[str, Any], reading: Reading) -> OrderDocument:
    """Read an order of the REST API or of a webhook.

    The customer object says whose it is; the order's contact only where there is none.
    """
    customer, billing = part(values, "customer"), part(values, "billing_address")
    shipping = part(values, "shipping_address") or billing
    contact = customer or {
        "email": values.get("contact_email") or values.get("email"),
        "phone": values.get("phone") or billing.get("phone"),
    }
    country = text(billing.get("country_code")) or text(shipping.get("country_code"))
    status, payment = statuses(
        text(values.get("financial_status")),
        text(values.get("fulfillment_status")),
        cancelled=bool(values.get("cancelled_at")),
    )
    data = {
        "id": key("name", values.get("name") or values.get("id")),
        "shopId": text(values.get("id")),
        "customer": filled(
            {
                "id": text(customer.get("id")),
                "email": text(contact.get("email")),
                "phone": phone("phone", contact.get("phone"), reading, country),
                "name": joined([customer.get("first_name"), customer.get("last_name")])
                or joined([billing.get("first_name"), billing.get("last_name")]),
            }
        ),
        "status": status,
        "paymentStatus": payment,
        "totalAmount": text(values.get("total_price")) or None,
        "refundedAmount": str(_refunded(values)),
        "currency": text(values.get("currency")),
        "shippingAddress": filled(
            {
                "street": listed([text(shipping.get("address1")), text(shipping.get("address2"))]),
                "city": text(shipping.get("city")),
                "state": text(shipping.get("province")),
                "zip": postal_code("zip", shipping.get("zip"), reading, country),
                "country": text(shipping.get("country_code")),
            }
        ),
        "dateCreated": moment(values.get("created_at"), reading),
        "dateUpdated": moment(values.get("updated_at"), reading),
    }
    return OrderDocument(filled(data), reading.source or SOURCE, country.upper() or None)


def _refunded(values: Mapping[str, Any]) -> Decimal:
    """Return all that was paid back of an order."""
    return sum((_paid_back(refund) for refund in parts(values, "refunds")), Decimal(0))


def _paid_back(refund: Mapping[str, Any]) -> Decimal:
    """Return what was paid back by a refund: what went through of it."""
    amounts = (
        amount(each.get("amount"))
        for each in parts(refund, "transactions")
        if each.get("kind") == "refund" and each.get("status") == "success"
    )
    return sum(filter(None, amounts), Decimal(0))


def refund(values: Mapping[str, Any]) -> SingleRefund:
    """Read a refund of the REST API or of a webhook."""
    return SingleRefund(
        text(values.get("order_id")),
        text(values.get("id")),
        _paid_back(values),
        text(values.get("processed_at")) or text(values.get("created_at")),
    )


ORDERS_JSON = Format(
    name="shopify-orders-json",
    title="Shopify, orders of the REST API",
    platform=HookPlatform.SHOPIFY,
    kind=FileKind.ORDERS,
    read=order,
    signs=("financial_status", "total_price", "created_at"),
    columns=(
        "name",
        "id",
        "customer",
        "billing_address",
        "shipping_address",
        "contact_email",
        "email",
        "phone",
        "financial_status",
        "fulfillment_status",
        "cancelled_at",
        "total_price",
        "refunds",
        "currency",
        "created_at",
        "updated_at",
    ),
    json=True,
    theirs={
        "id": "name",
        "totalAmount": "total_price",
        "customerEmail": "customer.email",
        "dateCreated": "created_at",
        "dateUpdated": "updated_at",
        "paymentStatus": "financial_status",
    },
)

_CONSENT = {"yes": "yes", "no": "no", "true": "yes", "false": "no", "subscribed": "yes"}


def _consent(column: str, value: object, reading: Reading) -> str:
    """Return yes or no. Anything else, such as ``nyes``, is no consent."""
    written = text(value).lower()
    if written and written not in _CONSENT:
        reading.notice(column, f"says {written[:20]!r}, which was taken as no")
    return _CONSENT.get(written, "no" if written else "")


def _read_customer(cells: Values, reading: Reading) -> CustomerCells:
    def told(name: str) -> str:
        return text(cells.get(name)) or text(cells.get(f"Default Address {name}"))

    country = told("Country Code").upper()
    return {
        "External ID": key("Customer ID", cells.get("Customer ID")),
        "Source": reading.source or SOURCE,
        "Name": joined([cells.get("First Name"), cells.get("Last Name")]),
        "Email": text(cells.get("Email")),
        "Phone": phone("Phone", told("Phone"), reading, country),
        "Street": listed([told("Address1"), told("Address2")]),
        "City": told("City"),
        "State": told("Province Code") or told("Province"),
        "Zip": postal_code("Zip", told("Zip"), reading, country),
        "Country": country or told("Country"),
        "Email Opt-in": _consent(
            "Accepts Email Marketing",
            cells.get("Accepts Email Marketing") or cells.get("Accepts Marketing"),
            reading,
        ),
        "SMS Opt-in": _consent(
            "Accepts SMS Marketing", cells.get("Accepts SMS Marketing"), reading
        ),
        "Notes": text(cells.get("Note")),
        "Tags": text(cells.get("Tags")),
    }


_PARTS = (
    "Address1",
    "Address2",
    "City",
    "Province",
    "Province Code",
    "Country",
    "Country Code",
    "Zip",
    "Phone",
)

CUSTOMERS = Format(
    name="shopify-customers",
    title="Shopify, export of customers",
    platform=HookPlatform.SHOPIFY,
    kind=FileKind.CUSTOMERS,
    read=_read_customer,
    signs=("First Name", "Last Name", "Email", "Total Spent", "Total Orders"),
    columns=(
        "Customer ID",
        "First Name",
        "Last Name",
        "Email",
        "Accepts Email Marketing",
        "Accepts Marketing",
        "Accepts SMS Marketing",
        "Note",
        "Tags",
        *_PARTS,
        *(f"Default Address {part}" for part in _PARTS),
    ),
    spellings={"orderscount": "Total Orders"},
    aside={
        "Total Spent": "figures come from orders; import the orders as well",
        "Total Orders": "figures come from orders; import the orders as well",
    },
    theirs={"Notes": "Note", "Name": "First Name", "External ID": "Customer ID"},
)


_CONSENTS = {
    "Email Opt-in": ("email_marketing_consent", "accepts_marketing"),
    "SMS Opt-in": ("sms_marketing_consent", ""),
}
"""Our column, the object with the consent, and the field that older versions have instead."""


def _read_customer_object(values: Values, reading: Reading) -> CustomerCells:
    address = part(values, "default_address")
    country = text(address.get("country_code")).upper()
    told = text(values.get("phone")) or text(address.get("phone"))
    cells = {
        "External ID": key("id", values.get("id")),
        "Source": reading.source or SOURCE,
        "Name": joined([values.get("first_name"), values.get("last_name")]),
        "Email": text(values.get("email")),
        "Phone": phone("phone", told, reading, country),
        "Street": listed([text(address.get("address1")), text(address.get("address2"))]),
        "City": text(address.get("city")),
        "State": text(address.get("province")),
        "Zip": postal_code("zip", address.get("zip"), reading, country),
        "Country": country,
        "Notes": text(values.get("note")),
        "Date Created": moment(values.get("created_at"), reading),
    }
    for column, (name, older) in _CONSENTS.items():
        state = text(part(values, name).get("state"))
        if not state and isinstance(values.get(older), bool):
            state = "subscribed" if values[older] else "unsubscribed"
        if state:
            cells[column] = "yes" if state == "subscribed" else "no"
    return cells


def consent_times(values: Values) -> dict[str, str]:
    """Return when each consent was given or withdrawn, by our column, where that is told."""
    return {
        column: at
        for column, (name, _) in _CONSENTS.items()
        if (at := text(part(values, name).get("consent_updated_at")))
    }


CUSTOMERS_JSON = Format(
    name="shopify-customers-json",
    title="Shopify, customers of the REST API",
    platform=HookPlatform.SHOPIFY,
    kind=FileKind.CUSTOMERS,
    read=_read_customer_object,
    signs=("first_name", "last_name", "email", "verified_email"),
    columns=(
        "id",
        "first_name",
        "last_name",
        "email",
        "phone",
        "default_address",
        "note",
        "email_marketing_consent",
        "accepts_marketing",
        "sms_marketing_consent",
        "created_at",
        "verified_email",
    ),
    json=True,
    aside={
        "total_spent": "figures come from orders; import the orders as well",
        "orders_count": "figures come from orders; import the orders as well",
    },
    theirs={"Name": "first_name", "External ID": "id", "Date Created": "created_at"},
)
