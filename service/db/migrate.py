"""Bring a database's schema to what this release needs."""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

import migrations

_LOCK = 0x43524D01  # "CRM" 1: one migration at a time, whoever starts it


def _alembic() -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
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
    """Run the missing revisions and return the one then current.

    Safe to call from several processes at once: they take turns.
    """
    engine = create_async_engine(database_url)
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
            await connection.commit()
            await connection.run_sync(_upgrade)
            await connection.commit()
    finally:
        await engine.dispose()
    return head()


def _upgrade(connection: Connection) -> None:
    config = _alembic()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


async def current(connection: AsyncConnection) -> str | None:
    """Tell the database's revision; None when it has none."""
    return await connection.run_sync(
        lambda sync: MigrationContext.configure(sync).get_current_revision()
    )
