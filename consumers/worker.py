"""Start the parts of a worker, keep them running, and stop them in order.

Any number of workers run side by side.
"""

import asyncio
import contextlib
import gc
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from consumers.applier import Applier, Inbox
from consumers.chores import all_chores, check_losses_step, repeat
from consumers.deliveries import Deliveries
from consumers.health import Probed, serve_health
from consumers.orders import OrdersConsumer
from consumers.predictions import predict
from consumers.reclaimer import Reclaimer
from consumers.relay import Relay
from consumers.tasks import end
from service.config import Config
from service.db import migrate
from service.db.engine import (
    BY_INDEX,
    DATABASE_AWAY,
    IDLE_SECONDS,
    create_engine,
    in_transaction,
)
from service.db.installation import OtherCurrencyError, claim_currency
from service.server_trouble import why_away
from service.streams import redis_client

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
"""The pause between two attempts to use a server that is away at the start."""
_ATTEMPT_SECONDS = 5.0
"""How long a worker that has to stop lets the attempt finish that it is making."""
_REMIND_SECONDS = 60.0
"""How often the log says again what the worker is waiting for."""


class Worker:
    """The parts of one worker process, and the order in which they start and stop."""

    def __init__(self, config: Config, engine: AsyncEngine, redis: Redis) -> None:
        """Create the parts. Nothing runs until `run` is called."""
        # Unique, so that two replicas never share a consumer and its pending entries.
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.config = config
        self.engine = engine
        self.redis = redis
        self.inbox = Inbox(config)
        self.applier = Applier(config, engine, redis, self.inbox)
        self.consumer = OrdersConsumer(config, redis, self.name, self.inbox)
        self.reclaimer = Reclaimer(config, redis, self.name, self.inbox, self.applier)
        self.relay = Relay(engine, redis, config)
        self.deliveries = Deliveries(engine)
        self._check_losses = partial(check_losses_step, redis, config)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set, then finish what was read. Raises the error of a part."""
        async with self._background(("health", serve_health(self._probed()))):
            if await _wait("the database", self._database_lacks, stop) and await _wait(
                "Redis", self._cannot_read, stop
            ):
                await self._work(stop)

    def _probed(self) -> Probed:
        return Probed(
            self.config,
            self.engine,
            self.redis,
            self.name,
            waits_for_database=lambda: self.applier.waiting_since is not None,
        )

    async def _database_lacks(self) -> str | None:
        """Return what the database lacks for this release, or why it cannot be asked.

        A worker must apply what it reads. Until the schema is there, entries are left to workers
        of the old release. Raises OtherCurrencyError.
        """
        try:
            async with self.engine.begin() as connection:
                lacking = await migrate.behind(connection)
                if lacking is None:
                    await claim_currency(connection, self.config.store_currency)
        except DATABASE_AWAY as error:
            return f"{why_away(error)} (CRM_DATABASE_URL)"
        return lacking

    async def _cannot_read(self) -> str | None:
        """Start reading. Return why that is not possible yet; None if it has started."""
        try:
            await redis_client.warn_of_unsafe_settings(self.redis)
            # Check before reading: entries read later make it harder to tell what was lost.
            await self._check_losses_now()
            await self.consumer.start()
        except redis_client.REDIS_ERRORS as error:
            return f"{why_away(error)} (CRM_REDIS_URL)"
        log.info("worker %s reads %s", self.name, _stream_names(self.config))
        return None

    async def _work(self, stop: asyncio.Event) -> None:
        chores = all_chores(self.config, self.redis, self._check_losses())
        parts = (
            ("applier", self.applier.run()),
            ("watch", self.consumer.watch()),
            ("reclaimer", self.reclaimer.run()),
            ("relay", self.relay.run()),
            ("predictions", predict(self.engine, self.config)),
            ("deliveries", self.deliveries.run()),
            *((chore.label, repeat(self.engine, chore)) for chore in chores),
        )
        async with self._background(*parts) as tasks:
            await stop.wait()
            await self._drain(tasks)

    @contextlib.asynccontextmanager
    async def _background(
        self, *parts: tuple[str, Coroutine[Any, Any, None]]
    ) -> AsyncIterator[dict[str, asyncio.Task[None]]]:
        """Run the parts while the block runs. The first error of a part ends everything."""
        async with asyncio.TaskGroup() as group:
            tasks = {name: group.create_task(part, name=name) for name, part in parts}
            try:
                yield tasks
            finally:
                await end(tasks.values())

    async def _check_losses_now(self) -> None:
        try:
            await in_transaction(self.engine, self._check_losses(wait=True))
        except (*DATABASE_AWAY, *redis_client.REDIS_ERRORS) as error:
            log.warning("could not check for losses: %s", type(error).__name__)

    async def _drain(self, tasks: Mapping[str, asyncio.Task[None]]) -> None:
        """Apply what was read, within the time allowed. Other workers reclaim what is left."""
        log.info("stopping: finishing what was read")
        self.deliveries.finish()
        await end([tasks[name] for name in ("watch", "reclaimer", "predictions")])
        try:
            async with asyncio.timeout(self.config.drain_seconds):
                await self.consumer.stop()
                await self.inbox.join()
                await self.reclaimer.reclaim_own()
                await self.inbox.join()
                await self.reclaimer.remove_consumer(self.name)
                await self._check_losses_now()
                await asyncio.wait([tasks["deliveries"]])
        except (TimeoutError, *redis_client.REDIS_ERRORS) as error:
            log.warning(
                "not drained in time (%s); other workers will reclaim the rest",
                type(error).__name__,
            )


async def _wait(
    server: str, lacks: Callable[[], Coroutine[Any, Any, str | None]], stop: asyncio.Event
) -> bool:
    """Ask until ``lacks`` returns None; return False if ``stop`` came first, even meanwhile.

    The log names what is lacking, when that changes and once a minute.
    """
    logged, logged_at = None, 0.0
    stopped = asyncio.create_task(stop.wait())
    tasks: list[asyncio.Task[Any]] = [stopped]
    try:
        while True:
            asking = asyncio.create_task(lacks())
            tasks[1:] = [asking]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                await asyncio.wait([asking], timeout=_ATTEMPT_SECONDS)
            if asking.done() and asking.result() is None:
                return True  # also if it has to stop now: it may have read entries
            if stopped.done():
                return False
            lacking = asking.result()
            if lacking != logged or time.monotonic() > logged_at + _REMIND_SECONDS:
                log.warning("waiting for %s: %s", server, lacking)
                logged, logged_at = lacking, time.monotonic()
            await asyncio.wait([stopped], timeout=_RETRY_SECONDS)
    finally:
        await end(tasks)


def _stream_names(config: Config) -> str:
    plain, *partitions = (stream.name for stream in config.orders_streams)
    return f"{plain} and {partitions[0]} to {partitions[-1]}" if partitions else plain


async def run_worker(config: Config) -> None:
    """Run a worker until SIGTERM or SIGINT. Raises if a part of it has died.

    Raises OtherCurrencyError if the amounts in the database are in another currency.
    """
    # A batch is thousands of small objects that live briefly and hold no cycles. Searching them
    # for garbage every 700 allocations cost a tenth of a worker's time.
    gc.set_threshold(100_000, 50, 50)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    engine = create_engine(
        config.database_url or "",
        application="crm worker",
        planner=BY_INDEX,
        idle_seconds=IDLE_SECONDS,
    )
    redis = redis_client.configured(config)
    try:
        await Worker(config, engine, redis).run(stop)
    except* OtherCurrencyError as refused:
        raise refused.exceptions[0] from None
    finally:
        await redis.aclose()
        await engine.dispose()
