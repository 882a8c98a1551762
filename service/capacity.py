"""What a shop of a given size needs: arithmetic on what was measured, for `crm capacity`.

Bytes are held against a loaded database by `tests/cli/test_capacity.py`; the rate is what
`make bench` showed on two virtual cores that worker, PostgreSQL and Redis shared.
"""

from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

RATE = 8000.0
"""Events per second that one worker applied: the lower end of what the README says."""
BUSY = 0.5
"""Share of that rate that is planned with: the rest is for reads, vacuum and bad days."""
CONNECTIONS_PER_PROCESS = 12
"""To PostgreSQL, at most: a pool of five, as many beyond it, and who listens."""
FEWEST = 2
"""Replicas of either process, so that one may go."""
_DAY = 86_400


class Bytes(NamedTuple):
    """What one of each takes, with its indexes."""

    customer: float = 1300.0
    """With what a search reads of them."""
    order: float = 340.0
    change: float = 200.0
    """A row of the history."""
    wal: float = 1600.0
    """Write-ahead log of an event; full pages after a checkpoint come on top."""
    redis: float = 730.0
    """An entry of the orders stream, when the event has 760 bytes."""


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
    """With that backlog and what is kept beside it."""
    catch_up_seconds: float | None
    """While the peak goes on, at the rate of one worker; None: never."""


def needs(shop: Shop, rate: float = RATE) -> Needs:
    """Work it out, with ``rate`` as what one worker was measured to apply per second."""
    events_per_day = shop.orders_per_day * shop.events_per_order
    peak = events_per_day / _DAY * shop.peak
    backlog = ceil(peak * shop.outage_minutes * 60)
    workers = max(FEWEST, ceil(peak / (rate * BUSY)))
    orders = shop.orders_per_day * 365 * shop.years
    return Needs(
        peak_events_per_second=peak,
        share_of_one_worker=100 * peak / rate,
        workers=workers,
        connections=(workers + FEWEST) * CONNECTIONS_PER_PROCESS,
        database_bytes=shop.customers * BYTES.customer
        + orders * (BYTES.order + shop.changes_per_order * BYTES.change),
        wal_bytes_per_day=events_per_day * BYTES.wal,
        backlog_entries=backlog,
        redis_bytes=(backlog + shop.kept_entries) * BYTES.redis,
        catch_up_seconds=backlog / (rate - peak) if peak < rate else None,
    )
