"""``crm rebuild``: recompute metrics and segments from the stored orders; write what differs."""

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from pydantic.alias_generators import to_camel

from service.cli.database import actor, connected
from service.cli.output import (
    AsJson,
    camel,
    facts_line,
    fail,
    print_json,
    progress,
    say,
)
from service.cli.verify import finding_document, finding_lines
from service.config import Config
from service.core.customer_ids import customer_ref
from service.core.numbers import number_of
from service.db.engine import SCAN_SECONDS
from service.db.operations.rebuild import CustomerMetrics, Difference, RebuildReport
from service.db.operations.rebuild import rebuild as recompute
from service.db.operations.rebuild.mend import Mended
from service.local.state import with_local_stack

_MOST_EXAMPLES = 5
"""Rows shown of each kind that was mended."""


def rebuild(
    *,
    apply: Annotated[
        bool,
        typer.Option("--apply", help="Write what was recomputed. Without it, nothing is written."),
    ] = False,
    past_days: Annotated[
        bool,
        typer.Option(
            "--past-days",
            help="With --apply: compute the figures of all past days again, from the orders and "
            "today's rules. They replace what was known on those days.",
        ),
    ] = False,
    show: Annotated[int, typer.Option(min=0, help="Show this many customers at most.")] = 20,
    as_json: Annotated[bool, AsJson] = False,
) -> None:
    """Recompute everything that can be derived from what is stored.

    Shows which metrics, segments, statistics, search texts and references are wrong. Safe while
    events are applied. At the end it checks the invariants that Postgres alone can tell. Exit
    status 1 if something is wrong and --apply was not given, or if something cannot be mended.
    """
    if past_days and not apply:
        fail("--past-days writes the figures of past days. Add --apply.")
    report = asyncio.run(_run(apply=apply, past_days=past_days, show=show))
    if as_json:
        print_json(_document(report))
    else:
        for line in _lines(report):
            say(line)
    raise typer.Exit(0 if report.clean or (report.applied and not report.left) else 1)


async def _run(*, apply: bool, past_days: bool, show: int) -> RebuildReport:
    config = with_local_stack(Config.load())
    examined = 0

    def advance(customers: int) -> None:
        nonlocal examined
        examined += customers
        update(examined)

    async with connected(config, "crm rebuild", SCAN_SECONDS) as engine:
        with progress("Customers recomputed") as update:
            return await recompute(
                engine,
                apply=apply,
                actor=actor(),
                past_days=past_days,
                show=show,
                progress=advance,
            )


def _lines(report: RebuildReport) -> Iterator[str]:
    if report.past_days:
        yield "The figures of past days were computed from the orders."
    recomputed = f"{number_of(report.examined, 'customer', 'customers')} recomputed"
    if report.clean:
        yield f"{recomputed}: nothing differs."
        return
    yield (
        f"{recomputed}: {number_of(report.customers, 'differs', 'differ')}, "
        f"{report.figures:,} of them in their figures."
    )
    for (stored, rebuilt), customers in report.moves.most_common():
        yield f"  {stored} → {rebuilt}: {customers:,}"
    for difference in report.first:
        changed = ", ".join(
            f"{name} {stored} → {rebuilt}"
            for name, (stored, rebuilt) in _changes(difference).items()
        )
        yield f"  {customer_ref(difference.customer_id)}: {changed}"
    if report.statistics:
        yield f"Stored statistics that a recount does not confirm: {len(report.statistics)}"
        for row in report.statistics:
            yield f"  {facts_line(row)}"
    for mended in report.mended:
        yield from _mended_lines(mended)
    yield from _ending(report)


def _mended_lines(mended: Mended) -> Iterator[str]:
    yield f"{mended.what[:1].upper()}{mended.what[1:]}: {mended.rows:,}"
    for row in mended.examples[:_MOST_EXAMPLES]:
        yield f"  {facts_line(row)}"
    if mended.then:
        yield f"  {mended.then}"


def _ending(report: RebuildReport) -> Iterator[str]:
    if not report.applied:
        yield "Nothing was written. Add --apply to write it."
        return
    if report.customers or report.statistics or report.mended:
        yield "Written, and checked again." if not report.left else "Written."
    if report.left:
        yield "This is still wrong. A rebuild cannot know what is right:"
        yield from finding_lines(report.left)


def _document(report: RebuildReport) -> dict[str, Any]:
    return {
        "applied": report.applied,
        "examined": report.examined,
        "customers": report.customers,
        "figures": report.figures,
        "moves": [
            {"from": stored, "to": rebuilt, "customers": customers}
            for (stored, rebuilt), customers in report.moves.most_common()
        ],
        "first": [
            {
                "customerId": customer_ref(difference.customer_id),
                "changes": {name: list(sides) for name, sides in _changes(difference).items()},
            }
            for difference in report.first
        ],
        "statistics": [
            {name: str(value) for name, value in row.items()} for row in report.statistics
        ],
        "mended": [
            {
                "what": mended.what,
                "rows": mended.rows,
                "examples": [camel(row) for row in mended.examples],
                "then": mended.then,
            }
            for mended in report.mended
        ],
        "pastDays": report.past_days,
        "left": [finding_document(finding) for finding in report.left],
    }


def _changes(difference: Difference) -> dict[str, tuple[Any, Any]]:
    """Return each field that differs, by its name in the API: as stored, and as recomputed."""
    return {
        to_camel(name): (stored, rebuilt)
        for name, stored, rebuilt in zip(
            CustomerMetrics._fields, difference.stored, difference.rebuilt, strict=True
        )
        if stored != rebuilt
    }
