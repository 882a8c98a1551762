"""The worker: consumer, reclaimer, relay, sweeper, reclassifier; any number of replicas."""

import asyncio
import contextlib
import gc
import logging
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from consumers.applier import Applier
from consumers.health import serve_health
from consumers.inbox import Inbox
from consumers.orders import OrdersConsumer
from consumers.reclaimer import Reclaimer
from consumers.reclassifier import run_reclassifier
from consumers.relay import Relay
from consumers.sweeper import run_sweeper
from consumers.tasks import end
from service import streams
from service.config import Config
from service.db.engine import BY_INDEX, create_engine

log = logging.getLogger(__name__)


class Worker:
    """The parts of one worker process and how they start and stop."""

    def __init__(self, config: Config, engine: AsyncEngine, redis: Redis) -> None:
        """Declare the parts; nothing runs before `run`."""
        # Unique, so that two replicas never share a consumer and its pending entries.
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.config = config
        self.engine = engine
        self.redis = redis
        self.inbox = Inbox()
        self.applier = Applier(engine, redis, config.orders_stream, config.orders_group, self.inbox)
        self.consumer = OrdersConsumer(config, redis, self.name, self.inbox)
        self.reclaimer = Reclaimer(config, redis, self.name, self.inbox, self.applier)
        self.relay = Relay(engine, redis, config.changes_stream)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set, then finish what was read. Raises what a part raised."""
        await streams.warn_of_unsafe_settings(self.redis)
        await self.consumer.start()
        log.info("worker %s reads %s", self.name, self.config.orders_stream)
        async with self._background():
            await stop.wait()
            await self._drain()

    @contextlib.asynccontextmanager
    async def _background(self) -> AsyncIterator[None]:
        """Run the parts around the body; the first error of one ends all."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(part, name=name)
                for name, part in (
                    ("applier", self.applier.run()),
                    ("watch", self.consumer.watch()),
                    ("reclaimer", self.reclaimer.run()),
                    ("relay", self.relay.run()),
                    ("sweeper", run_sweeper(self.engine, self.config.sweep_seconds)),
                    ("reclassifier", run_reclassifier(self.engine)),
                    ("health", serve_health(self)),
                )
            ]
            self._tasks = {task.get_name(): task for task in tasks}
            try:
                yield
            finally:
                await end(tasks)

    async def _drain(self) -> None:
        """Apply what was read, within the time allowed; what is left is reclaimed by others."""
        log.info("stopping: finishing what was read")
        await end([self._tasks[name] for name in ("watch", "reclaimer")])
        try:
            async with asyncio.timeout(self.config.drain_seconds):
                await self.consumer.stop()
                await self.inbox.join()
                await self.reclaimer.take_back()
                await self.inbox.join()
                await self.reclaimer.remove_consumer(self.name)
        except (TimeoutError, *streams.REDIS_ERRORS) as error:
            log.warning("not drained in time (%s); others will reclaim", type(error).__name__)


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
    engine = create_engine(config.database_url or "", application="crm worker", planner=BY_INDEX)
    redis = streams.connect(config.redis_url or "")
    try:
        await Worker(config, engine, redis).run(stop)
    finally:
        await redis.aclose()
        await engine.dispose()
