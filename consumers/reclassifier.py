"""Apply new settings to everybody: one replica at a time, a chunk per transaction."""

import asyncio
import logging
import random

from sqlalchemy.ext.asyncio import AsyncEngine

from service.db.engine import DATABASE_AWAY, in_transaction
from service.db.reclassification import advance

log = logging.getLogger(__name__)

_POLL_SECONDS = 1.0


async def run_reclassifier(engine: AsyncEngine) -> None:
    """Work off the job of the newest settings whenever there is one; failures are tried again."""
    while True:
        try:
            chunks = 0
            while await in_transaction(engine, advance):
                chunks += 1
            if chunks:
                log.info("new settings: %d chunks of customers judged", chunks)
        except DATABASE_AWAY as error:
            log.warning("applying new settings is put off: %s", type(error).__name__)
        await asyncio.sleep(_POLL_SECONDS * random.uniform(0.5, 1))
