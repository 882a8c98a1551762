"""Make order events of a file, for those who want to see the stream work."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, tzinfo

from service.core.identifiers import IdentifierKind, kind_of, value_of
from service.core.judge import Terms
from service.transfer.formats.format import OrderDocument, Reading
from service.transfer.import_outcome import ImportOutcome
from service.transfer.importer import ImportRequest, as_of, grouped, read
from service.transfer.lines import FileKind, LineFault
from service.transfer.order_lines import OrderLine, event_of, order_line
from service.transfer.reading.record import UnreadableError
from service.transfer.recognition import recognised_file


def events_of_file(
    request: ImportRequest,
    terms: Terms,
    zone: tzinfo,
    domains: Mapping[str, str],
    outcome: ImportOutcome,
) -> Iterator[str]:
    """Yield the JSON of an order event per order of a file.

    ``domains`` are those of the only shop of each platform that has just one. Orders that the
    worker would refuse are left out, and counted in ``outcome``. Raises UnreadableError.
    """
    now = datetime.now(UTC)
    dated = as_of(request, now)
    reading = Reading(zone, terms.country, request.source, request.date_format)
    with recognised_file(request.path, request.wanted) as file:
        if file.format.kind is not FileKind.ORDERS:
            msg = f"cannot be published: it has customers ({file.format.title}), and no orders"
            raise UnreadableError(msg)
        reading.of_format(file.format, domains)
        outcome.begin(file, reading)
        for record in grouped(file.format, file.records, outcome):
            order = read(file.format, record, reading)
            if not isinstance(order, OrderDocument):
                if isinstance(order, LineFault):
                    outcome.refuse(record, order)
                continue
            line = order_line(order, terms, now, dated, file.format.theirs)
            if isinstance(line, LineFault):
                outcome.refuse(record, line)
            else:
                yield json.dumps(event_of(with_country(order, line), dated), default=str)


def with_country(order: OrderDocument, line: OrderLine) -> OrderDocument:
    """Return an order whose phone has its country, if the phone names somebody.

    A worker does not know where an order is from.
    """
    customer = line.event.customer
    if order.event or not customer or kind_of(customer.identifiers[0]) is not IdentifierKind.PHONE:
        return order
    told = {**order.data["customer"], "phone": value_of(customer.identifiers[0])}
    return order._replace(data={**order.data, "customer": told})
