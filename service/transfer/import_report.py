"""What an import did, or would do, as a document, and the sentences that explain it.

Command line, dashboard and API show the same document. It holds personal data: the first records,
and what refused lines say.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic.alias_generators import to_camel

from service.core.customer_ids import customer_ref
from service.core.identifiers import IdentifierKind
from service.core.json_values import timestamp
from service.core.numbers import number_of
from service.core.order_event import OrderEvent
from service.transfer.customer_lines import CustomerLine
from service.transfer.import_outcome import ImportOutcome
from service.transfer.lines import FileKind, Verdict

Report = Mapping[str, Any]
"""A document of `report`; also one that was stored as JSON."""

_MOST_COLUMNS = 12
_BY = {
    IdentifierKind.EMAIL: "by e-mail",
    IdentifierKind.EXTERNAL: "by the shop's number",
    IdentifierKind.PHONE: "by phone",
    IdentifierKind.CUSTOMER: "by our id",
}
_SUMMARISED = ("kind", "format", "title", *map(str, Verdict), "refused", "lines")


class Advice(NamedTuple):
    """A sentence about what stays as it is, and the option that changes that."""

    sentence: str
    option: str | None = None
    """A field of `ImportOptions`."""


def report(outcome: ImportOutcome) -> dict[str, Any]:
    """Return the outcome as a document."""
    return {
        "kind": outcome.kind,
        "format": outcome.format,
        "title": outcome.title,
        "guess": outcome.guess,
        "asOf": timestamp(outcome.as_of),
        **{verdict.value: outcome.counts[verdict] for verdict in Verdict},
        "refused": outcome.refused,
        "lines": {
            "total": outcome.lines,
            "header": outcome.lines_header,
            "empty": outcome.lines_empty,
            "otherKind": outcome.lines_of_other_kind,
            "read": outcome.lines_read,
            "refused": outcome.lines_refused,
        },
        "firstRefused": [
            {"line": number, **{to_camel(name): text for name, text in fault._asdict().items()}}
            for number, fault in outcome.first_refused
        ],
        "firstRecords": [
            *map(_order, outcome.first_orders),
            *map(_customer, outcome.first_customers),
        ],
        "otherSegments": outcome.other_segments,
        "otherFigures": outcome.other_figures,
        "kept": outcome.kept,
        "leftAside": dict(outcome.left_aside),
        "noticed": [
            {"column": found.column, "what": found.what, "count": count, "firstLine": line}
            for found, (count, line) in outcome.noticed.items()
        ],
        "money": {
            currency: {
                "orders": money.orders,
                "total": money.total / 100,
                "refunded": money.refunded / 100,
            }
            for currency, money in sorted(outcome.money.items())
        },
        "firstDate": timestamp(outcome.first_date),
        "lastDate": timestamp(outcome.last_date),
        "namedBy": {str(kind) or "nobody": count for kind, count in outcome.named_by.items()},
        "customers": outcome.people,
        "knownCustomers": outcome.known_people,
    }


def summary(document: Report) -> dict[str, Any]:
    """Return what is not personal of a document: formats and counts."""
    return {name: document[name] for name in _SUMMARISED}


def _order(event: OrderEvent) -> dict[str, Any]:
    customer = event.customer
    return {
        "order": event.order_id,
        "dateCreated": timestamp(event.date_created),
        "status": event.status,
        "paymentStatus": event.payment_status,
        "totalAmount": event.total_cents / 100,
        "refundedAmount": event.refunded_cents / 100,
        "currency": event.currency,
        "customer": customer
        and {
            "name": customer.name,
            "email": customer.email,
            "phone": customer.phone,
            "identifiers": list(customer.identifiers),
        },
    }


def _customer(line: CustomerLine) -> dict[str, Any]:
    return {
        "id": customer_ref(line.id) if line.id else None,
        "name": line.name,
        "email": line.email,
        "phone": line.phone,
        "address": line.address and list(line.address.values()),
        "emailOptIn": line.email_opt_in,
        "dateCreated": timestamp(line.date_created),
    }


def customers_named(document: Report) -> str:
    """Return the sentence about whom the orders name."""
    named_by = document["namedBy"]
    named = [f"{named_by[kind]:,} {words}" for kind, words in _BY.items() if named_by.get(kind)]
    people, nobody = document["customers"], named_by.get("nobody", 0)
    return (
        f"{number_of(people, 'customer is', 'customers are')} named, "
        f"{document['knownCustomers']:,} of them known already: {', '.join(named) or 'none'}; "
        f"{number_of(nobody, 'order names', 'orders name')} nobody."
    )


def other_currencies(document: Report, currency: str) -> Iterator[str]:
    """Yield a sentence about each currency that is not the store's, which is ``currency``."""
    for code in filter(None, document["money"]):
        yield (
            f"The store's currency is {currency}. Money in {code} is kept apart, unless the "
            f"orders have an exchange rate. If {code} is the store's, set CRM_STORE_CURRENCY "
            "before the first order is stored."
        )


def left_aside(document: Report) -> Iterator[str]:
    """Yield the columns that the format knows and does not read, and why: a line per reason."""
    columns: dict[str, list[str]] = {}
    for column, why in document["leftAside"].items():
        columns.setdefault(why, []).append(column)
    for why in filter(None, columns):
        yield f"{', '.join(columns[why])}: {why}."


def unknown_columns(document: Report) -> str:
    """Return the columns that the format does not know, at most a dozen of them by name."""
    unknown = [column for column, why in document["leftAside"].items() if not why]
    more = f" and {len(unknown) - _MOST_COLUMNS} more" if len(unknown) > _MOST_COLUMNS else ""
    return ", ".join(unknown[:_MOST_COLUMNS]) + more


def noticed(document: Report) -> Iterator[str]:
    """Yield each odd thing in a column that is no reason to refuse a line, and where it is."""
    for found in document["noticed"]:
        where = f"{number_of(found['count'], 'line', 'lines')}, first line {found['firstLine']}"
        yield f"{found['column']} ({where}): {found['what']}."


def lines_told(document: Report) -> str:
    """Return the sentence that accounts for every line of the file."""
    lines = document["lines"]
    # Reports of the release before do not have it.
    others = lines.get("otherKind", 0)
    kind = FileKind.ORDERS if document["kind"] == FileKind.CUSTOMERS else FileKind.CUSTOMERS
    other = f", {others:,} of {kind}" if others else ""
    return (
        f"The file has {number_of(lines['total'], 'line', 'lines')}: {lines['header']} header, "
        f"{lines['read']:,} read, {lines['refused']:,} refused, {lines['empty']:,} empty{other}."
    )


def advice(document: Report, *, holds_segments: bool) -> Iterator[Advice]:
    """Yield what stays as it is although the file says something else, and what to do."""
    if count := document[Verdict.OLDER]:
        yield Advice(
            f"{number_of(count, 'order is', 'orders are')} stored in a newer state than that of "
            "the file, and stay as stored."
        )
    if count := document["kept"]:
        yield Advice(
            f"{number_of(count, 'line has', 'lines have')} a value that stays as it is here: "
            "somebody typed it, or it is newer than the file."
        )
    if count := document["otherFigures"]:
        yield Advice(
            f"{number_of(count, 'line has', 'lines have')} other totals than the customer has "
            "here. Totals follow from orders: import the orders as well."
        )
    if (count := document["otherSegments"]) and not holds_segments:
        yield Advice(
            f"{number_of(count, 'line names', 'lines name')} another segment than the customer "
            "has. The rules decide the segment, from the orders.",
            "hold_segments",
        )


def has_totals(document: Report) -> bool:
    """Return whether there are totals of orders to show."""
    return document["kind"] == FileKind.ORDERS and bool(document["money"])
