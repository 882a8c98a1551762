"""``crm rebuild``: every metric and segment from stored orders; what differs, and mending it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from service.cli.database import whoever
from service.config import Config
from service.core.customer_ids import customer_ref
from service.core.json_values import dumps
from service.db.engine import SCAN_SECONDS, create_engine
from service.db.operations.rebuild import CustomerMetrics, Difference, RebuildReport
from service.db.operations.rebuild import rebuild as run
from service.local.state import with_local_stack


def rebuild(
    *,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write what differs; without it, only tell.")
    ] = False,
    show: Annotated[int, typer.Option(min=0, help="Customers to show, at most.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Recompute all metrics and segments from stored orders, beside the live tables.

    Events go on meanwhile. Exit status 1 when something differs and --apply was not given.
    """
    report = asyncio.run(_run(apply=apply, show=show, quiet=as_json))
    if as_json:
        typer.echo(dumps(_document(report)).decode())
    else:
        for line in _lines(report):
            typer.echo(line)
    raise typer.Exit(0 if report.clean or report.applied else 1)


async def _run(*, apply: bool, show: int, quiet: bool) -> RebuildReport:
    config = with_local_stack(Config.load())
    engine = create_engine(
        config.database_url or "", application="crm rebuild", transaction_seconds=SCAN_SECONDS
    )
    try:
        with _progress(quiet=quiet) as progress:
            return await run(engine, apply=apply, actor=whoever(), show=show, progress=progress)
    finally:
        await engine.dispose()


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[int], object]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task("customers", total=None)
        yield lambda customers: bar.advance(task, customers)


def _lines(report: RebuildReport) -> Iterator[str]:
    if report.clean:
        yield f"{report.examined} customers recomputed: nothing differs."
        return
    yield (
        f"{report.examined} customers recomputed: {report.customers} differ, "
        f"{report.figures} of them in their figures."
    )
    for (kept, rebuilt), customers in report.moves.most_common():
        yield f"  {kept} → {rebuilt}: {customers}"
    for difference in report.first:
        changed = ", ".join(
            f"{name} {before} → {after}" for name, (before, after) in _changes(difference).items()
        )
        yield f"  {customer_ref(difference.customer_id)}: {changed}"
    if report.statistics:
        yield f"Statistics kept that a recount does not arrive at: {len(report.statistics)}"
        for row in report.statistics:
            yield "  " + ", ".join(f"{name}={value}" for name, value in row.items())
    yield "Written." if report.applied else "Nothing was written; --apply does."


def _document(report: RebuildReport) -> dict[str, Any]:
    return {
        "applied": report.applied,
        "examined": report.examined,
        "customers": report.customers,
        "figures": report.figures,
        "moves": [
            {"from": kept, "to": rebuilt, "customers": customers}
            for (kept, rebuilt), customers in report.moves.most_common()
        ],
        "first": [
            {
                "customerId": customer_ref(it.customer_id),
                "changes": {name: list(sides) for name, sides in _changes(it).items()},
            }
            for it in report.first
        ],
        "statistics": [
            {name: str(value) for name, value in row.items()} for row in report.statistics
        ],
    }


_NAMES = {
    "total_orders": "totalOrders",
    "total_spent": "totalSpent",
    "first_order_date": "firstOrderDate",
    "last_order_date": "lastOrderDate",
    "segment": "segment",
}


def _changes(difference: Difference) -> dict[str, tuple[Any, Any]]:
    """Give each field that differs, by its name on the wire: as kept, and as rebuilt."""
    return {
        _NAMES[name]: (kept, rebuilt)
        for name, kept, rebuilt in zip(
            CustomerMetrics._fields, difference.stored, difference.rebuilt, strict=True
        )
        if kept != rebuilt
    }
