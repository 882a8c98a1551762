"""``crm capacity``: what a shop of a given size needs."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Annotated

import typer

from service.config import Config
from service.core.capacity import BUSY, RATE, Needs, Shop, needs


def capacity(  # noqa: PLR0913  one parameter a fact
    *,
    customers: Annotated[int, typer.Option(min=0)],
    orders_per_day: Annotated[float, typer.Option(min=0, help="In the mean.")],
    events_per_order: Annotated[float, typer.Option(min=1)] = 4.0,
    peak: Annotated[float, typer.Option(min=1, help="Busiest minutes, times the mean.")] = 10.0,
    outage: Annotated[float, typer.Option(min=0, help="Minutes without workers, at peak.")] = 60.0,
    years: Annotated[float, typer.Option(min=0, help="For how many orders are kept.")] = 3.0,
    changes_per_order: Annotated[float, typer.Option(min=0, help="Of a segment.")] = 1.0,
    rate: Annotated[
        float,
        typer.Option(
            min=1, help="Events/s of one worker: what `make bench` says where it is to run."
        ),
    ] = RATE,
    wal_compression: Annotated[bool, typer.Option(help="As PostgreSQL is set.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Work out load, workers, disk, memory and the time to catch up; asks no server."""
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
        wal_compression=wal_compression,
    )
    found = needs(shop, rate)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(found), indent=2))
    else:
        for what, value in _lines(shop, found, rate):
            typer.echo(f"{what:<28}{value}")


def _lines(shop: Shop, found: Needs, rate: float) -> Iterator[tuple[str, str]]:
    share = f"{found.share_of_one_worker:.1f} % of what one worker was measured at ({rate:,.0f})"
    yield "events per second, at peak", f"{found.peak_events_per_second:,.1f}: {share}"
    yield "workers", f"{found.workers}: two at least, each {100 * BUSY:.0f} % busy at most"
    if found.share_of_one_worker > 100 * BUSY:
        yield "", "that much was not measured on one PostgreSQL: run `make bench` where it is to be"
    yield "connections to PostgreSQL", f"{found.connections}, with two web processes, at most"
    yield "database", f"{_size(found.database_bytes)} with {shop.years:g} years of orders"
    yield "write-ahead log", f"{_size(found.wal_bytes_per_day)} a day"
    yield f"after {shop.outage_minutes:g} minutes away", f"{found.backlog_entries:,} entries wait"
    yield "Redis then", f"{_size(found.redis_bytes)} for both streams"
    seconds = found.catch_up_seconds
    told = (
        "never, while the peak lasts" if seconds is None else f"{seconds:,.0f} s, the peak going on"
    )
    yield "to catch up", told


def _size(size: float) -> str:
    """Write bytes in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:  # noqa: PLR2004
            return f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
