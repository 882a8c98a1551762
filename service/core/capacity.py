"""What a shop of a given size needs: arithmetic on what was measured, for `crm capacity`.

`tests/bench/capacity.py` measures all of it again; `tests/integration/cli/test_capacity.py` holds
the bytes in bounds. `make bench` showed the rate, on two virtual cores that the worker, PostgreSQL
and Redis shared.
"""

from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

RATE = 8000.0
"""Events per second that one worker applied: the lower end of what docs/performance.md shows."""
BUSY = 0.5
"""Share of that rate that is planned with: the rest is for reads, vacuum and bad days."""
CONNECTIONS_PER_PROCESS = 10
"""To PostgreSQL, at most: a pool of five, and as many beyond it."""
FEWEST = 2
"""Replicas of either process, so that one may go."""
CHECKPOINTS = 288
"""A day, when there is one every five minutes, as PostgreSQL has it by default."""
_DAY = 86_400


class Bytes(NamedTuple):
    """What one of each takes, with its indexes."""

    customer: float = 1300.0
    """With what a search reads of them."""
    order: float = 430.0
    """With the places that its updates leave behind."""
    change: float = 350.0
    """A row of the history, once published."""
    wal: float = 1250.0
    """Write-ahead log of an event."""
    images: float = 12_200.0
    """The same again for the pages that it is the first to touch after a checkpoint, as nearly each
    event is in a large shop."""
    compressed_images: float = 5400.0
    """With `wal_compression`."""
    redis: float = 730.0
    """An entry of the orders stream, when the event has 760 bytes."""
    published: float = 480.0
    """An entry of the stream out."""


BYTES = Bytes()


@dataclass(frozen=True)
class Shop:
    """What is asked."""

    customers: int
    orders_per_day: float
    events_per_order: float = 4.0
    peak: float = 10.0
    """The busiest minutes, as a multiple of the mean."""
    outage_minutes: float = 60.0
    """Without any worker, or without the database, at the peak."""
    years: float = 3.0
    """For how many orders are kept."""
    changes_per_order: float = 1.0
    kept_entries: int = 250_000
    """Applied entries that stay in the orders stream (CRM_ORDERS_KEEP_ENTRIES)."""
    kept_changes: int = 250_000
    """Entries of the stream out (CRM_CHANGES_KEEP_ENTRIES)."""
    wal_compression: bool = True
    """As deploy/compose.yaml has it; PostgreSQL itself does without unless told."""


@dataclass(frozen=True)
class Needs:
    """What is answered; sizes in bytes."""

    peak_events_per_second: float
    share_of_one_worker: float
    """Of its measured rate, in percent."""
    workers: int
    connections: int
    """Of these workers and two web processes."""
    database_bytes: float
    wal_bytes_per_day: float
    backlog_entries: int
    """After the outage."""
    redis_bytes: float
    """With that backlog and what is kept of both streams."""
    catch_up_seconds: float | None
    """While the peak goes on, at the rate of one worker; None: never."""


def needs(shop: Shop, rate: float = RATE) -> Needs:
    """Work it out, with ``rate`` as what one worker was measured to apply per second."""
    events_per_day = shop.orders_per_day * shop.events_per_order
    peak = events_per_day / _DAY * shop.peak
    backlog = ceil(peak * shop.outage_minutes * 60)
    workers = max(FEWEST, ceil(peak / (rate * BUSY)))
    orders = shop.orders_per_day * 365 * shop.years
    database = shop.customers * BYTES.customer + orders * (
        BYTES.order + shop.changes_per_order * BYTES.change
    )
    images = BYTES.compressed_images if shop.wal_compression else BYTES.images
    return Needs(
        peak_events_per_second=peak,
        share_of_one_worker=100 * peak / rate,
        workers=workers,
        connections=(workers + FEWEST) * CONNECTIONS_PER_PROCESS,
        database_bytes=database,
        # Between two checkpoints no page is written out whole twice.
        wal_bytes_per_day=events_per_day * BYTES.wal
        + min(events_per_day * images, CHECKPOINTS * database),
        backlog_entries=backlog,
        redis_bytes=(backlog + shop.kept_entries) * BYTES.redis
        + shop.kept_changes * BYTES.published,
        catch_up_seconds=backlog / (rate - peak) if peak < rate else None,
    )
