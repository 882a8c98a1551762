"""Upgrade a database to the schema that this release needs, while other processes use it."""

import asyncio
import logging
from functools import cache

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import create_patient_engine, sqlstate
from service.db.grants import grant_writes
from service.db.locks import AdvisoryLock

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
_LOCK_SECONDS = 2
"""The longest wait for a table's lock. Meanwhile, other statements on the table wait behind us."""
_RETRY_SECONDS = 1.0
_TABLE_IN_USE = {"55P03", "40P01"}  # the lock was not granted in time, or a deadlock was detected
_SCRIPTS = "migrations:"
"""The package where Alembic finds the revisions. Importing it here would import the schema."""


def _alembic() -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", _SCRIPTS)
    return config


@cache
def head() -> str:
    """Return the revision that this release needs."""
    revision = ScriptDirectory.from_config(_alembic()).get_current_head()
    if revision is None:
        msg = "the package `migrations` holds no revision"
        raise RuntimeError(msg)
    return revision


async def upgrade(database_url: str) -> str:
    """Run the missing revisions, grant the roles their rights, and return the current revision.

    A newer schema is left as it is.
    Several processes may call it at once; they take turns. While it waits for a table, it holds
    others up for `_LOCK_SECONDS` at most, and tries again until it gets the table.
    """
    engine = create_patient_engine(database_url, application="crm migrate")
    try:
        async with engine.connect() as connection:
            # Poll for the lock. Building an index concurrently waits for every statement that is
            # running. So a statement that waits for this lock would block the process holding it.
            while not await connection.scalar(_TRY_LOCK):
                await connection.commit()
                await asyncio.sleep(_POLL_SECONDS)
            await connection.commit()
            while await _is_behind(connection):
                await _try_upgrade(connection)
            revision = await current(connection)
            if revision == head():
                await grant_writes(connection)
                await connection.commit()
    finally:
        await engine.dispose()
    return revision or head()


_TRY_LOCK = text(f"SELECT pg_try_advisory_lock({AdvisoryLock.MIGRATION:d})")


async def _is_behind(connection: AsyncConnection) -> bool:
    missing = await behind(connection)
    await connection.commit()
    return missing is not None


async def _try_upgrade(connection: AsyncConnection) -> None:
    await connection.execute(text(f"SET lock_timeout = '{_LOCK_SECONDS}s'"))
    await connection.commit()
    try:
        await connection.run_sync(_upgrade)
        await connection.commit()
    except DBAPIError as error:
        if sqlstate(error) not in _TABLE_IN_USE:
            raise
        await connection.rollback()
        log.warning("a table is in use; trying again in %.0f s", _RETRY_SECONDS)
        await asyncio.sleep(_RETRY_SECONDS)


def _upgrade(connection: Connection) -> None:
    config = _alembic()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


async def current(connection: AsyncConnection) -> str | None:
    """Return the database's revision; None if it has none."""
    return await connection.run_sync(
        lambda sync: MigrationContext.configure(sync).get_current_revision()
    )


async def behind(connection: AsyncConnection) -> str | None:
    """Return how far the schema is behind this release; None if this release can use it.

    Revisions are numbered. A greater one belongs to a later release, and this release can use it:
    the next release migrates while this one still runs, so its revisions only add to the schema or
    remove what this release does not use.
    """
    revision = await current(connection)
    if revision is not None and revision >= head():
        return None
    return f"at {revision}, needs {head()}; run `crm migrate`"
