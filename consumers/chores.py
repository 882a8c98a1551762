"""The chores: work that any replica may do, but only one at a time.

A chore repeats a step. Each step is one transaction, in which a lock keeps other replicas out.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import NamedTuple

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.config import Config
from service.core.loss_arithmetic import Loss
from service.core.partitions import OrdersStream
from service.core.stream_ids import write
from service.db import figures_index
from service.db.customers import interactions, order_conflicts
from service.db.customers.identity import duplicates
from service.db.customers.identity.merge import merge_next
from service.db.customers.letter_index import index_waiting
from service.db.customers.views import counts
from service.db.engine import DATABASE_AWAY, in_transaction
from service.db.operations import imports, losses, stream_erasure, trimming
from service.db.operations.dead_letter_removal import drop_excess
from service.db.operations.late_orders import late_orders_step
from service.db.operations.out_streams import out_streams
from service.db.operations.past_days import compute_past_days
from service.db.out_stream_tail import OutStream
from service.db.outlook import contacts, work_lists
from service.db.search_text import rewrite_waiting_step
from service.db.segments.reclassify import advance
from service.db.segments.sweep import sweep
from service.db.statistics import cohorts, key_figures, span_figures
from service.db.statistics.answer_cache import renew
from service.db.statistics.generations import follow_time_zone
from service.db.store_clock import first_difference, read_store_clock
from service.streams.redis_client import REDIS_ERRORS
from service.streams.trim import Keep

log = logging.getLogger(__name__)

ANSWERS = {
    **key_figures.CACHED,
    cohorts.CACHE_NAME: cohorts.compute,
    duplicates.CACHE_NAME: duplicates.find,
    work_lists.CACHE_NAME: work_lists.compute,
    span_figures.CACHE_NAME: span_figures.compute,
}
"""The answers that are slow to compute, by name."""
_TRIM_SECONDS = 5.0
_TRIM_REMOVALS_SECONDS = 60.0
"""Customers are removed seldom."""
_INDEX_SECONDS = 1.0
_DROP_SECONDS = 30.0
_FORGET_SECONDS = 60.0
_ERASE_SECONDS = 5.0
_REWRITE_SECONDS = 5.0
_SUMMARIZE_SECONDS = 5.0
_COUNT_SECONDS = 5.0
_COMPARE_SECONDS = 60.0
_LATE_SECONDS = 30.0
"""Late orders have stopped coming if two looks find the same."""
_LOOKS_PER_PAUSE = 10
"""A pause is at least so many times as long as the look before it."""

Step = Callable[[AsyncConnection], Awaitable[int | None]]
"""One transaction of a chore. Returns how many things it did, or None if nothing is left to do."""


class Chore(NamedTuple):
    """A step and how often to do it."""

    label: str
    """The log's name for the things that the step counts, such as "customers moved by time"."""
    step: Step
    pause_seconds: float
    """How long to wait when nothing is left to do."""


def all_chores(config: Config, redis: Redis, check_losses: Step) -> list[Chore]:
    """Return the chores of every worker; ``check_losses`` is made by `check_losses_step`."""
    return [
        Chore("customers moved by time", sweep_chunk, config.sweep_seconds),
        Chore("customers merged", merge_next, 1.0),
        Chore("chunks of customers reclassified", reclassify_chunk, 1.0),
        Chore("answers renewed", renew_answer_step(), config.sweep_seconds),
        Chore("time zones followed", follow_zone, 1.0),
        Chore("time zones compared", compare_clocks_step(), _COMPARE_SECONDS),
        Chore("times past days were computed", compute_days, 1.0),
        Chore("times orders of past days came", late_orders_step(), _LATE_SECONDS),
        Chore("checks for losses", check_losses, 1.0),
        Chore("texts for searches written anew", rewrite_waiting_step(), _REWRITE_SECONDS),
        Chore("customers taken into the index", figures_index.summarize, _SUMMARIZE_SECONDS),
        Chore("removed interactions forgotten", interactions.forget_removed, _FORGET_SECONDS),
        Chore("conflicts forgotten", order_conflicts.forget_superseded, _FORGET_SECONDS),
        Chore("views counted", counts.count_next_step(), _COUNT_SECONDS),
        Chore("rounds of contacts counted", contacts.settle, _FORGET_SECONDS),
        Chore("dead letters indexed", index_letters_step(config), _INDEX_SECONDS),
        Chore("files of imports forgotten", imports.forget_old, _FORGET_SECONDS),
        Chore("dead letters dropped", drop_letters_step(config), _DROP_SECONDS),
        *(
            Chore(
                f"entries trimmed off {name}", trim_orders_step(redis, config, name), _TRIM_SECONDS
            )
            for name, _ in config.orders_streams
        ),
        *(
            Chore(
                f"entries of erased people deleted from {stream.name}",
                erase_entries_step(redis, config, stream),
                _ERASE_SECONDS,
            )
            for stream in config.orders_streams
        ),
        *(
            Chore(
                f"entries trimmed off {stream.name}",
                trim_published_step(redis, stream, kept),
                pause,
            )
            for stream, kept, pause in zip(
                out_streams(config),
                (config.changes_keep_entries, config.removals_keep_entries),
                (_TRIM_SECONDS, _TRIM_REMOVALS_SECONDS),
                strict=True,
            )
        ),
    ]


async def repeat(engine: AsyncEngine, chore: Chore) -> None:
    """Do a chore until it is cancelled. A step that fails is tried again after the pause.

    If it takes long to find that nothing is left to do, the pause is longer: such a look may cost a
    server much, as when Redis has to load an entry of hundreds of megabytes for it.
    """
    while True:
        done = 0
        began = time.monotonic()
        try:
            while (more := await in_transaction(engine, chore.step)) is not None:
                done += more
                began = time.monotonic()
        except (*DATABASE_AWAY, *REDIS_ERRORS) as error:
            log.warning("%s put off: %s", chore.label, type(error).__name__)
        if done:
            log.info("%s: %d", chore.label, done)
        took = time.monotonic() - began
        pause = max(chore.pause_seconds, _LOOKS_PER_PAUSE * took)
        await asyncio.sleep(pause * random.uniform(0.5, 1))


async def sweep_chunk(connection: AsyncConnection) -> int | None:
    """Move customers whose segment has changed by time alone."""
    swept = await sweep(connection)
    return None if swept.finished else swept.moved


async def reclassify_chunk(connection: AsyncConnection) -> int | None:
    """Apply new settings to one chunk of customers."""
    return 1 if await advance(connection) else None


async def follow_zone(connection: AsyncConnection) -> int | None:
    """Begin to write days of the store's time zone, if it has changed."""
    return 1 if await follow_time_zone(connection) else None


def compare_clocks_step() -> Step:
    """Build the step that warns once if PostgreSQL has other rules for the store's time zone."""
    compared = ""

    async def step(connection: AsyncConnection) -> None:
        nonlocal compared
        clock = await read_store_clock(connection)
        if clock.zone.key == compared:
            return
        if found := await first_difference(connection, clock):
            log.warning(
                "PostgreSQL and this release do not show the same time in %s from %s on, so days "
                "may begin at a wrong hour: bring both up to date (docs/segments.md)",
                clock.zone.key,
                f"{found:%Y-%m-%d}",
            )
        compared = clock.zone.key

    return step


async def compute_days(connection: AsyncConnection) -> int | None:
    """Compute the figures of past days, if a new time zone or somebody wants them."""
    return 1 if await compute_past_days(connection) else None


def renew_answer_step() -> Step:
    """Build the step that recomputes one cached answer before a reader has to wait for it.

    It returns 0, so that the log does not mention each renewal.
    """
    quick: dict[str, datetime] = {}

    async def step(connection: AsyncConnection) -> int | None:
        return 0 if await renew(connection, ANSWERS, quick) else None

    return step


def index_letters_step(config: Config) -> Step:
    """Build the step that measures and indexes dead letters that wait for it."""

    async def step(connection: AsyncConnection) -> int | None:
        return await index_waiting(connection, config.max_event_bytes)

    return step


def drop_letters_step(config: Config) -> Step:
    """Build the step that drops dead letters beyond a bound, and says so."""

    async def step(connection: AsyncConnection) -> int | None:
        dropped = await drop_excess(connection, config.dead_letter_bounds)
        if dropped is None:
            return None
        numbers = ", ".join(
            f"{number} {fate.replace('_', ' ')}" for fate, number in dropped.items()
        )
        log.error("dead letters dropped, because there is no room for them: %s", numbers)
        return dropped.total()

    return step


def trim_orders_step(redis: Redis, config: Config, stream: str) -> Step:
    """Build the step that trims one stream of orders."""
    group = config.orders_group
    keep = Keep(config.orders_keep_seconds, config.orders_keep_entries)

    async def step(connection: AsyncConnection) -> int | None:
        result = await trimming.trim_orders(connection, redis, stream, group, keep)
        return _trimmed_entries(stream, result)

    return step


def erase_entries_step(redis: Redis, config: Config, stream: OrdersStream) -> Step:
    """Build the step that deletes entries of erased people from one stream of orders."""

    async def step(connection: AsyncConnection) -> int | None:
        return await stream_erasure.search_page(
            connection, redis, stream, config.orders_group, config.terms
        )

    return step


def trim_published_step(redis: Redis, stream: OutStream, entries: int) -> Step:
    """Build the step that trims an out-stream."""
    keep = Keep(None, entries)

    async def step(connection: AsyncConnection) -> int | None:
        result = await trimming.trim_published(connection, redis, stream, keep)
        return _trimmed_entries(stream.name, result)

    return step


def _trimmed_entries(stream: str, result: trimming.TrimResult | None) -> int | None:
    """Return how many entries were trimmed; warn if a group prevents that. None if none were."""
    if result is None:
        return None
    if result.held_by is not None:
        log.warning(
            "%s is longer than configured: its group %s has not acknowledged entry %s yet",
            stream,
            result.held_by,
            result.held_at,
        )
    return result.entries or None


def check_losses_step(redis: Redis, config: Config, *, wait: bool = False) -> Step:
    """Build the step that checks whether Redis lost entries; it logs each loss once, as an error.

    While another replica checks, the step does nothing; with ``wait`` it waits for its turn.
    """
    streams, group = config.orders_streams, config.orders_group

    async def step(connection: AsyncConnection) -> None:
        results = await losses.check_and_record(connection, redis, streams, group, wait=wait)
        for stream, result in results.items():
            if result.loss:
                _log_loss(stream, result.loss)
            if result.is_ahead:
                log.error(
                    "%s has a last id in the future, %s: somebody has moved it. New entries get "
                    "ids that do not tell the time, or none at all. See `crm foreign`",
                    stream,
                    write(result.checkpoint.last),
                )

    return step


def _log_loss(stream: str, loss: Loss) -> None:
    log.error(
        "%s lost entries that were never applied (%s): %s with ids after %s and up to %s; "
        "nothing was lost before %s. See `crm losses`",
        stream,
        loss.kind.replace("_", " "),
        "nobody knows how many, if any," if loss.entries is None else f"{loss.entries} or more",
        write(loss.after),
        write(loss.until),
        f"{loss.since:%Y-%m-%dT%H:%M:%SZ}",
    )
