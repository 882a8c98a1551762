"""The chores: what any replica may do, and one at a time does."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.db.engine import DATABASE_AWAY, in_transaction
from service.streams.redis_client import REDIS_ERRORS

log = logging.getLogger(__name__)

Step = Callable[[AsyncConnection], Awaitable[int | None]]
"""One transaction of a chore: how much it did; None: nothing is left to do for now."""


async def work_off(engine: AsyncEngine, step: Step, pause: float, what: str) -> None:
    """Do a chore step by step, then again after ``pause`` seconds; failures are tried again.

    ``what`` is what the log calls that of which it did so many.
    """
    while True:
        done = 0
        try:
            while (more := await in_transaction(engine, step)) is not None:
                done += more
        except (*DATABASE_AWAY, *REDIS_ERRORS) as error:
            log.warning("%s put off: %s", what, type(error).__name__)
        if done:
            log.info("%s: %d", what, done)
        await asyncio.sleep(pause * random.uniform(0.5, 1))
