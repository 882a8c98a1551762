"""``crm recover``: take back published segment changes that a restored database has forgotten."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from typing import Annotated, Any

import typer

from service.cli.database import actor, connected
from service.cli.output import AsJson, fail, print_json, say
from service.config import Config
from service.core.customer_ids import customer_number, customer_ref
from service.core.numbers import number_of
from service.core.published_event import MOST_CUSTOMER
from service.db.engine import SCAN_SECONDS
from service.db.operations.recover import RecoverReport, RelayRunsError, Request
from service.db.operations.recover import recover as take_back
from service.local.state import with_local_stack
from service.streams import redis_client


def recover(
    *,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write it. Without this, nothing is written.")
    ] = False,
    new_customers_up_to: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Customers whom this database has forgotten, too, may have ids up to this one.",
        ),
    ] = None,
    accept_gaps: Annotated[
        bool,
        typer.Option(
            "--accept-gaps",
            help="Take changes after a gap in the publish numbers: the stream was trimmed, or an "
            "entry of somebody else made the numbers jump.",
        ),
    ] = False,
    discard: Annotated[
        bool,
        typer.Option(
            "--discard", help="Take nothing: this database was not restored. Remove the changes."
        ),
    ] = False,
    as_json: Annotated[bool, AsJson] = False,
) -> None:
    """Take back segment changes that a restored database has forgotten.

    Analytics has seen them, so they must become part of the history again. This shows which
    changes of the out-stream would be taken, and which would be refused, and why. Look at them:
    Redis cannot say who wrote an entry. To write, stop all workers and add --apply. Refused
    changes are then removed from the stream. Exit status 1 if anything is refused.
    """
    request = Request(apply, _up_to(new_customers_up_to), accept_gaps, discard)
    report = asyncio.run(_run(request))
    if as_json:
        print_json(_document(report))
    else:
        for line in _lines(report):
            say(line)
    raise typer.Exit(1 if report.refused else 0)


def _up_to(customer: str | None) -> int:
    if customer is None:
        return 0
    number = customer_number(customer)
    if number is None or number > MOST_CUSTOMER:
        fail(f"--new-customers-up-to: {customer} is not the id of a customer, such as CUST-1001.")
    return number


async def _run(request: Request) -> RecoverReport:
    config = with_local_stack(Config.load())
    async with (
        connected(config, "crm recover", SCAN_SECONDS) as engine,
        aclosing(redis_client.configured(config)) as redis,
    ):
        try:
            return await take_back(engine, redis, config.changes_stream, request, actor())
        except RelayRunsError:
            fail("a worker publishes segment changes. Stop all workers first.")


def _lines(report: RecoverReport) -> Iterator[str]:
    took = "Took back" if report.applied else "Would take back"
    if report.changes:
        yield (
            f"{took} {number_of(report.changes, 'change', 'changes')} of "
            f"{number_of(len(report.customers), 'customer', 'customers')}, with the publish "
            f"numbers {report.first} to {report.last}."
        )
        if report.new_customers:
            yield f"  Customers whom this database does not know: {_range(report.new_customers)}"
    elif not report.refused:
        yield "The out-stream has no changes that this database does not know."
    for reason, refused in report.refused.items():
        more = ", …" if refused.entries > len(refused.examples) else ""
        yield (
            f"Refused {number_of(refused.entries, 'entry', 'entries')}: {reason}. "
            f"{', '.join(refused.examples)}{more}"
        )
    if report.unconfirmed:
        yield (
            f"Unknown customers: {_range(report.unconfirmed)}. If your shop had these customers "
            "before the database was restored, add --new-customers-up-to "
            f"{customer_ref(max(report.unconfirmed))}."
        )
    if report.changes or report.refused:
        yield "Written." if report.applied else "Nothing was written. Add --apply to write it."


def _range(customers: set[int]) -> str:
    ids = f"{customer_ref(min(customers))} to {customer_ref(max(customers))}"
    return customer_ref(min(customers)) if len(customers) == 1 else f"{len(customers):,}, {ids}"


def _document(report: RecoverReport) -> dict[str, Any]:
    return {
        "applied": report.applied,
        "changes": report.changes,
        "firstNumber": report.first,
        "lastNumber": report.last,
        "customers": len(report.customers),
        "newCustomers": [customer_ref(number) for number in sorted(report.new_customers)],
        "unconfirmedCustomers": [customer_ref(number) for number in sorted(report.unconfirmed)],
        "refused": [
            {"reason": reason, "entries": refused.entries, "examples": refused.examples}
            for reason, refused in report.refused.items()
        ],
    }
