"""Connect commands to Postgres, and explain the errors of both servers."""

import asyncio
import getpass
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, TypeVarTuple

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from service.cli.output import fail
from service.config import Config
from service.db.engine import DATABASE_AWAY, TRANSACTION_SECONDS, create_engine, sqlstate
from service.local.state import with_local_stack
from service.server_trouble import why_away

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_BEFORE_ANY_STATEMENT = {"28", "3D", "53", "57"}
"""Classes of SQLSTATE for a refused connection: authorization, database, resources, shutdown."""
_LACKS_RIGHT = "42501"
_OLD_SCHEMA = {"42P01", "42703"}  # no such table, no such column


@asynccontextmanager
async def connected(
    config: Config, application: str, transaction_seconds: int = TRANSACTION_SECONDS
) -> AsyncIterator[AsyncEngine]:
    """Yield an engine for the configured database, closed afterwards."""
    engine = create_engine(
        config.database_url or "", application=application, transaction_seconds=transaction_seconds
    )
    try:
        yield engine
    finally:
        await engine.dispose()


def in_database(work: Callable[[AsyncConnection, *Ts], Awaitable[T]], *args: *Ts) -> T:
    """Run ``work(connection, *args)`` in one transaction; end the command if the database fails."""

    async def run() -> T:
        config = with_local_stack(Config.load())
        async with connected(config, "crm") as engine, engine.begin() as connection:
            return await work(connection, *args)

    try:
        return asyncio.run(run())
    except DATABASE_AWAY as error:
        fail(problem(error))


def problem(error: BaseException) -> str:
    """Return a sentence about an error of Postgres or Redis, and what to do about it."""
    state = sqlstate(error)
    if state in _OLD_SCHEMA:
        return "the database's schema is older than this release: run `crm migrate`."
    if state == _LACKS_RIGHT:
        return "the database user of this command lacks a right: see deploy/postgres/roles.sql."
    if state and state[:2] not in _BEFORE_ANY_STATEMENT:
        return (
            f"PostgreSQL answered with an error ({type(error).__name__} {state}), and nothing was "
            "changed. Its log says more."
        )
    return (
        f"a server cannot be used: {why_away(error)}. `crm status` says which one. "
        "Check CRM_DATABASE_URL and CRM_REDIS_URL."
    )


def actor() -> str:
    """Return the name under which the audit records what this command does."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user may have no name
        return f"cli:{os.getuid()}"
