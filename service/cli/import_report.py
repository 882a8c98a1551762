"""Report what an import did, or would do: as text for people, and as JSON for programs."""

from collections.abc import Iterator
from typing import Any

from service.cli.output import camel, number_of
from service.core.customer_ids import customer_ref
from service.core.identifiers import IdentifierKind
from service.core.order_event import OrderEvent
from service.core.printable import printable
from service.transfer.customer_lines import CustomerLine
from service.transfer.import_outcome import ImportOutcome
from service.transfer.importer import ImportRequest
from service.transfer.lines import FileKind, Verdict

_MOST_COLUMNS = 12
_LONGEST_VALUE = 60
_BY = {
    IdentifierKind.EMAIL: "by e-mail",
    IdentifierKind.EXTERNAL: "by the shop's number",
    IdentifierKind.PHONE: "by phone",
    IdentifierKind.CUSTOMER: "by our id",
}


def import_document(outcome: ImportOutcome, request: ImportRequest) -> dict[str, Any]:
    """Return the outcome as the document of ``--json``."""
    return {
        "applied": request.apply,
        "kind": outcome.kind,
        "format": outcome.format,
        "asOf": outcome.as_of,
        **{verdict.value: outcome.counts[verdict] for verdict in Verdict},
        "refused": outcome.refused,
        "lines": {
            "total": outcome.lines,
            "header": outcome.lines_header,
            "empty": outcome.lines_empty,
            "read": outcome.lines_read,
            "refused": outcome.lines_refused,
        },
        "refusedFile": str(request.refused_path) if outcome.refused else None,
        "firstRefused": [
            {"line": number, **camel(fault._asdict())} for number, fault in outcome.first_refused
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
            for currency, money in outcome.money.items()
        },
        "namedBy": {kind or "nobody": count for kind, count in outcome.named_by.items()},
        "customers": outcome.people,
        "knownCustomers": outcome.known_people,
    }


def import_lines(outcome: ImportOutcome, request: ImportRequest, currency: str) -> Iterator[str]:
    """Yield the outcome as lines of text. ``currency`` is the store's."""
    yield printable(f"{request.path.name}: {outcome.title}.")
    if outcome.guess:
        yield printable(outcome.guess)
    if not request.apply:
        yield from _first_records(outcome, currency)
    yield from _totals(outcome, currency)
    yield from _aside(outcome)
    for found, (count, line) in outcome.noticed.items():
        where = f"{number_of(count, 'line', 'lines')}, first line {line}"
        yield printable(f"Noticed in {found.column} ({where}): {found.what}.")
    yield from _refused(outcome, request)
    counts = ", ".join(f"{outcome.counts[verdict]:,} {verdict}" for verdict in Verdict)
    done = "Imported" if request.apply else "Dry run, nothing written"
    yield f"{done}: {counts}, {outcome.refused:,} refused."
    yield (
        f"The file has {number_of(outcome.lines, 'line', 'lines')}: {outcome.lines_header} header, "
        f"{outcome.lines_read:,} read, {outcome.lines_refused:,} refused, "
        f"{outcome.lines_empty:,} empty."
    )
    yield from _advice(outcome, request)


def _first_records(outcome: ImportOutcome, currency: str) -> Iterator[str]:
    if outcome.first_orders or outcome.first_customers:
        yield "The first records, as they would be:"
    for order in outcome.first_orders:
        yield printable(f"  {_order(order, currency)}")
    for customer in outcome.first_customers:
        yield printable(f"  {_customer(customer)}")


def _order(event: OrderEvent, currency: str) -> str:
    customer = event.customer
    parts = [
        f"order {event.order_id}",
        f"{event.date_created:%Y-%m-%d %H:%M:%SZ}",
        event.status + (f"/{event.payment_status}" if event.payment_status else ""),
        f"{_money(event.total_cents)} {event.currency or currency}",
    ]
    if event.refunded_cents:
        parts.append(f"refunded {_money(event.refunded_cents)}")
    if customer is None:
        parts.append("names nobody")
    else:
        told = (customer.name, customer.email, customer.phone)
        parts.append(" ".join(filter(None, told)) or customer.identifiers[0])
    return ", ".join(part[:_LONGEST_VALUE] for part in parts)


def _customer(line: CustomerLine) -> str:
    told = [
        line.id and customer_ref(line.id),
        line.name,
        line.email,
        line.phone,
        line.address and ", ".join(line.address.values()),
        None if line.email_opt_in is None else f"e-mails: {_yes(agrees=line.email_opt_in)}",
        line.date_created and f"since {line.date_created:%Y-%m-%d}",
    ]
    return "customer " + ", ".join(str(part)[:_LONGEST_VALUE] for part in told if part)


def _yes(*, agrees: bool) -> str:
    return "yes" if agrees else "no"


def _money(hundredths: int) -> str:
    return f"{hundredths // 100:,}.{hundredths % 100:02}"


def _totals(outcome: ImportOutcome, currency: str) -> Iterator[str]:
    if outcome.kind is not FileKind.ORDERS or not outcome.money:
        return
    for code, money in sorted(outcome.money.items()):
        yield (
            f"{number_of(money.orders, 'order', 'orders')} in {code or currency}: total "
            f"{_money(money.total)}, refunded {_money(money.refunded)}."
        )
        if code:
            yield (
                f"  The store's currency is {currency}. Money in {code} is kept apart, unless the "
                f"orders have an exchange rate. If {code} is the store's, set CRM_STORE_CURRENCY "
                "before the first order is stored."
            )
    if outcome.first_date and outcome.last_date:
        yield f"Placed from {outcome.first_date:%Y-%m-%d} to {outcome.last_date:%Y-%m-%d}."
    named = [
        f"{outcome.named_by[kind]:,} {words}"
        for kind, words in _BY.items()
        if outcome.named_by[kind]
    ]
    nobody = outcome.named_by[""]
    yield (
        f"{number_of(outcome.people, 'customer is', 'customers are')} named, "
        f"{outcome.known_people:,} of them known already: "
        f"{', '.join(named) or 'none'}; {number_of(nobody, 'order names', 'orders name')} nobody."
    )


def _aside(outcome: ImportOutcome) -> Iterator[str]:
    for column, why in outcome.left_aside.items():
        if why:
            yield printable(f"Left aside, {column}: {why}.")
    unknown = [column for column, why in outcome.left_aside.items() if not why]
    if unknown:
        more = f" and {len(unknown) - _MOST_COLUMNS} more" if len(unknown) > _MOST_COLUMNS else ""
        yield printable(f"Columns left aside: {', '.join(unknown[:_MOST_COLUMNS])}{more}.")


def refused_lines(outcome: ImportOutcome) -> Iterator[str]:
    """Yield the first refused lines, and what to do."""
    for number, fault in outcome.first_refused:
        where = f"line {number}" + (f", {fault.column}" if fault.column else "")
        yield printable(f"{where}: {fault.problem}; {fault.remedy}")
    if outcome.refused > len(outcome.first_refused):
        yield f"… and {outcome.refused - len(outcome.first_refused):,} more"


def _refused(outcome: ImportOutcome, request: ImportRequest) -> Iterator[str]:
    yield from refused_lines(outcome)
    if outcome.refused:
        yield f"All refused lines, with what to do: {request.refused_path}"


def _advice(outcome: ImportOutcome, request: ImportRequest) -> Iterator[str]:
    if outcome.counts[Verdict.OLDER]:
        yield (
            f"{number_of(outcome.counts[Verdict.OLDER], 'order is', 'orders are')} stored in a "
            "newer state than that of the file, and stay as stored."
        )
    if outcome.kept:
        yield (
            f"{number_of(outcome.kept, 'line has', 'lines have')} a value that stays as it is "
            "here: somebody typed it, or it is newer than the file."
        )
    if outcome.other_figures:
        yield (
            f"{number_of(outcome.other_figures, 'line has', 'lines have')} other totals than the "
            "customer has here. Totals follow from orders: import the orders as well."
        )
    if outcome.other_segments and not request.hold_segments:
        yield (
            f"{number_of(outcome.other_segments, 'line names', 'lines name')} another segment than "
            "the customer has. The rules decide the segment, from the orders. Add --hold-segments "
            "to set those by hand."
        )
    if outcome.as_of:
        yield f"The values count as of {outcome.as_of:%Y-%m-%d %H:%M:%SZ}, the file's date."
    if not request.apply:
        yield "Add --apply to import."
