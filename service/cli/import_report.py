"""Print what an import did, or would do: as text for people, and as JSON for programs."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from service.core.numbers import number_of
from service.core.printable import printable
from service.transfer import import_report
from service.transfer.import_outcome import ImportOutcome
from service.transfer.import_report import Report
from service.transfer.importer import ImportRequest
from service.transfer.lines import Verdict

_LONGEST_VALUE = 60
_OPTIONS = {"hold_segments": "Add --hold-segments to set those by hand."}


def import_document(outcomes: Sequence[ImportOutcome], request: ImportRequest) -> dict[str, Any]:
    """Return the outcomes as the document of ``--json``: a part for each kind of records."""
    refused = any(outcome.refused for outcome in outcomes)
    told = {
        "applied": request.apply,
        "refusedFile": str(request.refused_path) if refused else None,
    }
    parts = [import_report.report(outcome) for outcome in outcomes]
    return {**told, **parts[0]} if len(parts) == 1 else {**told, "parts": parts}


def import_lines(
    outcomes: Sequence[ImportOutcome], request: ImportRequest, currency: str
) -> Iterator[str]:
    """Yield the outcomes as lines of text. ``currency`` is the store's."""
    for outcome in outcomes:
        yield from map(printable, _part(import_report.report(outcome), request, currency))
    if not request.apply:
        yield "Add --apply to import."


def _part(report: Report, request: ImportRequest, currency: str) -> Iterator[str]:
    yield f"{request.path.name}: {report['title']}."
    if report["guess"]:
        yield report["guess"]
    if report["firstRecords"] and not request.apply:
        yield "The first records, as they would be:"
        for record in report["firstRecords"]:
            yield f"  {_order(record, currency) if 'order' in record else _customer(record)}"
    if import_report.has_totals(report):
        yield from _totals(report, currency)
    for sentence in import_report.left_aside(report):
        yield f"Left aside, {sentence}"
    if unknown := import_report.unknown_columns(report):
        yield f"Columns left aside: {unknown}."
    for sentence in import_report.noticed(report):
        yield f"Noticed in {sentence}"
    yield from _refused(report, request)
    counts = ", ".join(f"{report[verdict]:,} {verdict}" for verdict in Verdict)
    done = "Imported" if request.apply else "Dry run, nothing written"
    yield f"{done}: {counts}, {report['refused']:,} refused."
    yield import_report.lines_told(report)
    for advice in import_report.advice(report, holds_segments=request.hold_segments):
        yield " ".join(filter(None, (advice.sentence, _OPTIONS.get(advice.option or ""))))
    if report["asOf"]:
        yield f"The values count as of {_moment(report['asOf'])}, the file's date."


def _order(order: Mapping[str, Any], currency: str) -> str:
    customer = order["customer"]
    parts = [
        f"order {order['order']}",
        _moment(order["dateCreated"]),
        order["status"] + (f"/{order['paymentStatus']}" if order["paymentStatus"] else ""),
        f"{order['totalAmount']:,.2f} {order['currency'] or currency}",
    ]
    if order["refundedAmount"]:
        parts.append(f"refunded {order['refundedAmount']:,.2f}")
    if customer is None:
        parts.append("names nobody")
    else:
        told = (customer["name"], customer["email"], customer["phone"])
        parts.append(" ".join(filter(None, told)) or customer["identifiers"][0])
    return ", ".join(part[:_LONGEST_VALUE] for part in parts)


def _customer(customer: Mapping[str, Any]) -> str:
    agrees = customer["emailOptIn"]
    told = [
        customer["id"],
        customer["name"],
        customer["email"],
        customer["phone"],
        customer["address"] and ", ".join(customer["address"]),
        None if agrees is None else f"e-mails: {'yes' if agrees else 'no'}",
        customer["dateCreated"] and f"since {customer['dateCreated'][:10]}",
    ]
    return "customer " + ", ".join(str(part)[:_LONGEST_VALUE] for part in told if part)


def _moment(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%SZ}"


def _totals(report: Report, currency: str) -> Iterator[str]:
    for code, money in report["money"].items():
        yield (
            f"{number_of(money['orders'], 'order', 'orders')} in {code or currency}: total "
            f"{money['total']:,.2f}, refunded {money['refunded']:,.2f}."
        )
    for sentence in import_report.other_currencies(report, currency):
        yield f"  {sentence}"
    if report["firstDate"]:
        yield f"Placed from {report['firstDate'][:10]} to {report['lastDate'][:10]}."
    yield import_report.customers_named(report)


def refused_lines(report: Report) -> Iterator[str]:
    """Yield the first refused lines, and what to do."""
    first = report["firstRefused"]
    for fault in first:
        where = f"line {fault['line']}" + (f", {fault['column']}" if fault["column"] else "")
        option = f': add --map "{fault["mapping"]}"' if fault["mapping"] else ""
        yield printable(f"{where}: {fault['problem']}; {fault['remedy']}{option}")
    if report["refused"] > len(first):
        yield f"… and {report['refused'] - len(first):,} more"


def _refused(report: Report, request: ImportRequest) -> Iterator[str]:
    yield from refused_lines(report)
    if report["refused"]:
        yield f"All refused lines, with what to do: {request.refused_path}"
