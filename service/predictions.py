"""The process that fits models and refreshes what is expected of customers.

A worker starts it when there is something to do (``python -m service.predictions``), so that numpy
is in no process that serves anybody. It ends when the circle is complete, or when its parent has:
then its standard input is closed.
"""

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service import logs
from service.config import Config
from service.core.outlook import FitCause
from service.db.engine import BY_INDEX, DATABASE_AWAY, create_engine
from service.db.locks import AdvisoryLock
from service.db.outlook.due import REFRESH_EVERY, read_situation
from service.db.outlook.fit import fit
from service.db.outlook.models import StoredModel
from service.db.outlook.refresh import Refreshed, refresh_chunk
from service.server_trouble import why_away

log = logging.getLogger(__name__)

_REST = 99
"""A pause is so many times as long as the work before it: one percent of one core."""
_LONGEST_PAUSE_SECONDS = 30.0
_FREE_SECONDS = REFRESH_EVERY.total_seconds() / (_REST + 1)
"""A circle that takes no longer needs no pauses: the next one begins late enough."""
_NICE = 10
"""Who serves somebody goes first."""
_TRY = text("SELECT pg_try_advisory_lock(:lock)")
_WAIT = text("SELECT pg_advisory_lock(:lock)")
_UNLOCK = text("SELECT pg_advisory_unlock(:lock)")

Pause = Callable[[float], Awaitable[None]]
"""Waits for so many seconds."""


@contextlib.asynccontextmanager
async def session_lock(
    connection: AsyncConnection, lock: AdvisoryLock, *, wait: bool = False
) -> AsyncIterator[bool]:
    """Hold a lock without a transaction; yield whether it was free. ``wait`` until it is.

    If the connection breaks, the lock is gone with it, and so is what was done under it.
    """
    async with connection.begin():
        found = await connection.execute(_WAIT if wait else _TRY, {"lock": lock})
        held = wait or bool(found.scalar_one())
    try:
        yield held
    finally:
        if held and not connection.invalidated:
            async with connection.begin():
                await connection.execute(_UNLOCK, {"lock": lock})


async def fit_now(connection: AsyncConnection, cause: FitCause) -> StoredModel:
    """Fit as soon as no other process does; return what was stored."""
    async with session_lock(connection, AdvisoryLock.FIT, wait=True):
        return await fit(connection, cause)


async def fit_if_due(connection: AsyncConnection) -> StoredModel | None:
    """Fit if that is due and no other process does; return what was stored."""
    async with session_lock(connection, AdvisoryLock.FIT) as held:
        if not held:
            return None
        async with connection.begin():
            situation = await read_situation(connection)
        if not situation.fit_due:
            return None
        cause = FitCause.HAND if situation.fit_wanted_at else FitCause.DAILY
        stored = await fit(connection, cause)
    log.info(
        "fitted a model of %d customers in %.1f s: %s",
        stored.customers,
        stored.seconds,
        f"lacking {', '.join(stored.lacking)}" if stored.lacking else stored.verdict,
    )
    return stored


async def circle(
    connection: AsyncConnection, pause: Pause, *, fits: bool = True
) -> AsyncIterator[Refreshed]:
    """Refresh all customers, a chunk at a time, and yield what each step did.

    After a step it pauses ``_REST`` times as long, once the circle has taken some seconds. With
    ``fits``, a fit that becomes due meanwhile comes first, and the circle begins anew.
    """
    model: StoredModel | None = None
    busy = 0.0
    while True:
        started = time.perf_counter()
        async with connection.begin():
            step, model = await refresh_chunk(connection, model)
        yield step
        if step.done:
            return
        took = time.perf_counter() - started
        busy += took
        if busy > _FREE_SECONDS:
            await pause(min(_REST * took, _LONGEST_PAUSE_SECONDS))
        if fits:
            await fit_if_due(connection)


async def predict_once(engine: AsyncEngine) -> None:
    """Fit if that is due, then complete a circle if one is due. Another replica may be at it."""
    async with (
        engine.connect() as connection,
        session_lock(connection, AdvisoryLock.OUTLOOKS) as held,
    ):
        if not held:
            return
        await fit_if_due(connection)
        async with connection.begin():
            due = (await read_situation(connection)).refresh_due
        if not due:
            return
        written = removed = 0
        async for step in circle(connection, asyncio.sleep):
            written += step.written
            removed += step.removed
        if written or removed:
            log.info("outlooks written: %d, removed: %d", written, removed)


async def _run(config: Config) -> int:
    """Predict once, or until the parent is gone; return the exit status."""
    engine = create_engine(
        config.database_url or "", application="crm predictions", planner=BY_INDEX, pool_size=1
    )
    work = asyncio.create_task(predict_once(engine))
    parent = asyncio.create_task(_parent_ends())
    try:
        await asyncio.wait((work, parent), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    except DATABASE_AWAY as error:
        log.warning("predictions put off: %s", why_away(error))
        return 1
    else:
        return 0
    finally:
        for task in (work, parent):
            task.cancel()
        await asyncio.gather(work, parent, return_exceptions=True)
        await engine.dispose()


async def _parent_ends() -> None:
    """Return when standard input is closed."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


def main() -> None:
    """Run the process that a worker has started."""
    config = Config.load()
    logs.set_up(config.log_level, config.log_format)
    os.nice(_NICE)
    status = asyncio.run(_run(config))
    sys.exit(status)


if __name__ == "__main__":
    main()
