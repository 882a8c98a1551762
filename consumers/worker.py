"""The worker: consumer, reclaimer, relay and chores; any number of replicas."""

import asyncio
import contextlib
import gc
import logging
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from functools import partial
from typing import Any

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from consumers.applier import Applier
from consumers.chores import work_off
from consumers.health import serve_health
from consumers.inbox import Inbox
from consumers.keeper import keep_answer
from consumers.orders import OrdersConsumer
from consumers.reclaimer import Reclaimer
from consumers.reclassifier import judge_chunk
from consumers.relay import Relay
from consumers.sweeper import sweep_once
from consumers.tasks import end
from consumers.trimmer import trimming_changes, trimming_orders
from consumers.watcher import watching
from service.config import Config
from service.db import migrate
from service.db.engine import (
    BY_INDEX,
    DATABASE_AWAY,
    IDLE_SECONDS,
    create_engine,
    in_transaction,
)
from service.streams import redis_client

log = logging.getLogger(__name__)

_TRIM_SECONDS = 5.0
_SCHEMA_SECONDS = 1.0


class Worker:
    """The parts of one worker process and how they start and stop."""

    def __init__(self, config: Config, engine: AsyncEngine, redis: Redis) -> None:
        """Declare the parts; nothing runs before `run`."""
        # Unique, so that two replicas never share a consumer and its pending entries.
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.config = config
        self.engine = engine
        self.redis = redis
        self.inbox = Inbox(len(config.orders_streams))
        self.applier = Applier(config, engine, redis, self.inbox)
        self.consumer = OrdersConsumer(config, redis, self.name, self.inbox)
        self.reclaimer = Reclaimer(config, redis, self.name, self.inbox, self.applier)
        self.relay = Relay(engine, redis, config.changes_stream)
        self._watch = partial(watching, redis, config, self.consumer.reading)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set, then finish what was read. Raises what a part raised."""
        async with self._background(("health", serve_health(self))):
            if await self._migrated(stop):
                await self._work(stop)

    async def _migrated(self, stop: asyncio.Event) -> bool:
        """Wait for the schema that this release needs; False: ``stop`` came first.

        What a worker reads it has to apply: until then the entries are the old release's.
        """
        told = None
        while (lacking := await self._lacking()) is not None:
            if lacking != told:
                log.warning("waiting for the database: %s", lacking)
                told = lacking
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _SCHEMA_SECONDS)
                return False
        return True

    async def _lacking(self) -> str | None:
        try:
            async with self.engine.connect() as connection:
                return await migrate.lacking(connection)
        except DATABASE_AWAY as error:
            return type(error).__name__

    async def _work(self, stop: asyncio.Event) -> None:
        await redis_client.warn_of_unsafe_settings(self.redis)
        await self._look()  # before reading on makes it harder to tell which entries are missing
        await self.consumer.start()
        log.info("worker %s reads %s", self.name, _listed(self.config))
        parts = (
            ("applier", self.applier.run()),
            ("watch", self.consumer.watch()),
            ("reclaimer", self.reclaimer.run()),
            ("relay", self.relay.run()),
            *self._chores(),
        )
        async with self._background(*parts) as tasks:
            await stop.wait()
            await self._drain(tasks)

    @contextlib.asynccontextmanager
    async def _background(
        self, *parts: tuple[str, Coroutine[Any, Any, None]]
    ) -> AsyncIterator[dict[str, asyncio.Task[None]]]:
        """Run the parts around the body; the first error of one ends all."""
        async with asyncio.TaskGroup() as group:
            tasks = {name: group.create_task(part, name=name) for name, part in parts}
            try:
                yield tasks
            finally:
                await end(tasks.values())

    def _chores(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        config, redis = self.config, self.redis
        for what, step, pause in (
            ("customers moved by time", sweep_once, config.sweep_seconds),
            ("chunks judged by new settings", judge_chunk, 1.0),
            ("answers kept", keep_answer, config.sweep_seconds),
            ("looks for losses", self._watch(), 1.0),
            *(
                (f"{name} trimmed", trimming_orders(redis, config, name), _TRIM_SECONDS)
                for name, _ in config.orders_streams
            ),
            ("changes trimmed", trimming_changes(redis, config), _TRIM_SECONDS),
        ):
            yield what, work_off(self.engine, step, pause, what)

    async def _look(self) -> None:
        try:
            await in_transaction(self.engine, self._watch(wait=True))
        except (*DATABASE_AWAY, *redis_client.REDIS_ERRORS) as error:
            log.warning("no look for losses: %s", type(error).__name__)

    async def _drain(self, tasks: Mapping[str, asyncio.Task[None]]) -> None:
        """Apply what was read, within the time allowed; what is left is reclaimed by others."""
        log.info("stopping: finishing what was read")
        await end([tasks[name] for name in ("watch", "reclaimer")])
        try:
            async with asyncio.timeout(self.config.drain_seconds):
                await self.consumer.stop()
                await self.inbox.join()
                await self.reclaimer.take_back()
                await self.inbox.join()
                await self.reclaimer.remove_consumer(self.name)
                await self._look()
        except (TimeoutError, *redis_client.REDIS_ERRORS) as error:
            log.warning("not drained in time (%s); others will reclaim", type(error).__name__)


def _listed(config: Config) -> str:
    plain, *partitions = (stream.name for stream in config.orders_streams)
    return f"{plain} and {partitions[0]} to {partitions[-1]}" if partitions else plain


async def run_worker(config: Config) -> None:
    """Run a worker until SIGTERM or SIGINT. Raises when a part of it has died."""
    # A batch is thousands of small objects that live briefly and hold no cycles: looking through
    # them for garbage every 700 allocations cost a tenth of a worker's time.
    gc.freeze()
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
    finally:
        await redis.aclose()
        await engine.dispose()
