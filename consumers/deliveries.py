"""Send events to endpoints by HTTP (webhooks): one process at a time, nothing missing.

The process that sends holds an advisory lock on the connection on which it reads and notes, as the
relay does. Each endpoint has a task of its own, so one that is slow, dead or refuses everything
delays no other one, and no batch.
"""

import asyncio
import importlib
import logging
import random
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from consumers.tasks import end
from service.db import outbox
from service.db.locks import AdvisoryLock
from service.db.operations import deliveries
from service.db.operations.deliveries import Due
from service.server_trouble import why_away

if TYPE_CHECKING:
    from consumers.endpoint_sending import EndpointSending, Session

log = logging.getLogger(__name__)

_SENDING = "consumers.endpoint_sending"
_POLL_SECONDS = 0.5
_TURN_SECONDS = 1.0
_STEP_SECONDS = outbox.LEASE_SECONDS - 5.0
"""The longest time of a statement. The server ends the session of whoever is silent for longer, and
then another process sends."""
_DRAIN_SECONDS = 3.0


class Deliveries:
    """Sends while this worker leads; otherwise waits for its turn."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Create the part. Nothing is sent until `run` is called."""
        self._engine = engine
        self._finishing = asyncio.Event()

    async def run(self) -> None:
        """Lead whenever nobody else does, until `finish`. Failures are logged; then it goes on."""
        while not self._finishing.is_set():
            try:
                async with asyncio.timeout(_STEP_SECONDS) as step, self._engine.connect() as pooled:
                    connection = await pooled.execution_options(isolation_level="AUTOCOMMIT")
                    if await outbox.lead(connection, AdvisoryLock.DELIVERIES):
                        step.reschedule(None)
                        await self._lead(connection)
            except (DBAPIError, PoolTimeoutError, OSError) as error:
                log.warning(
                    "sending to endpoints pauses, because of the database: %s", why_away(error)
                )
            await self._pause(_TURN_SECONDS * random.uniform(0.5, 1))

    def finish(self) -> None:
        """Begin to send nothing more. `run` returns when what was begun is noted."""
        self._finishing.set()

    async def _lead(self, connection: AsyncConnection) -> None:
        try:
            while not await deliveries.due(connection):
                if self._finishing.is_set():
                    return
                await self._pause(_POLL_SECONDS)
            # Many workers never send anything. The import takes a fifth of a second, and batches
            # must not wait for that.
            await asyncio.to_thread(importlib.import_module, _SENDING)
            from consumers.endpoint_sending import Session  # noqa: PLC0415

            await self._serve(Session(connection, _STEP_SECONDS))
        finally:
            # The lock goes with the connection, so the connection must not go back to the pool.
            await connection.invalidate()

    async def _serve(self, session: "Session") -> None:
        """Have a task for each endpoint that is not paused."""
        tasks: dict[EndpointSending, asyncio.Task[None]] = {}
        try:
            while not self._finishing.is_set():
                await _assign(session, tasks, await session.run(deliveries.due))
                await self._pause(_POLL_SECONDS)
            for each in tasks:
                each.finish()
            if tasks:
                await asyncio.wait(tasks.values(), timeout=_DRAIN_SECONDS)
        finally:
            await end(tasks.values())

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._finishing.wait()
        except TimeoutError:
            pass


async def _assign(
    session: "Session", tasks: "dict[EndpointSending, asyncio.Task[None]]", due: list[Due]
) -> None:
    """Let the tasks follow the newest decisions. Raises what a task has raised."""
    from consumers.endpoint_sending import EndpointSending  # noqa: PLC0415

    new = {each.id: each for each in due}
    for sending, task in list(tasks.items()):
        now = new.get(sending.due.id)
        if task.done():
            task.result()
        if now is not None and now.version == sending.due.version and not task.done():
            sending.renew(new.pop(now.id))
        else:
            del tasks[sending]
            await end([task])
    for each in new.values():
        sending = EndpointSending(session, each)
        tasks[sending] = asyncio.create_task(sending.run(), name=f"endpoint {each.id}")
