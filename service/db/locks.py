"""Locks that several modules take, and the clock that is read once they are held.

Customers are locked in the order of their ids, because writers that lock in different orders
deadlock. A statement of its own locks them, because the next one needs a snapshot newer than the
lock.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import IntEnum

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


class AdvisoryLock(IntEnum):
    """Numbers of PostgreSQL's advisory locks. Each begins with "CRM" in ASCII."""

    MIGRATION = 0x43524D01
    """One migration runs at a time."""
    RELAY = 0x43524D02
    """One relay publishes."""
    SWEEP = 0x43524D03
    """One sweep at a time."""
    SETTINGS = 0x43524D04
    """One new version of the segment settings at a time."""
    CACHED_ANSWERS = 0x43524D05
    """One process computes the answers that take long."""
    LOSSES = 0x43524D06
    """One process checks the streams for lost entries."""
    TRIMMING = 0x43524D07
    """One process trims streams."""
    DEAD_LETTERS = 0x43524D08
    """One process drops dead letters."""
    MERGES = 0x43524D0C
    """One process merges customers whom events have put together."""
    PAST_DAYS = 0x43524D0D
    """One process computes the daily figures of past days, or corrects them."""
    SHOP_FACTS = 0x43524D0E
    """Nobody notes what a shop says of an order while events of such orders are applied."""
    FIT = 0x43524D0F
    """One process fits a model."""
    OUTLOOKS = 0x43524D10
    """The process of one worker refreshes what is expected of customers."""
    TAGS = 0x43524D12
    """Nobody is merged or erased while tags are written: tags lock no customer. Those who write
    tags share it."""
    OWN_FIELDS = 0x43524D18
    """Nobody writes a value while a field is changed or deleted. Those who write values share it.
    They take it before they lock customers: then no event waits for a change of a field."""
    DELIVERIES = 0x43524D13
    """One process sends events to endpoints."""
    VIEWS = 0x43524D14
    """One process counts the customers of saved views."""
    SEARCH_TEXTS = 0x43524D17
    """One process writes the texts anew that searches read."""
    FIGURES_INDEX = 0x43524D19
    """One process takes new customers into the index of figures."""
    STREAM_ERASURE = 0x43524D0B
    """One process deletes the entries of erased people from the streams."""


_TRY = text("SELECT pg_try_advisory_xact_lock(:lock)")
_WAIT = text("SELECT pg_advisory_xact_lock(:lock)")
_SHARE = text("SELECT pg_advisory_xact_lock_shared(:lock)")
_CUSTOMERS = text("""
WITH locked AS MATERIALIZED (
  SELECT id FROM customers WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE
)
SELECT count(*), clock_timestamp() AS now FROM locked
""")
# The rows of a replica are as old as the last transaction that it has replayed.
CLOCK = """CASE WHEN pg_is_in_recovery()
  THEN pg_last_xact_replay_timestamp() ELSE clock_timestamp() END"""
"""The SQL expression for the database's clock."""
_CLOCK = text(f"SELECT {CLOCK}")


async def try_lock(connection: AsyncConnection, lock: AdvisoryLock) -> bool:
    """Take a lock until the transaction ends. Return False if somebody else holds it."""
    return bool((await connection.execute(_TRY, {"lock": lock})).scalar_one())


async def wait_for_lock(connection: AsyncConnection, lock: AdvisoryLock) -> None:
    """Take a lock until the transaction ends, as soon as nobody else holds it."""
    await connection.execute(_WAIT, {"lock": lock})


async def share_lock(connection: AsyncConnection, lock: AdvisoryLock) -> None:
    """Take a lock with others who share it, as soon as nobody holds it alone."""
    await connection.execute(_SHARE, {"lock": lock})


async def lock_customers(connection: AsyncConnection, ids: Sequence[int]) -> datetime:
    """Lock customers until the transaction ends; return the clock, read after the last lock.

    Judging by that moment keeps time from running backwards for a customer.
    """
    now: datetime = (await connection.execute(_CUSTOMERS, {"ids": ids})).one().now
    return now


async def read_clock(connection: AsyncConnection) -> datetime:
    """Return the database's clock; on a replica, the moment that its data is from."""
    now: datetime = (await connection.execute(_CLOCK)).scalar_one()
    return now
