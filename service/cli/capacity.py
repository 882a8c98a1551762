"""``crm capacity``: work out what a shop of a given size needs."""

import dataclasses
from collections.abc import Iterator
from typing import Annotated

import typer

from service.cli.output import AsJson, camel, print_facts, print_json
from service.config import Config
from service.core.capacity import BUSY, RATE, Needs, Shop, needs
from service.core.numbers import number_of

_UNIT = 1000


def capacity(  # noqa: PLR0913  one parameter per fact
    *,
    customers: Annotated[int, typer.Option(min=0, help="Customers of the shop.")],
    orders_per_day: Annotated[float, typer.Option(min=0, help="Orders on an average day.")],
    events_per_order: Annotated[float, typer.Option(min=1, help="Events about one order.")] = 4.0,
    peak: Annotated[
        float, typer.Option(min=1, help="Load of the busiest minutes, as a multiple of the mean.")
    ] = 10.0,
    outage: Annotated[
        float, typer.Option(min=0, help="Minutes without any worker, at the peak.")
    ] = 60.0,
    years: Annotated[float, typer.Option(min=0, help="For how long orders are stored.")] = 3.0,
    changes_per_order: Annotated[
        float, typer.Option(min=0, help="Segment changes that one order causes.")
    ] = 1.0,
    rate: Annotated[
        float,
        typer.Option(
            min=1,
            help="Events per second that one worker applies: measure it with `make bench` on the "
            "machine that you will use.",
        ),
    ] = RATE,
    wal_compression: Annotated[
        bool, typer.Option(help="Whether PostgreSQL compresses its write-ahead log.")
    ] = True,
    as_json: Annotated[bool, AsJson] = False,
) -> None:
    """Work out which machines a shop of a given size needs.

    Prints the load, workers, disk, memory, and the time to catch up after an outage. This is
    arithmetic on measured figures; no server is asked.
    """
    config = Config.load()
    shop = Shop(
        customers=customers,
        orders_per_day=orders_per_day,
        events_per_order=events_per_order,
        peak=peak,
        outage_minutes=outage,
        years=years,
        changes_per_order=changes_per_order,
        kept_entries=config.orders_keep_entries,
        kept_changes=config.changes_keep_entries,
        kept_removals=config.removals_keep_entries,
        wal_compression=wal_compression,
    )
    answer = needs(shop, rate)
    if as_json:
        print_json(camel(dataclasses.asdict(answer)))
    else:
        print_facts(list(_facts(shop, answer, rate)))


def _facts(shop: Shop, answer: Needs, rate: float) -> Iterator[tuple[str, str]]:
    share = f"{answer.share_of_one_worker:.1f} % of what one worker applies ({rate:,.0f})"
    yield "Events per second, at peak", f"{answer.peak_events_per_second:,.1f}: {share}"
    yield "Workers", f"{answer.workers}: at least two, and each at most {100 * BUSY:.0f} % busy"
    if answer.share_of_one_worker > 100 * BUSY:
        yield (
            "",
            "this rate was not measured on one PostgreSQL: run `make bench` on your machine",
        )
    yield "Connections to PostgreSQL", f"at most {answer.connections}, with two web processes"
    yield (
        "Database",
        f"{_size(answer.database_bytes)}, with the orders of {_span(shop.years, 'year')}",
    )
    yield (
        "shared_buffers of PostgreSQL",
        f"{_size(answer.shared_buffers_bytes)}, if you can: then all customers stay in memory",
    )
    yield "Write-ahead log", f"{_size(answer.wal_bytes_per_day)} a day"
    yield (
        "Backlog after the outage",
        number_of(answer.backlog_entries, "entry", "entries")
        + f", after {_span(shop.outage_minutes, 'minute')}",
    )
    yield "Redis with that backlog", f"{_size(answer.redis_bytes)} for all streams"
    seconds = answer.catch_up_seconds
    yield (
        "Time to catch up",
        (
            "never, while the peak lasts"
            if seconds is None
            else f"{seconds:,.0f} s, while the peak lasts"
        ),
    )


def _span(length: float, unit: str) -> str:
    return f"{length:g} {unit}" + ("" if length == 1 else "s")


def _size(size: float) -> str:
    """Return a number of bytes in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < _UNIT:
            return f"{size:,.1f} {unit}"
        size /= _UNIT
    return f"{size:,.1f} TB"
