"""Compute what a shop of a given size needs, from measured figures, for `crm capacity`.

`tests/bench/capacity.py` measures all figures again, and `tests/integration/cli/test_capacity.py`
checks that the bytes are still right. The rate was measured by `make bench`, on two virtual cores
that the worker, PostgreSQL and Redis shared.
"""

from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

RATE = 8000.0
"""Events per second that one worker applied; the lowest of the figures in the README."""
BUSY = 0.5
"""The share of that rate to plan with. The rest is for reads, vacuum and bad days."""
CONNECTIONS_PER_PROCESS = 10
"""Connections to PostgreSQL, at most: a pool of five, and five more under load."""
FEWEST_PROCESSES = 2
"""The fewest workers, and the fewest web processes, so that one of each may fail."""
CHECKPOINTS = 288
"""Checkpoints a day, at one every five minutes, which is PostgreSQL's default."""
BUFFERS_PER_TABLE = 4
"""How many times as large as a table `shared_buffers` have to be. In smaller ones, PostgreSQL does
not keep a table of which it reads everything (``initscan`` in its heapam.c)."""
_DAY = 86_400


class Bytes(NamedTuple):
    """The bytes that one item of each kind takes, with its indexes."""

    customer: float = 1570.0
    """Including the text that a search reads, and an identifier."""
    customer_row: float = 700.0
    """A customer's row alone. Lists that no index sorts read all of these."""
    order: float = 480.0
    """Including the dead rows that its updates leave behind."""
    change: float = 350.0
    """A segment change in the history, after it was published."""
    wal: float = 1370.0
    """The write-ahead log of one event."""
    images: float = 12_200.0
    """Additional write-ahead log of one event. PostgreSQL logs a whole page when it first changes
    after a checkpoint. In a large shop, nearly every event changes such pages."""
    compressed_images: float = 5400.0
    """The same with `wal_compression`."""
    redis: float = 730.0
    """An entry of the orders stream whose event has 760 bytes."""
    published: float = 480.0
    """An entry of the stream of segment changes."""
    removal: float = 400.0
    """An entry of the stream of customers who are gone."""


BYTES = Bytes()


@dataclass(frozen=True)
class Shop:
    """The size of a shop, and the load that the service must bear."""

    customers: int
    orders_per_day: float
    events_per_order: float = 4.0
    peak: float = 10.0
    """The load of the busiest minutes, as a multiple of the mean."""
    outage_minutes: float = 60.0
    """How long all workers, or the database, may be down at the peak."""
    years: float = 3.0
    """How many years of orders are stored."""
    changes_per_order: float = 1.0
    kept_entries: int = 250_000
    """Applied entries that stay in the orders stream (CRM_ORDERS_KEEP_ENTRIES)."""
    kept_changes: int = 250_000
    """Entries that stay in the stream of segment changes (CRM_CHANGES_KEEP_ENTRIES)."""
    kept_removals: int = 250_000
    """Entries that stay in the stream of customers who are gone (CRM_REMOVALS_KEEP_ENTRIES)."""
    wal_compression: bool = True
    """On in deploy/compose.yaml; off by default in PostgreSQL."""


@dataclass(frozen=True)
class Needs:
    """The resources that a shop needs."""

    peak_events_per_second: float
    share_of_one_worker: float
    """In percent of its measured rate."""
    workers: int
    connections: int
    """Connections of these workers and two web processes, at most."""
    database_bytes: float
    shared_buffers_bytes: float
    """With less memory, PostgreSQL reads all customers anew for each list that no index sorts."""
    wal_bytes_per_day: float
    backlog_entries: int
    """Entries not yet applied when the outage ends."""
    redis_bytes: float
    """With that backlog, and with the entries that stay in the streams."""
    catch_up_seconds: float | None
    """Time to apply the backlog at the rate of one worker, while the peak goes on. None: never."""


def needs(shop: Shop, rate: float = RATE) -> Needs:
    """Return what a shop needs, if one worker applies ``rate`` events per second."""
    events_per_day = shop.orders_per_day * shop.events_per_order
    peak = events_per_day / _DAY * shop.peak
    backlog = ceil(peak * shop.outage_minutes * 60)
    workers = max(FEWEST_PROCESSES, ceil(peak / (rate * BUSY)))
    orders = shop.orders_per_day * 365 * shop.years
    database = shop.customers * BYTES.customer + orders * (
        BYTES.order + shop.changes_per_order * BYTES.change
    )
    images = BYTES.compressed_images if shop.wal_compression else BYTES.images
    return Needs(
        peak_events_per_second=peak,
        share_of_one_worker=100 * peak / rate,
        workers=workers,
        connections=(workers + FEWEST_PROCESSES) * CONNECTIONS_PER_PROCESS,
        database_bytes=database,
        shared_buffers_bytes=BUFFERS_PER_TABLE * shop.customers * BYTES.customer_row,
        # Between two checkpoints, each page is written to the log in full once at most.
        wal_bytes_per_day=events_per_day * BYTES.wal
        + min(events_per_day * images, CHECKPOINTS * database),
        backlog_entries=backlog,
        redis_bytes=(backlog + shop.kept_entries) * BYTES.redis
        + shop.kept_changes * BYTES.published
        # As many customers as there are may have been merged into them, or erased. That is a lot.
        + min(shop.kept_removals, shop.customers) * BYTES.removal,
        catch_up_seconds=backlog / (rate - peak) if peak < rate else None,
    )
