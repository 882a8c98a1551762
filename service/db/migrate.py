"""Bring a database's schema to what this release needs, while others use it."""

import asyncio
import logging
from functools import cache

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from service.db.engine import sqlstate
from service.db.locks import AdvisoryLock

log = logging.getLogger(__name__)

_TURN_SECONDS = 0.2
_LOCK_SECONDS = 2
"""Who waits for a table's lock has everybody else wait behind it."""
_AGAIN_SECONDS = 1.0
_PASSING = {"55P03", "40P01"}  # the lock was not to be had in time, or only by a deadlock
_SCRIPTS = "migrations:"
"""Where Alembic finds the package of revisions. Only a name: it imports the schema from here."""


def _alembic() -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", _SCRIPTS)
    return config


@cache
def head() -> str:
    """Name the revision that this release needs."""
    revision = ScriptDirectory.from_config(_alembic()).get_current_head()
    if revision is None:
        msg = "the package `migrations` holds no revision"
        raise RuntimeError(msg)
    return revision


async def upgrade(database_url: str) -> str:
    """Run the missing revisions and return the one then current: a newer one stays.

    Safe to call from several processes at once: they take turns. It never holds others up for more
    than `_LOCK_SECONDS` while it waits for a table, and tries again until it gets it.
    """
    engine = create_async_engine(database_url)
    try:
        async with engine.connect() as connection:
            # Asked for rather than waited for: an index that is built concurrently waits for
            # whoever is waiting in a statement.
            while not await connection.scalar(_MINE):
                await connection.commit()
                await asyncio.sleep(_TURN_SECONDS)
            await connection.commit()
            while await _lacks(connection):
                await _step(connection)
            revision = await current(connection)
    finally:
        await engine.dispose()
    return revision or head()


_MINE = text(f"SELECT pg_try_advisory_lock({AdvisoryLock.MIGRATION:d})")


async def _lacks(connection: AsyncConnection) -> bool:
    behind = await lacking(connection)
    await connection.commit()
    return behind is not None


async def _step(connection: AsyncConnection) -> None:
    await connection.execute(text(f"SET lock_timeout = '{_LOCK_SECONDS}s'"))
    await connection.commit()
    try:
        await connection.run_sync(_upgrade)
        await connection.commit()
    except DBAPIError as error:
        if sqlstate(error) not in _PASSING:
            raise
        await connection.rollback()
        log.warning("a table is in use; trying again in %.0f s", _AGAIN_SECONDS)
        await asyncio.sleep(_AGAIN_SECONDS)


def _upgrade(connection: Connection) -> None:
    config = _alembic()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


async def current(connection: AsyncConnection) -> str | None:
    """Tell the database's revision; None when it has none."""
    return await connection.run_sync(
        lambda sync: MigrationContext.configure(sync).get_current_revision()
    )


async def lacking(connection: AsyncConnection) -> str | None:
    """Say what keeps this release from using the database; None: nothing.

    Revisions are numbered, and a greater one is a later release's. It only added to the schema, or
    took away what this release does not use: the next one migrates while this one still runs.
    """
    revision = await current(connection)
    if revision is not None and revision >= head():
        return None
    return f"at {revision}, needs {head()}; run `crm migrate`"
