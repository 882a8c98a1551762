"""Have a process of its own fit models and refresh outlooks when that is due.

numpy and scipy cost 70 MB. They are only in that process (`service.predictions`), and it ends when
nothing is left to do.
"""

import asyncio
import logging
import os
import sys
from importlib.util import find_spec

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.config import Config, plain_url
from service.db.engine import DATABASE_AWAY, in_transaction
from service.db.outlook.due import read_situation

log = logging.getLogger(__name__)

_LOOK_SECONDS = 5.0
_AFTER_FAILURE_SECONDS = 300.0


async def predict(engine: AsyncEngine, config: Config) -> None:
    """Look whether there is something to do, and have it done, until cancelled."""
    if not find_spec("scipy"):
        log.warning("no predictions: they need the extra recovery-essentials-crm[insight]")
        return
    while True:
        pause = _LOOK_SECONDS
        try:
            if await in_transaction(engine, _due):
                status = await _run(config)
                if status:
                    log.warning("the process that predicts ended with status %d", status)
                    pause = _AFTER_FAILURE_SECONDS
        except DATABASE_AWAY as error:
            log.warning("predictions put off: %s", type(error).__name__)
        await asyncio.sleep(pause)


async def _due(connection: AsyncConnection) -> bool:
    situation = await read_situation(connection)
    return situation.fit_due or situation.refresh_due


async def _run(config: Config) -> int:
    """Run the process until it ends, and return its status. It ends with this one."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "service.predictions",
        stdin=asyncio.subprocess.PIPE,
        env=os.environ | {"CRM_DATABASE_URL": plain_url(config.database_url or "")},
    )
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()  # what it had begun is rolled back
            await process.wait()
