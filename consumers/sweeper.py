"""Look every few seconds for customers whom time alone has moved."""

import asyncio
import logging
import random

from sqlalchemy.ext.asyncio import AsyncEngine

from service.db.engine import DATABASE_AWAY, in_transaction
from service.db.sweep import sweep

log = logging.getLogger(__name__)


async def run_sweeper(engine: AsyncEngine, pause: float) -> None:
    """Sweep every ``pause`` seconds; two replicas take turns, and a failure is tried again."""
    while True:
        try:
            moved = 0
            while not (swept := await in_transaction(engine, sweep)).finished:
                moved += swept.moved
            if moved:
                log.info("time moved %d customers", moved)
        except DATABASE_AWAY as error:
            log.warning("the sweep is put off: %s", type(error).__name__)
        await asyncio.sleep(pause * random.uniform(0.8, 1))
